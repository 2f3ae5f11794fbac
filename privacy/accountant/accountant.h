#pragma once
// The seam of accountants: releases and a delta in, epsilon out, and the other way round. An
// accountant is one file that defines a maker and one line in registry.cpp. What it returns is an
// upper bound; what it cannot bound it refuses. Two accountants that disagree are both valid, the
// smaller bound holds.
// Threads: accountants have no state, any number may call.
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "privacy/accountant/event.h"

namespace strata::privacy {

/// A bound and what its reader may want to know of how it came about.
struct Statement {
  Epsilon epsilon;  // infinite where something was released without noise
  Delta delta;
  std::optional<double> order;  // rdp: the order that gave the bound
  bool order_at_edge = false;   // rdp: the best order was the last tried, more might do better
  std::optional<double> mesh;   // pld: of the grid of losses
};

class Accountant {
 public:
  virtual ~Accountant() = default;

  /// For `delta` in (0, 1). Without noise, infinity; where nothing is released, 0. Errors: those of
  /// compose() (event.h) and of the accountant.
  [[nodiscard]] virtual Result<Statement> epsilon(std::span<const Phase> phases,
                                                  Adjacency adjacency, Delta delta) const = 0;
  /// For `epsilon` >= 0.
  [[nodiscard]] virtual Result<Statement> delta(std::span<const Phase> phases, Adjacency adjacency,
                                                Epsilon epsilon) const = 0;
};

struct AccountantConfig {
  double eps_tolerance = 1e-3;  // pld: how much too large epsilon may be
};

struct AccountantEntry {
  std::string_view name;
  std::string_view help;
  std::unique_ptr<Accountant> (*make)(const AccountantConfig& config);
};

/// Every accountant, the default first.
[[nodiscard]] std::span<const AccountantEntry> accountants();

/// kConfig for an unknown name, listing those there are, and for a tolerance outside [1e-6, 1].
[[nodiscard]] Result<std::unique_ptr<Accountant>> make_accountant(
    std::string_view name, const AccountantConfig& config = {});

}  // namespace strata::privacy
