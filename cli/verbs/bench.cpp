// strata bench train | gemm: how fast this machine trains a model, and what its matrix products can
// do.
#include <fmt/format.h>

#include <sstream>

#include "cli/assemble.h"
#include "cli/bench_train.h"
#include "cli/data_preview.h"
#include "cli/memory_plan.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "evaluation/evaluator.h"
#include "export/peft.h"
#include "formats/atomic_folder.h"
#include "tensor/gemm.h"
#include "tensor/team.h"
#include "text/record_reader.h"

namespace strata::cli {
namespace {

struct Options {
  std::string model;
  std::string dtype = "f32";
  std::string targets = "all-linear";
  std::string trace;
  std::string data;
  std::string initial;
  std::string save_initial;
  std::string memory_limit;
  DataSection data_section;
  std::vector<std::string> fields;
  bool noisy = false;
  double noise_multiplier = 1.0;
  BenchTrainOptions bench;
};

// The records of --data, as training would see them.
Result<std::vector<text::Example>> examples_of(Options& options, const model::Model& model,
                                               const sys::Disk& disk) {
  auto fields = field_map(options.fields);
  if (!fields) return fail(std::move(fields).error());
  auto text = load_text(disk, options.model, options.data_section, model.config());
  if (!text) return fail(std::move(text).error());
  auto records = read_data(disk, *text, options.data, *fields);
  if (!records) return fail(std::move(records).error());
  auto examples = text->examples(*records, "", options.data);
  if (!examples) return fail(std::move(examples).error());
  if (auto ok = evaluation::check_examples(model, examples->examples); !ok)
    return fail(std::move(ok).error());
  if (examples->examples.empty()) {
    return fail({.code = ErrorCode::kData,
                 .what = "has no record to train on",
                 .where = options.data,
                 .remedy = "check it with `strata data preview`"});
  }
  return std::move(examples->examples);
}

Result<void> check_bench_memory(const model::Model& model, const BenchTrainOptions& bench,
                                std::size_t limit) {
  auto set = adapter::AdapterSet::make(bench.adapter, client::linear_shapes(model), sys::Stream(0));
  if (!set) return fail(std::move(set).error());
  const std::size_t pass = bench.pass_tokens > 0
                               ? bench.pass_tokens
                               : static_cast<std::size_t>(client::TrainingConfig{}.pass_tokens);
  MemoryPlan plan{.model = model,
                  .trainable = set->trainable_count(),
                  .threads = bench.threads,
                  .longest = bench.examples.empty() ? bench.length : 0,
                  .pass_tokens = pass,
                  .recompute = bench.recompute,
                  .adapters = &*set};
  for (const auto& example : bench.examples)
    plan.longest = std::max(plan.longest, example.tokens.size());
  plan.step_tokens = bench.records * plan.longest;
  return check_memory(plan, limit);
}

// One row a kind of work; what no span covers (waiting for the other threads, mostly) comes last.
VerbOutput& add_profile(VerbOutput& out, const BenchTrainReport& report) {
  std::vector<std::vector<std::string>> rows{{"work", "share", "seconds", "calls", "GFLOP/s"}};
  double rest = report.profiled_seconds;
  for (const auto& row : report.profile) {
    rest -= row.seconds;
    rows.push_back({row.name,
                    fmt::format("{:.1f} %", 100.0 * row.seconds / report.profiled_seconds),
                    fmt::format("{:.3f}", row.seconds), std::to_string(row.calls),
                    row.flops > 0.0 ? fmt::format("{:.1f}", row.flops / row.seconds / 1e9) : "-"});
    out.data["profile"].push_back(
        {{"name", row.name}, {"seconds", row.seconds}, {"calls", row.calls}, {"flops", row.flops}});
  }
  rows.push_back({"between", fmt::format("{:.1f} %", 100.0 * rest / report.profiled_seconds),
                  fmt::format("{:.3f}", rest), "-", "-"});
  out.data["profile"].push_back({{"name", "between"}, {"seconds", rest}});
  out.text += "\n" + table(rows);
  return out;
}

Result<VerbOutput> train(Options& options, Context& context) {
  const double begin = context.clock.seconds();
  auto limit = memory_limit_of(options.memory_limit);
  if (!limit) return fail(std::move(limit).error());
  auto model = model::Model::load(context.disk, options.model, compute_type(options.dtype));
  if (!model) return fail(std::move(model).error());
  if (options.bench.length > model->config().max_positions) {
    return fail(
        {.code = ErrorCode::kConfig,
         .what = "--length " + std::to_string(options.bench.length),
         .rule = "the model has " + std::to_string(model->config().max_positions) + " positions"});
  }
  options.bench.adapter.targets.clear();
  std::istringstream names(options.targets);
  for (std::string name; std::getline(names, name, ',');)
    options.bench.adapter.targets.push_back(name);
  options.bench.adapter.alpha = 2.0 * static_cast<double>(options.bench.adapter.rank);
  options.bench.threads = context.threads;
  if (options.noisy) {
    options.bench.noise_multiplier = options.noise_multiplier;
    if (options.bench.record_max_norm <= 0.0) options.bench.record_max_norm = 1.0;
  }
  if (!options.data.empty()) {
    auto examples = examples_of(options, *model, context.disk);
    if (!examples) return fail(std::move(examples).error());
    options.bench.examples = std::move(*examples);
  }
  if (!options.initial.empty()) {
    auto peft = exporting::read_peft(context.disk, options.initial);
    if (!peft) return fail(std::move(peft).error());
    options.bench.initial = exporting::factors(*peft);
  }
  if (*limit > 0) {
    if (auto fits = check_bench_memory(*model, options.bench, *limit); !fits)
      return fail(std::move(fits).error());
  }
  const double loaded = context.clock.seconds() - begin;
  auto report = bench_train(*model, options.bench, context.clock);
  if (!report) return fail(std::move(report).error());
  if (!options.save_initial.empty()) {
    const auto fill = [&](const std::filesystem::path& folder) -> Result<void> {
      auto written = exporting::write_peft_files(context.disk, folder, report->initial,
                                                 {.base_model = options.model});
      if (!written) return fail(std::move(written).error());
      return {};
    };
    if (auto written = formats::write_folder(context.disk, options.save_initial, true, fill);
        !written)
      return fail(std::move(written).error());
  }
  VerbOutput out;
  out.data = {{"tokens_per_second", report->tokens_per_second},
              {"step_seconds", report->step_seconds},
              {"gemm_peak_gflops", report->gemm_peak_gflops},
              {"flops_per_step", report->flops_per_step},
              {"flop_utilization", report->flop_utilization},
              {"peak_rss_bytes", report->peak_rss_bytes},
              {"trainable", report->trainable},
              {"losses", report->losses},
              {"start_seconds", loaded + report->start_seconds},
              {"threads", context.threads},
              {"dtype", options.dtype},
              {"instruction_set", tensor::instruction_set()}};
  out.text =
      table({{"tokens/s", "step", "matrix-product peak", "of which used", "memory"},
             {fmt::format("{:.0f}", report->tokens_per_second), duration_text(report->step_seconds),
              fmt::format("{:.0f} GFLOP/s", report->gemm_peak_gflops),
              fmt::format("{:.0f} %", 100.0 * report->flop_utilization),
              bytes_text(static_cast<double>(report->peak_rss_bytes))}});
  if (options.bench.profile) add_profile(out, *report);
  if (!options.trace.empty()) {
    if (auto written = context.disk.write_atomic(options.trace, report->trace); !written)
      return fail(std::move(written).error());
  }
  return out;
}

}  // namespace

Verb bench_train_verb() {
  return {.name = "bench train",
          .help = "training speed of a model on a fixed shape",
          .example =
              "strata bench train --model DIR --dtype bf16 --records 4 --length 256 --rank 16 "
              "--targets all-linear",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            options->bench.adapter.rank = 16;
            command.add_option("--model", options->model, "Hugging Face folder of the model")
                ->required();
            command.add_option("--dtype", options->dtype, "type of the matrix products")
                ->check(CLI::IsMember({"f32", "bf16"}));
            command.add_option("--records", options->bench.records, "records per step")
                ->check(CLI::PositiveNumber);
            command.add_option("--length", options->bench.length, "tokens per record")
                ->check(CLI::Range(2, 1 << 20));
            command.add_option("--rank", options->bench.adapter.rank, "LoRA rank")
                ->check(CLI::PositiveNumber);
            command.add_option("--targets", options->targets,
                               "adapted layers, separated by commas");
            command.add_option("--data", options->data,
                               "records to train on, in order, instead of drawn token ids");
            command.add_option("--field", options->fields, "NAME=KEY: names of the records' keys");
            command
                .add_option("--max-length", options->data_section.max_length,
                            "tokens of a record; longer ones lose their end")
                ->check(CLI::Range(2, 1 << 24));
            command.add_option("--steps", options->bench.steps, "timed steps")
                ->check(CLI::PositiveNumber);
            command.add_option("--warmup", options->bench.warmup, "steps before them")
                ->check(CLI::NonNegativeNumber);
            command.add_option("--learning-rate", options->bench.learning_rate, "of AdamW")
                ->check(CLI::PositiveNumber);
            command
                .add_option("--record-clip", options->bench.record_max_norm,
                            "clip each record's own gradient to this norm")
                ->check(CLI::NonNegativeNumber);
            command.add_flag("--private", options->noisy,
                             "noise in every step, on gradients clipped to --record-clip or 1");
            command
                .add_option("--noise-multiplier", options->noise_multiplier,
                            "of --private: deviation of the noise / clip norm")
                ->check(CLI::PositiveNumber);
            command
                .add_option("--pass-tokens", options->bench.pass_tokens,
                            "tokens computed at once; 0: as training does")
                ->check(CLI::NonNegativeNumber);
            command.add_option("--memory-limit", options->memory_limit,
                               "refuse to start what needs more, e.g. 2.5G");
            command.add_option("--init", options->initial, "PEFT folder of the adapters' start");
            command.add_option("--save-init", options->save_initial,
                               "write the adapters' start as a PEFT folder");
            command.add_flag("--recompute", options->bench.recompute,
                             "compute activations again in the backward pass");
            command.add_flag("--profile", options->bench.profile, "show where the time goes");
            command.add_option("--trace", options->trace,
                               "also write it for chrome://tracing or Perfetto; implies --profile");
            return [options](Context& context) {
              options->bench.profile = options->bench.profile || !options->trace.empty();
              return train(*options, context);
            };
          }};
}

Verb bench_gemm_verb() {
  return {.name = "bench gemm",
          .help = "matrix-product peak of this machine",
          .example = "strata bench gemm --format json",
          .declare = [](CLI::App&) -> RunVerb {
            return [](Context& context) -> Result<VerbOutput> {
              tensor::Team team(context.threads);
              const double f32 = gemm_peak_gflops(tensor::DType::kF32, context.clock, team);
              const double bf16 = gemm_peak_gflops(tensor::DType::kBF16, context.clock, team);
              VerbOutput out;
              out.data = {{"f32_gflops", f32},
                          {"bf16_gflops", bf16},
                          {"threads", context.threads},
                          {"instruction_set", tensor::instruction_set()}};
              out.text = fmt::format("f32   {:.0f} GFLOP/s\nbf16  {:.0f} GFLOP/s\n", f32, bf16);
              return out;
            };
          }};
}

}  // namespace strata::cli
