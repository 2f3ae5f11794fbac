// strata privacy epsilon | calibrate: what noise promises, and the noise for a promise.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <optional>

#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "config/section.h"
#include "privacy/accountant/accountant.h"
#include "privacy/accountant/calibrate.h"

namespace strata::cli {
namespace {

using privacy::adjacency_of;
using privacy::Phase;
using Json = nlohmann::ordered_json;

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

struct Options {
  std::optional<double> noise_multiplier;
  std::optional<double> rate;
  std::optional<double> steps;
  double delta = 0.0;
  double epsilon = 0.0;
  std::string accountant = "pld";
  std::string adjacency = "add_remove";
  std::string phases;
};

std::vector<std::string> accountant_names() {
  std::vector<std::string> out;
  for (const auto& entry : privacy::accountants()) out.emplace_back(entry.name);
  return out;
}

Error wrong_phase(std::size_t index, std::string what, std::string rule) {
  return {.code = ErrorCode::kUsage,
          .what = std::move(what),
          .where = fmt::format("--phases[{}]", index),
          .rule = std::move(rule)};
}

// The list of --phases. Values are checked by the accountant, here only which belong together.
Result<std::vector<Phase>> read_phases(const std::string& text) {
  struct Given {
    double noise = kAbsent;
    double rate = kAbsent;
    double scale = kAbsent;
    double steps = kAbsent;
  };
  std::vector<Given> given;
  const auto describe = [&](config::Fields& f) {
    f.objects(
        "phases", given.size(), [&](std::size_t n) { given.resize(n); },
        [&](std::size_t i, config::Fields& phase) {
          phase.number("noise_multiplier", given[i].noise, {}, "standard deviation / clip norm");
          phase.number("sampling_rate", given[i].rate, {}, "chance of a record to be in a batch");
          phase.number("laplace_scale", given[i].scale, {}, "scale / clip norm");
          phase.number("steps", given[i].steps, {}, "noisy sums");
          phase.required({"steps"});
        },
        "equal releases");
  };
  if (auto read = config::read("{\"phases\":" + text + "}", "--phases", {}, describe); !read) {
    Error error = std::move(read).error();
    error.code = ErrorCode::kUsage;
    return fail(std::move(error));
  }
  if (given.empty()) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "--phases is empty",
                 .rule = "a list of {noise_multiplier, sampling_rate, steps} or {laplace_scale, "
                         "steps}"});
  }
  std::vector<Phase> out;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const Given& phase = given[i];
    const bool gaussian = !std::isnan(phase.noise);
    if (gaussian == !std::isnan(phase.scale)) {
      return fail(wrong_phase(i, gaussian ? "has both kinds of noise" : "has no noise",
                              "one of noise_multiplier and laplace_scale"));
    }
    if (gaussian == std::isnan(phase.rate)) {
      return fail(wrong_phase(i, gaussian ? "has no sampling_rate" : "has a sampling_rate",
                              "noise_multiplier goes with sampling_rate, laplace_scale without"));
    }
    out.push_back(gaussian ? Phase::gaussian(phase.noise, phase.rate, phase.steps)
                           : Phase::laplace(phase.scale, phase.steps));
  }
  return out;
}

Result<std::vector<Phase>> phases_of(const Options& options) {
  const bool single = options.noise_multiplier || options.rate || options.steps;
  if (options.phases.empty() != single) {
    return fail({.code = ErrorCode::kUsage,
                 .what = single ? "--phases and single values are both given"
                                : "nothing says what is released",
                 .remedy = "give --noise-multiplier, --sampling-rate and --steps, or --phases"});
  }
  if (!single) return read_phases(options.phases);
  if (!options.noise_multiplier || !options.rate || !options.steps) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "a value is missing",
                 .rule = "--noise-multiplier, --sampling-rate and --steps go together"});
  }
  return std::vector{Phase::gaussian(*options.noise_multiplier, *options.rate, *options.steps)};
}

// JSON has no infinity: null, and `finite` says which null it is.
Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string epsilon_text(double value) {
  return std::isfinite(value) ? number_text(value, 4) : "infinite";
}

std::string remark(const privacy::Statement& statement) {
  if (statement.mesh) return fmt::format("mesh {:.1e}", *statement.mesh);
  if (statement.order) {
    return fmt::format("order {}{}", *statement.order,
                       statement.order_at_edge ? ", the last tried: others may be better" : "");
  }
  return "exact";
}

