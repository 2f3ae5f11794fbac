#pragma once
// The golden numbers of tests/golden/privacy, and phases as they are written there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "privacy/accountant/pld.h"
#include "privacy/accountant/rdp.h"

namespace strata::privacy {

[[nodiscard]] inline nlohmann::json golden_file(const std::string& name) {
  std::ifstream file(std::string(STRATA_SOURCE_DIR) + "/tests/golden/privacy/" + name);
  return nlohmann::json::parse(file);
}

/// One list of epsilon.json.
[[nodiscard]] inline nlohmann::json golden(const std::string& section) {
  static const nlohmann::json kAll = golden_file("epsilon.json");
  return kAll.at(section);
}

[[nodiscard]] inline Adjacency adjacency_of(const nlohmann::json& one) {
  return one.value("adjacency", "add_remove") == "replace_one" ? Adjacency::kReplaceOne
                                                               : Adjacency::kAddRemove;
}

[[nodiscard]] inline std::vector<Phase> phases_of(const nlohmann::json& one) {
  const auto gaussian = [](const nlohmann::json& p) {
    return Phase::gaussian(p.at("z"), p.at("q"), p.at("steps"));
  };
  if (one.contains("q")) return {gaussian(one)};
  std::vector<Phase> out;
  for (const char* list : {"phases", "gaussian_phases"})
    for (const auto& p : one.value(list, nlohmann::json::array())) out.push_back(gaussian(p));
  for (const auto& p : one.value("laplace_phases", nlohmann::json::array()))
    out.push_back(Phase::laplace(p.at("b"), p.at("times")));
  return out;
}

[[nodiscard]] inline Composition composed(const std::vector<Phase>& phases,
                                          Adjacency adjacency = Adjacency::kAddRemove) {
  auto out = compose(phases, adjacency);
  EXPECT_TRUE(out) << out.error().line();
  return out.value_or(Composition{});
}

[[nodiscard]] inline double pld_of(const std::vector<Phase>& phases, double delta,
                                   Adjacency adjacency = Adjacency::kAddRemove,
                                   PldOptions options = {}) {
  auto out = pld_epsilon(composed(phases, adjacency), {delta}, options);
  EXPECT_TRUE(out) << out.error().line();
  return out ? out->epsilon.value : NAN;
}

[[nodiscard]] inline double rdp_of(const std::vector<Phase>& phases, double delta,
                                   std::span<const double> orders = default_orders(),
                                   Adjacency adjacency = Adjacency::kAddRemove) {
  auto curve = rdp_curve(composed(phases, adjacency), orders);
  EXPECT_TRUE(curve) << curve.error().line();
  return curve ? rdp_epsilon(*curve, {delta}).epsilon.value : NAN;
}

/// The largest proven lower bound that the file has for a case, 0 where it has none.
[[nodiscard]] inline double lower_bound_of(const nlohmann::json& one) {
  double out = 0.0;
  for (const char* key : {"pld_lower", "prv_lower"})
    if (one.contains(key) && one[key].is_number()) out = std::max(out, one[key].get<double>());
  return out;
}

}  // namespace strata::privacy
