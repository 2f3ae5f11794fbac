// strata merge: existing PEFT adapters of any ranks into one, by the stacking of the rounds,
// without a federation.
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "cli/adapter_merge.h"
#include "cli/loaded_model.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "cli/verbs/verbs.h"
#include "formats/atomic_folder.h"

namespace strata::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::vector<std::string> adapters;
  std::string weights;
  std::string output;
  std::optional<double> recompress;
  bool rank_pattern = false;
  bool shrink = false;
  bool force = false;
};

Error bad_weights(const std::string& what) {
  return {.code = ErrorCode::kUsage,
          .what = what,
          .where = "--weights",
          .rule = "one finite number other than 0 for each adapter, separated by commas",
          .remedy = "for example --weights 0.2,0.8"};
}

Result<std::vector<double>> parse_weights(const std::string& text, std::size_t count) {
  std::vector<double> out;
  for (const auto& word : CLI::detail::split(text, ',')) {
    double value = 0.0;
    if (!CLI::detail::lexical_cast(word, value) || !std::isfinite(value) || value == 0.0) {
      return fail(bad_weights("\"" + printable(word, 40) + "\" is no weight"));
    }
    out.push_back(value);
  }
  if (out.size() != count)
    return fail(bad_weights(fmt::format("{} weights for {} adapters", out.size(), count)));
  return out;
}

Result<std::vector<WeightedAdapter>> read_all(const sys::Disk& disk, const Options& options,
                                              const std::vector<double>& weights,
                                              std::vector<Shrinkage>& shrinkages) {
  std::vector<WeightedAdapter> out;
  for (std::size_t i = 0; i < options.adapters.size(); ++i) {
    auto adapter = exporting::read_peft(disk, options.adapters[i]);
    if (!adapter) return fail(std::move(adapter).error());
    if (options.shrink) {
      auto shrunk = shrink_adapter(disk, options.adapters[i], *adapter);
      if (!shrunk) return fail(std::move(shrunk).error());
      shrinkages.push_back(*shrunk);
    }
    out.push_back(
        {.folder = options.adapters[i], .weight = weights[i], .adapter = *std::move(adapter)});
  }
  return out;
}

struct Outcome {
  exporting::PeftSummary summary;
  std::string base_model;
  std::vector<std::string> warnings;
  std::optional<double> lost;  // relative, when recompressed
};

Result<Outcome> merge(sys::Disk& disk, const Options& options,
                      std::span<const WeightedAdapter> inputs) {
  auto merged = merge_adapters(inputs);
  if (!merged) return fail(std::move(merged).error());
  Outcome out;
  if (options.recompress) out.lost = recompress(*merged, *options.recompress);
  auto peft = merged_options(inputs, out.warnings);
  peft.uniform_rank = !options.rank_pattern;
  out.base_model = peft.base_model;
  auto written = formats::write_folder(disk, options.output, options.force,
                                       [&](const std::filesystem::path& folder) -> Result<void> {
                                         auto summary = exporting::write_peft_files(disk, folder,
                                                                                    *merged, peft);
                                         if (!summary) return fail(std::move(summary).error());
                                         out.summary = *summary;
                                         return {};
                                       });
  if (!written) return fail(std::move(written).error());
  return out;
}

VerbOutput described(const Options& options, std::span<const WeightedAdapter> inputs,
                     const Outcome& outcome) {
  VerbOutput out;
  std::vector<std::vector<std::string>> rows{{"adapter", "rank", "alpha", "layers", "weight"}};
  Json list = Json::array();
  for (const auto& [folder, weight, adapter] : inputs) {
    list.push_back({{"path", folder.string()},
                    {"rank", adapter.max_rank()},
                    {"alpha", adapter.config.alpha},
                    {"layers", adapter.modules.size()},
                    {"weight", weight}});
    rows.push_back({folder.string(), std::to_string(adapter.max_rank()),
                    fmt::format("{:g}", adapter.config.alpha),
                    std::to_string(adapter.modules.size()), fmt::format("{:g}", weight)});
  }
  const auto& summary = outcome.summary;
  out.data = {{"inputs", list},
              {"output", options.output},
              {"base_model", outcome.base_model},
              {"rank", summary.rank},
              {"layers", summary.modules},
              {"bytes", summary.bytes},
              {"warnings", outcome.warnings}};
  out.text = table(rows);
  out.text += fmt::format("stacked into {}: rank {}, {} layers, {}\n", options.output, summary.rank,
                          summary.modules, bytes_text(static_cast<double>(summary.bytes)));
  if (outcome.lost) {
    out.data["recompression_relative_error"] = *outcome.lost;
    out.text +=
        fmt::format("recompression lost at most {:.1e} of a layer's change\n", *outcome.lost);
  }
  return out;
}

Result<VerbOutput> run(Context& context, const Options& options) {
  auto weights = parse_weights(options.weights, options.adapters.size());
  if (!weights) return fail(std::move(weights).error());
  if (auto free = formats::check_free(context.disk, options.output, options.force); !free)
    return fail(std::move(free).error());
  std::vector<Shrinkage> shrinkages;
  auto inputs = read_all(context.disk, options, *weights, shrinkages);
  if (!inputs) return fail(std::move(inputs).error());
  auto outcome = merge(context.disk, options, *inputs);
  if (!outcome) return fail(std::move(outcome).error());
  for (const auto& warning : outcome->warnings)
    context.progress.on({.name = "message", .fields = {{"text", "warning: " + warning}}});
  auto out = described(options, *inputs, *outcome);
  for (const auto& shrinkage : shrinkages) {
    out.data["shrinkage"].push_back(shrinkage_json(shrinkage));
    out.text += "shrinkage: " + shrinkage_text(shrinkage);
  }
  return out;
}

}  // namespace

Verb merge_verb() {
  return {.name = "merge",
          .help =
              "Stack PEFT adapters of any ranks into one: sum of weight x scale x B A, weights as "
              "given",
          .example = "strata merge adapters/a adapters/b --weights 0.2,0.8 -o adapters/both",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            command.add_option("adapters", options->adapters, "PEFT adapter folders")->required();
            command
                .add_option("--weights", options->weights,
                            "one number for each adapter, separated by commas; not normalised")
                ->required();
            command.add_option("-o,--output-dir", options->output, "folder to write")->required();
            command
                .add_option("--recompress", options->recompress,
                            "lower each layer's rank as far as this relative error allows "
                            "(default: keep the stack)")
                ->check(CLI::Range(0.0, 1.0));
            command.add_flag("--shrink", options->shrink, kShrinkHelp);
            command.add_flag(
                "--rank-pattern", options->rank_pattern,
                "let ranks differ by layer (rank_pattern) instead of padding them to one");
            command.add_flag("--force", options->force, "replace the output folder");
            return [options](Context& context) { return run(context, *options); };
          }};
}

}  // namespace strata::cli