// The bound of each accountant that can give one; what the asked-for one refuses is an error.
Result<VerbOutput> epsilon(const Options& options) {
  auto phases = phases_of(options);
  if (!phases) return fail(std::move(phases).error());
  VerbOutput out;
  out.data = {{"epsilon", nullptr},
              {"finite", false},
              {"delta", options.delta},
              {"accountant", options.accountant},
              {"adjacency", options.adjacency},
              {"accountants", Json::object()}};
  std::vector<std::vector<std::string>> rows{{"accountant", "epsilon", "delta", "how"}};
  for (const auto& entry : privacy::accountants()) {
    const auto accountant = entry.make({});
    auto bound = accountant->epsilon(*phases, adjacency_of(options.adjacency), {options.delta});
    const std::string name(entry.name);
    if (!bound) {
      if (entry.name == options.accountant) return fail(std::move(bound).error());
      rows.push_back({name, "-", "-", bound.error().what});
      out.data["accountants"][name] = {{"epsilon", nullptr}, {"refused", bound.error().what}};
      continue;
    }
    const double value = bound->epsilon.value;
    rows.push_back({name, epsilon_text(value), fmt::format("{:g}", options.delta), remark(*bound)});
    Json& row = out.data["accountants"][name];
    row = {{"epsilon", number_or_null(value)}, {"finite", std::isfinite(value)}};
    if (bound->mesh) row["mesh"] = *bound->mesh;
    if (bound->order) {
      row["order"] = *bound->order;
      row["order_at_edge"] = bound->order_at_edge;
    }
    if (entry.name != options.accountant) continue;
    out.data["epsilon"] = number_or_null(value);
    out.data["finite"] = std::isfinite(value);
  }
  out.text = table(rows);
  return out;
}

Result<VerbOutput> calibrate(const Options& options) {
  auto accountant = privacy::make_accountant(options.accountant);
  if (!accountant) return fail(std::move(accountant).error());
  auto found = privacy::calibrate(**accountant, adjacency_of(options.adjacency),
                                  {.epsilon = {options.epsilon},
                                   .delta = {options.delta},
                                   .rate = options.rate.value_or(kAbsent),
                                   .releases = options.steps.value_or(kAbsent)});
  if (!found) return fail(std::move(found).error());
  VerbOutput out;
  out.data = {{"noise_multiplier", found->noise_multiplier},
              {"epsilon", found->at.epsilon.value},
              {"delta", options.delta},
              {"accountant", options.accountant},
              {"adjacency", options.adjacency}};
  out.text = table({{"accountant", "noise multiplier", "epsilon", "delta", "how"},
                    {options.accountant, fmt::format("{:.10g}", found->noise_multiplier),
                     epsilon_text(found->at.epsilon.value), fmt::format("{:g}", options.delta),
                     remark(found->at)}});
  return out;
}

// What both commands ask about the release.
void declare_release(CLI::App& command, Options& options) {
  command.add_option("--delta", options.delta, "the probability that is given up")->required();
  command.add_option("--accountant", options.accountant, "whose bound is the answer")
      ->check(CLI::IsMember(accountant_names()));
  command.add_option("--adjacency", options.adjacency, "which data sets are neighbours")
      ->check(CLI::IsMember({"add_remove", "replace_one", "zero_out"}));
}

}  // namespace

Verb privacy_epsilon_verb() {
  return {.name = "privacy epsilon",
          .help = "the epsilon that noisy releases promise",
          .example =
              "strata privacy epsilon --noise-multiplier 1.0 --sampling-rate 0.01 --steps 1000 "
              "--delta 1e-6",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("--noise-multiplier", options->noise_multiplier,
                               "standard deviation of the noise / clip norm");
            command.add_option("--sampling-rate", options->rate,
                               "chance of one record to be in a batch");
            command.add_option("--steps", options->steps, "noisy sums released");
            command.add_option("--phases", options->phases,
                               "JSON list instead of the three, for noise that changes");
            declare_release(command, *options);
            return [options](Context&) { return epsilon(*options); };
          }};
}

Verb privacy_calibrate_verb() {
  return {.name = "privacy calibrate",
          .help = "the least noise that keeps an epsilon",
          .example =
              "strata privacy calibrate --epsilon 3 --delta 1e-6 --sampling-rate 0.01 --steps 1000",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("--epsilon", options->epsilon, "not to be exceeded")->required();
            command
                .add_option("--sampling-rate", options->rate,
                            "chance of one record to be in a batch")
                ->required();
            command.add_option("--steps", options->steps, "noisy sums released")->required();
            declare_release(command, *options);
            return [options](Context&) { return calibrate(*options); };
          }};
}

}  // namespace strata::cli
