#include "privacy/promise.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "privacy/accountant/adaptive_clip.h"
#include "privacy/accountant/calibrate.h"
#include "privacy/accountant/discrete_slack.h"
#include "privacy/noise/grid.h"

namespace strata::privacy {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kSlackShare = 1e-2;  // of delta, for the discrete noise
constexpr int kBitsUsual = 20;

std::string unit_of(const PrivacyConfig& p) {
  return p.unit.kind == "user" ? "user by " + p.unit.key : p.unit.kind;
}

std::string adversary_of(const PrivacyConfig& p) {
  return p.mode == "client_central" ? "recipients and other clients, not the coordinator"
                                    : "everyone, the coordinator included";
}

Result<Statement> epsilon_by(std::string_view name, std::span<const Phase> phases,
                             Adjacency adjacency, double delta, double tolerance) {
  auto accountant = make_accountant(name, {.eps_tolerance = tolerance});
  if (!accountant) return fail(std::move(accountant).error());
  return (*accountant)->epsilon(phases, adjacency, Delta{delta});
}

// Poisson sampling under replace_one has no such bound.
bool rdp_applies(std::span<const Phase> phases, Adjacency adjacency) {
  return adjacency != Adjacency::kReplaceOne ||
         std::all_of(phases.begin(), phases.end(), [](const Phase& p) { return p.rate >= 1.0; });
}

}  // namespace

Result<Bill> bill(std::span<const Phase> phases, Adjacency adjacency, double delta,
                  const AccountantSection& section) {
  Bill out{.epsilon = std::numeric_limits<double>::infinity(), .pld = kNone, .rdp = kNone};
  // The bounds are for continuous noise: what the discrete one differs by is kept back.
  const double billed = delta * (1.0 - kSlackShare);
  if (rdp_applies(phases, adjacency)) {
    auto by = epsilon_by("rdp", phases, adjacency, billed, section.eps_tolerance);
    if (!by) return fail(std::move(by).error());
    out.rdp = out.epsilon = by->epsilon.value;
    out.accountant = "rdp";
  }
  auto by = epsilon_by("pld", phases, adjacency, billed, section.eps_tolerance);
  if (!by) return fail(std::move(by).error());
  out.pld = by->epsilon.value;
  if (section.kind == "pld" && !(out.epsilon < out.pld)) {
    out.epsilon = out.pld;
    out.accountant = "pld";
  }
  return out;
}

std::int64_t Promise::charges_per_release() const {
  return mode == "client_central" ? clients_per_person * clients_per_person : clients_per_person;
}

std::vector<Phase> phases_of(const Promise& promise, std::int64_t rounds) {
  const auto releases = static_cast<double>(promise.schedule.per_round * rounds) *
                        static_cast<double>(promise.charges_per_release());
  return {Phase::gaussian(promise.noise_multiplier, promise.sampling_rate, releases)};
}

namespace {

Result<double> calibrated(const PrivacyConfig& p, const Promise& promise) {
  auto accountant =
      make_accountant(p.accountant.kind, {.eps_tolerance = p.accountant.eps_tolerance});
  if (!accountant) return fail(std::move(accountant).error());
  auto found = calibrate(**accountant, adjacency_of(p.adjacency),
                         {.epsilon = Epsilon{*p.budget.epsilon},
                          .delta = Delta{*p.budget.delta * (1.0 - kSlackShare)},
                          .rate = promise.sampling_rate,
                          .releases = static_cast<double>(promise.schedule.releases()) *
                                      static_cast<double>(promise.charges_per_release())});
  if (!found) return fail(std::move(found).error());
  return found->noise_multiplier;
}

}  // namespace

