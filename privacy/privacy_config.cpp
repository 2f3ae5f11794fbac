#include "privacy/privacy_config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "privacy/accountant/accountant.h"

namespace strata::privacy {
namespace {

using config::Fields;
using Names = std::span<const std::string_view>;

void describe_clip(Fields& f, ClipConfig& c) {
  static constexpr std::array<std::string_view, 4> kKinds{"flat", "per_layer", "normalise",
                                                          "adaptive"};
  f.choice("kind", c.kind, kKinds, "how a unit's gradient is bounded");
  f.number("C", c.norm, {.max = 1e6, .above = 0.0},
           "norm that one unit's gradient may have, over all trained tensors");
  f.number_map("bounds", c.bounds, {.max = 1e6, .above = 0.0},
               "per_layer: norm for layers that match; the first match counts");
  f.number("gamma", c.gamma, {.max = 1e6, .above = 0.0}, "normalise: g C / (norm + gamma)");
  f.number("quantile", c.quantile, {.above = 0.0, .below = 1.0},
           "adaptive: share of units that C shall leave unclipped");
  f.number("eta", c.eta, {.max = 10.0, .above = 0.0}, "adaptive: how fast C moves");
  f.number_or("sigma_b", c.sigma_b, "", {.max = 1e9, .above = 0.0},
              "adaptive: noise of the number of unclipped units");
  f.number("C_min", c.norm_min, {.max = 1e6, .above = 0.0}, "adaptive: lowest C");
  f.number("C_max", c.norm_max, {.max = 1e6, .above = 0.0}, "adaptive: highest C");
}

void describe_steps(Fields& f, PrivacyConfig& p) {
  static constexpr std::array<std::string_view, 2> kSchemes{"poisson", "full"};
  f.object(
      "sampling",
      [&](Fields& inner) {
        inner.choice("scheme", p.sampling.scheme, kSchemes,
                     "poisson: each unit is in a step or not by itself; full: all are");
        inner.number_or("q", p.sampling.q, "", {.max = 1.0, .above = 0.0},
                        "poisson: probability of a unit to be in a step");
      },
      "what a step looks at");
  f.number_or(
      "batch_divisor", p.batch_divisor, "", {.max = 1e12, .above = 0.0},
      "public constant that noisy sums are divided by, such as the expected units of a step");
  f.object(
      "steps",
      [&](Fields& inner) {
        inner.integer("local_per_round", p.steps.local_per_round, {.min = 0, .max = 1e7},
                      "noisy steps of a client in a round; 0: training.local_steps");
        inner.integer("rounds", p.steps.rounds, {.min = 0, .max = 1e6}, "0: aggregation.rounds");
      },
      "what is charged for");
}

void describe_told(Fields& f, PrivacyConfig& p) {
  static constexpr std::array<std::string_view, 2> kWeights{"uniform", "public"};
  static constexpr std::array<std::string_view, 2> kTold{"off", "noised"};
  static constexpr std::array<std::string_view, 3> kEval{"off", "public_data", "noised"};
  static constexpr std::array<std::string_view, 3> kCounts{"off", "public", "noised"};
  f.object(
      "weights",
      [&](Fields& inner) {
        inner.choice("kind", p.weights.kind, kWeights,
                     "uniform, or public numbers; weights by counts of records would tell them");
        inner.number_map("values", p.weights.values, {.max = 1e12, .above = 0.0},
                         "public: weight by client");
        inner.number_or("denominator", p.weights.denominator, "", {.max = 1e12, .above = 0.0},
                        "client_central: constant that the weighted sum is divided by");
      },
      "what clients count in the aggregate");
  f.object(
      "metrics",
      [&](Fields& inner) {
        inner.choice("train_loss", p.metrics.train_loss, kTold, "loss on private records");
        inner.choice("eval", p.metrics.eval, kEval,
                     "evaluation: only on records that are declared public");
        inner.choice("counts", p.metrics.counts, kCounts, "numbers of records and tokens");
      },
      "what is told beside the model");
}

void describe_ledger(Fields& f, LedgerConfig& l) {
  static constexpr std::array<std::string_view, 1> kAcross{"sum"};
  f.path("path", l.path,
         "folder of the data owner's ledgers; empty: strata/privacy below the "
         "user's state folder");
  f.text("dataset_id", l.dataset_id,
         "name of the data set over all runs; empty: the client's name, or with client_central "
         "the job's");
  f.number_or("lifetime_epsilon", l.lifetime_epsilon, "", {.max = 50.0, .above = 0.0},
              "cap on the data set's epsilon over all runs");
  f.number_or("lifetime_delta", l.lifetime_delta, "", {.min = 1e-11, .max = 1e-3},
              "delta of that cap");
  f.choice("across_runs", l.across_runs, kAcross, "how runs add up");
  f.boolean("inherit", l.inherit,
            "take over what other data sets with the same records have spent, instead of refusing");
  f.text("lock_service", l.lock_service,
         "what locks and keeps the folder on a file system that does not (network, overlay, "
         "memory); named, the file system is not asked");
}

Result<void> refuse(const std::string& where, std::string_view key, std::string what,
                    std::string rule, std::string remedy = {}) {
  return fail({.code = ErrorCode::kConfig,
               .what = std::move(what),
               .where = key.empty() ? where : fmt::format("{}.{}", where, key),
               .rule = std::move(rule),
               .remedy = std::move(remedy)});
}

// Fields of another kind of clipping than the one that is chosen.
Result<void> check_clip(const ClipConfig& c, const std::string& where) {
  const ClipConfig usual;
  struct Owned {
    std::string_view key, kind;
    bool given;
  };
  const Owned owned[] = {
      {"bounds", "per_layer", !c.bounds.empty()},
      {"gamma", "normalise", c.gamma != usual.gamma},
      {"quantile", "adaptive", c.quantile != usual.quantile},
      {"eta", "adaptive", c.eta != usual.eta},
      {"sigma_b", "adaptive", c.sigma_b.has_value()},
      {"C_min", "adaptive", c.norm_min != usual.norm_min},
      {"C_max", "adaptive", c.norm_max != usual.norm_max},
  };
  for (const auto& field : owned) {
    if (field.given && field.kind != c.kind)
      return refuse(
          where, fmt::format("clip.{}", field.key), "is given",
          fmt::format("it belongs to clip.kind \"{}\"; this is \"{}\"", field.kind, c.kind));
  }
  if (c.kind == "per_layer" && c.bounds.empty())
    return refuse(where, "clip.bounds", "is missing", "per_layer needs a norm for every layer",
                  "give {\"layer\": norm, ...}; \".*\" matches the rest");
  if (c.kind == "adaptive" && !c.sigma_b)
    return refuse(where, "clip.sigma_b", "is missing",
                  "adaptive clipping counts unclipped units with noise");
  if (c.kind == "adaptive" && !(c.norm_min <= c.norm && c.norm <= c.norm_max))
    return refuse(where, "clip.C", fmt::format("is {}", c.norm),
                  fmt::format("it lies between C_min {} and C_max {}", c.norm_min, c.norm_max));
  return {};
}

Result<void> check_unit(const PrivacyConfig& p, const std::string& where) {
  const bool client_mode = p.mode != "example_dpsgd";
  if ((p.unit.kind == "client") != client_mode) {
    return refuse(where, "unit.kind", fmt::format("is \"{}\"", p.unit.kind),
                  client_mode ? fmt::format("{} protects whole clients: \"client\"", p.mode)
                              : "example_dpsgd protects an \"example\" or a \"user\"");
  }
  if ((p.unit.kind == "user") == p.unit.key.empty()) {
    return p.unit.key.empty()
               ? refuse(where, "unit.key", "is missing",
                        "unit \"user\" needs the record key that names the person")
               : refuse(where, "unit.key", fmt::format("is \"{}\"", printable(p.unit.key, 80)),
                        fmt::format("only unit \"user\" has one; this is \"{}\"", p.unit.kind));
  }
  if (p.mode == "client_local" && p.adjacency != "replace_one") {
    return refuse(where, "adjacency", fmt::format("is \"{}\"", p.adjacency),
                  "client_local hides a client's data against any other data it might have: "
                  "\"replace_one\"");
  }
  return {};
}

Result<void> check_budget(const PrivacyConfig& p, const std::string& where) {
  if (!p.budget.delta)
    return refuse(where, "budget.delta", "is missing", "every guarantee has a delta",
                  "take one well below 1 / (number of units), such as 1e-6");
  if (!p.budget.epsilon && !p.noise.multiplier)
    return refuse(where, "budget.epsilon", "is missing",
                  "noise.multiplier \"calibrate\" needs an epsilon to calibrate to",
                  "give privacy.budget.epsilon, or privacy.noise.multiplier as a number");
  if (p.adjacency == "replace_one" && p.accountant.kind == "rdp" &&
      p.sampling.scheme == "poisson" && p.sampling.q.value_or(1.0) < 1.0 &&
      p.mode == "example_dpsgd") {
    return refuse(where, "accountant.kind", "is \"rdp\"",
                  "there is no such bound for replace_one with Poisson sampling",
                  "set privacy.accountant.kind to \"pld\"");
  }
  if (p.ledger.lifetime_epsilon.has_value() != p.ledger.lifetime_delta.has_value())
    return refuse(where,
                  p.ledger.lifetime_delta ? "ledger.lifetime_epsilon" : "ledger.lifetime_delta",
                  "is missing", "a cap is an epsilon at a delta");
  if (p.budget.scope == "dataset_lifetime" && !p.budget.epsilon)
    return refuse(where, "budget.epsilon", "is missing",
                  "scope \"dataset_lifetime\" caps what all runs on the data come to");
  return {};
}

Result<void> check_sampling(const PrivacyConfig& p, const std::string& where) {
  if (p.mode != "example_dpsgd") {
    if (p.sampling.q)
      return refuse(
          where, "sampling.q", fmt::format("is {}", *p.sampling.q),
          fmt::format("{} looks at whole clients: there is no sampling of records", p.mode));
    return {};
  }
  if ((p.sampling.scheme == "full") == p.sampling.q.has_value()) {
    return p.sampling.q ? refuse(where, "sampling.q", fmt::format("is {}", *p.sampling.q),
                                 "scheme \"full\" takes every unit in every step: it has no q")
                        : refuse(where, "sampling.q", "is missing",
                                 "poisson sampling needs the probability of a unit to be in a step",
                                 "take a constant near (wanted batch) / (number of units)");
  }
  if (p.noise.grid_bits != 0 && p.noise.grid_bits < 16)
    return refuse(where, "noise.grid_bits", fmt::format("is {}", p.noise.grid_bits),
                  "it is 0 or from 16 to 24");
  if (!p.batch_divisor)
    return refuse(where, "batch_divisor", "is missing",
                  "sums are divided by a public constant, never by a count of the data",
                  "take the number of units a step is expected to hold");
  return {};
}

Result<void> check_told(const PrivacyConfig& p, const std::string& where) {
  for (const auto& [key, value] : {std::pair{"metrics.train_loss", p.metrics.train_loss},
                                   {"metrics.eval", p.metrics.eval},
                                   {"metrics.counts", p.metrics.counts}}) {
    if (value == "noised")
      return refuse(where, key, "is \"noised\"", "strata tells these not at all",
                    "set it to \"off\"");
  }
  if ((p.weights.kind == "public") == p.weights.values.empty()) {
    return p.weights.values.empty()
               ? refuse(where, "weights.values", "is missing", "public weights are given by client")
               : refuse(where, "weights.values", "is given",
                        "only weights.kind \"public\" has them");
  }
  if (p.amplified_by_client_sampling)
    return refuse(
        where, "amplification.clients", "is true",
        "a round lasts as long as the clients drawn for it, which all others see: who was "
        "drawn is not secret, and what is not secret lowers no bill",
        "set it to false: every client is charged for every round");
  if (p.secagg)
    return refuse(where, "secagg.enabled", "is true", "secure aggregation is not part of strata",
                  "set it to false");
  if (p.seeded_noise && !p.i_understand)
    return refuse(where, "test_mode.seeded_noise", "is true",
                  "noise from a seed hides nothing: it is for tests",
                  "remove it, or say test_mode.i_understand as well; everything made with it is "
                  "marked PRIVATE=NO");
  return {};
}

// What the coordinator clips, weighs and divides by.
Result<void> check_central(const PrivacyConfig& p, const std::string& where) {
  if (p.mode != "client_central") return {};
  if (!p.weights.denominator)
    return refuse(where, "weights.denominator", "is missing",
                  "the weighted sum of clients is divided by a public constant, whoever comes",
                  "take the weights of all clients together");
  if (p.batch_divisor)
    return refuse(where, "batch_divisor", fmt::format("is {}", *p.batch_divisor),
                  "client_central divides by weights.denominator");
  if (p.clip.kind != "flat" && p.clip.kind != "normalise")
    return refuse(where, "clip.kind", "is \"" + p.clip.kind + "\"",
                  "a client's update is one vector with one bound",
                  "use \"flat\" or \"normalise\"");
  return {};
}

}  // namespace

void describe(Fields& f, PrivacyConfig& p) {
  static constexpr std::array<std::string_view, 4> kModes{"none", "example_dpsgd", "client_local",
                                                          "client_central"};
  static constexpr std::array<std::string_view, 3> kUnits{"example", "user", "client"};
  static constexpr std::array<std::string_view, 3> kAdjacencies{"add_remove", "zero_out",
                                                                "replace_one"};
  static constexpr std::array<std::string_view, 2> kScopes{"run", "dataset_lifetime"};
  std::vector<std::string_view> accountant_names;
  for (const auto& entry : accountants()) accountant_names.push_back(entry.name);
  f.choice("mode", p.mode, kModes, "who adds noise to what; none: nothing is promised");
  f.object(
      "unit",
      [&](Fields& inner) {
        inner.choice("kind", p.unit.kind, kUnits, "whose data as a whole is protected");
        inner.text("key", p.unit.key, "user: record key that names the person");
      },
      "who is protected");
  f.choice("adjacency", p.adjacency, kAdjacencies, "which two data sets nobody may tell apart");
  f.object(
      "budget",
      [&](Fields& inner) {
        inner.number_or("epsilon", p.budget.epsilon, "", {.max = 50.0, .above = 0.0},
                        "never exceeded by the run");
        inner.number_or("delta", p.budget.delta, "", {.min = 1e-11, .max = 1e-3},
                        "of that epsilon; below 1 / (number of units)");
        inner.choice("scope", p.budget.scope, kScopes,
                     "run, or what all runs on the data set come to");
      },
      "the budget");
  describe_steps(f, p);
  f.object(
      "clip", [&](Fields& inner) { describe_clip(inner, p.clip); }, "bound on one unit");
  f.object(
      "noise",
      [&](Fields& inner) {
        inner.number_or(
            "multiplier", p.noise.multiplier, "calibrate", {.max = 1e6, .above = 0.0},
            "deviation of the noise over C; calibrate: the least that keeps the budget");
        inner.integer("grid_bits", p.noise.grid_bits, {.min = 0, .max = 24},
                      "C is 2^bits steps of the grid on which sums and noise are exact; 0: as "
                      "many as needed, else from 16");
      },
      "the noise");
  f.object(
      "accountant",
      [&](Fields& inner) {
        inner.choice("kind", p.accountant.kind, accountant_names, "what epsilon is computed by");
        inner.number("eps_tolerance", p.accountant.eps_tolerance, {.min = 1e-6, .max = 1.0},
                     "pld: how much too large epsilon may be");
      },
      "the bill");
  describe_told(f, p);
  f.object(
      "amplification",
      [&](Fields& inner) {
        inner.boolean("clients", p.amplified_by_client_sampling,
                      "client_central: a secret drawing of clients; not offered");
      },
      "what lowers the bill");
  f.integer("max_clients_per_person", p.max_clients_per_person, {.min = 1, .max = 1e6},
            "clients that may hold records of one person; the bill is for all of them");
  f.object(
      "secagg", [&](Fields& inner) { inner.boolean("enabled", p.secagg, "not offered"); },
      "secure aggregation");
  f.object(
      "ledger", [&](Fields& inner) { describe_ledger(inner, p.ledger); },
      "the data owner's record of what was spent");
  f.object(
      "test_mode",
      [&](Fields& inner) {
        inner.boolean("seeded_noise", p.seeded_noise, "noise from training.seed: not private");
        inner.boolean("i_understand", p.i_understand, "that nothing made with it is private");
      },
      "tests only");
  f.required({"mode"});
}

Result<void> check(const PrivacyConfig& p, const std::string& where) {
  if (!p.on()) return {};
  for (const auto rule : {check_unit, check_budget, check_sampling, check_told, check_central}) {
    if (auto ok = rule(p, where); !ok) return ok;
  }
  return check_clip(p.clip, where);
}

}  // namespace strata::privacy
