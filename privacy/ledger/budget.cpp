#include "privacy/ledger/budget.h"

#include <algorithm>
#include <cstdio>

namespace strata::ledger {
namespace {

// Two decimals, or as many as it takes to see which is larger.
std::pair<std::string, std::string> apart(double larger, double smaller) {
  for (int digits = 2;; ++digits) {
    char a[400], b[400];
    std::snprintf(a, sizeof a, "%.*f", digits, larger);
    std::snprintf(b, sizeof b, "%.*f", digits, smaller);
    if (std::string_view(a) != b || digits == 17) return {a, b};
  }
}

// 1e-6, not 1e-06.
std::string short_number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%g", value);
  std::string out = text;
  if (const auto at = out.find("e-0"); at != std::string::npos) out.erase(at + 2, 1);
  return out;
}

}  // namespace

Result<std::optional<Excess>> excess(const State& state, const Reservation& more,
                                     std::uint64_t times, const EpsilonOf& epsilon_of) {
  const std::vector<Charge> added(times, more.charge);
  std::optional<Excess> worst;
  const auto look = [&](const Sharers& members, const std::string& run,
                        Excess found) -> Result<void> {
    auto charges = state.charges(members, run);
    charges.insert(charges.end(), added.begin(), added.end());
    auto epsilon = epsilon_of(charges, found.delta);
    if (!epsilon) return fail(std::move(epsilon).error());
    found.epsilon = *epsilon;
    if (!(found.epsilon <= found.cap) && (!worst || found.cap < worst->cap)) worst = found;
    return {};
  };
  for (const Sharers& members : state.sharers_of(more.dataset)) {
    for (const std::string& member : members) {
      const Dataset& terms = state.datasets.at(member).terms;
      Excess own{.dataset = member, .whose = {}, .cap = terms.epsilon_cap, .delta = terms.delta};
      if (auto looked = look(members, {}, own); !looked) return fail(std::move(looked).error());
    }
    for (const Cap& cap : more.caps) {
      Excess other{
          .dataset = more.dataset, .whose = cap.whose, .cap = cap.epsilon, .delta = cap.delta};
      const std::string run = cap.this_run_only ? more.run : std::string();
      if (auto looked = look(members, run, other); !looked) return fail(std::move(looked).error());
    }
  }
  return worst;
}

Result<double> epsilon_of_dataset(const State& state, const std::string& dataset,
                                  const std::vector<Charge>& more, const EpsilonOf& epsilon_of) {
  double out = 0.0;
  for (const Sharers& members : state.sharers_of(dataset)) {
    auto charges = state.charges(members, {});
    charges.insert(charges.end(), more.begin(), more.end());
    auto epsilon = epsilon_of(charges, state.datasets.at(dataset).terms.delta);
    if (!epsilon) return epsilon;
    out = std::max(out, *epsilon);
  }
  return out;
}

Error over_budget(const Excess& excess, std::uint64_t round, std::uint64_t fit) {
  const auto [epsilon, cap] = apart(excess.epsilon, excess.cap);
  return {
      .code = ErrorCode::kBudget,
      .what = "dataset " + excess.dataset + " would reach eps " + epsilon + " > cap " + cap +
              " (delta " + short_number(excess.delta) + ") after round " + std::to_string(round),
      .where = "budget",
      .rule = std::to_string(fit) + (fit == 1 ? " round fits" : " rounds fit"),
      .remedy = excess.whose.empty() ? std::string() : "the cap is that of the " + excess.whose};
}

}  // namespace strata::ledger