Result<Promise> promise_of(const PrivacyConfig& p, const Schedule& schedule,
                           const std::string& where) {
  Promise out{.mode = p.mode,
              .unit = unit_of(p),
              .adjacency = p.adjacency,
              .adversary = adversary_of(p),
              .sampling_rate = p.mode == "example_dpsgd" ? p.sampling.q.value_or(1.0) : 1.0,
              .schedule = schedule,
              .delta = *p.budget.delta,
              .clients_per_person = p.max_clients_per_person};
  if (p.noise.multiplier) {
    out.noise_multiplier = *p.noise.multiplier;
  } else {
    auto found = calibrated(p, out);
    if (!found) return fail(std::move(found).error(), where + ".noise.multiplier");
    out.noise_multiplier = *found;
    out.calibrated = true;
  }
  auto price =
      bill(phases_of(out, schedule.rounds), adjacency_of(p.adjacency), out.delta, p.accountant);
  if (!price) return fail(std::move(price).error(), where);
  out.epsilon = price->epsilon;
  out.accountant = price->accountant;
  out.epsilon_pld = price->pld;
  out.epsilon_rdp = price->rdp;
  if (p.budget.epsilon && !(out.epsilon <= *p.budget.epsilon)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("is {}, which comes to epsilon {:.4g} at delta {:g}",
                                     out.noise_multiplier, out.epsilon, out.delta),
                 .where = where + ".noise.multiplier",
                 .rule = fmt::format("the budget is {:g}", *p.budget.epsilon),
                 .remedy = "raise it, lower q or the number of steps, or say \"calibrate\""});
  }
  out.gradient_multiplier = out.noise_multiplier;
  if (p.clip.kind == "adaptive" && p.mode == "example_dpsgd") {
    auto split = adaptive_clip_split(out.noise_multiplier, *p.clip.sigma_b);
    if (!split) return fail(std::move(split).error(), where + ".clip.sigma_b");
    out.gradient_multiplier = *split;
  }
  if (p.seeded_noise) out.epsilon = std::numeric_limits<double>::infinity();
  return out;
}

std::string sentence(const Promise& p) {
  if (std::isinf(p.epsilon)) return "PRIVATE=NO: the noise comes from a seed, nothing is promised";
  return fmt::format("unit {}, {}, against {}: epsilon {:.4g} at delta {:g} ({})", p.unit,
                     p.adjacency, p.adversary, p.epsilon, p.delta, p.accountant);
}

double grid_slack(const Promise& p, int bits, std::size_t values) {
  const NoiseGrid grid{.bits = bits,
                       .noise_multiplier = p.gradient_multiplier,
                       .dimension = static_cast<double>(values)};
  const auto releases =
      static_cast<double>(p.schedule.releases()) * static_cast<double>(p.charges_per_release());
  return discrete_slack(grid, releases, Epsilon{p.epsilon}).value;
}

Result<int> grid_bits_of(const Promise& p, std::int64_t configured, std::size_t values,
                         const std::string& where) {
  int bits = configured == 0 ? kBitsUsual : static_cast<int>(configured);
  const double allowed = p.delta * kSlackShare;
  const auto fits = [&](int b) {
    return noise::Grid::make(1.0, p.gradient_multiplier, b).has_value();
  };
  const auto slack = [&] { return std::isinf(p.epsilon) ? 0.0 : grid_slack(p, bits, values); };
  if (configured == 0) {
    while (bits > noise::Grid::kBitsMin && !fits(bits)) --bits;
    while (bits < noise::Grid::kBitsMax && fits(bits + 1) && slack() > allowed) ++bits;
  }
  if (slack() <= allowed) return bits;
  return fail({.code = ErrorCode::kConfig,
               .what = fmt::format("{} bits are too few: the noise differs from a continuous one "
                                   "by {:.2g}",
                                   bits, slack()),
               .where = where + ".noise.grid_bits",
               .rule = fmt::format("{:.2g}, a hundredth of delta, is kept for that", allowed),
               .remedy = configured == 0 ? "ask for a smaller epsilon, or train fewer values"
                                         : "raise it, or leave it out"});
}

}  // namespace strata::privacy
