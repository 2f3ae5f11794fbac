// The rdp accountant against 40-digit quadrature, dp-accounting and opacus; selection, discrete
// noise.
#include <limits>

#include "golden.h"
#include "privacy/accountant/discrete_slack.h"
#include "privacy/accountant/selection.h"

namespace strata::privacy {
namespace {

TEST(RdpGolden, DivergencesAreThoseOfFortyDigitQuadrature) {
  const auto cases = golden("rdp_per_order");
  EXPECT_EQ(cases.size(), 41u);
  for (const auto& one : cases) {
    const double exact = one.at("rdp_exact");
    const double got = sampled_gaussian_rdp(one.at("q"), one.at("z"), one.at("order"));
    EXPECT_NEAR(got, exact, 1e-12 * exact) << one;
  }
}

// Quadrature between whole orders must join the finite sums at them.
TEST(Rdp, QuadratureMeetsTheFiniteSumAtWholeOrders) {
  for (const auto& [q, z] :
       {std::pair(0.01, 1.0), {1e-6, 0.8}, {0.5, 0.1}, {0.2, 6.0}, {0.9, 0.05}}) {
    for (const double order : {2.0, 3.0, 5.0}) {
      const double at = sampled_gaussian_rdp(q, z, order);
      const double near = sampled_gaussian_rdp(q, z, order * (1 + 1e-9));
      EXPECT_NEAR(near, at, 1e-6 * at) << q << " " << z << " " << order;
    }
  }
}

TEST(Rdp, RisesInOrderAndRateAndFallsInNoise) {
  const auto orders = default_orders();
  for (const double q : {1e-4, 0.01, 0.3, 1.0}) {
    double before = 0.0;
    for (const double order : orders) {
      const double here = sampled_gaussian_rdp(q, 0.9, order);
      EXPECT_GE(here, before * (1 - 1e-12)) << q << " " << order;
      EXPECT_LT(sampled_gaussian_rdp(q, 1.0, order), here);
      if (q < 1.0) {
        EXPECT_LT(here, sampled_gaussian_rdp(1.0, 0.9, order));
      }
      before = here;
    }
  }
}

TEST(RdpGolden, EpsilonsAtWholeOrdersAreThoseOfTheLibrary) {
  std::size_t cases = 0;
  for (const char* section : {"poisson_gaussian", "gaussian", "compositions"}) {
    for (const auto& one : golden(section)) {
      SCOPED_TRACE(one.dump());
      const double expected = one.at("rdp_integer_orders");
      const double whole = rdp_of(phases_of(one), one.at("delta"), integer_orders());
      EXPECT_NEAR(whole, expected, 1e-10 * expected);
      auto curve = rdp_curve(composed(phases_of(one)), integer_orders());
      ASSERT_TRUE(curve);
      const auto bound = rdp_epsilon(*curve, {one.at("delta").get<double>()});
      if (expected > 0.0) {
        EXPECT_EQ(bound.order, one.at("rdp_integer_order").get<double>());
      }
      // With the fractions: never worse, and near what the library and opacus find on their finer
      // grids of fractions.
      const double all = rdp_of(phases_of(one), one.at("delta"));
      EXPECT_LE(all, whole);
      EXPECT_LE(all, 1.02 * one.at("dpacc_rdp").get<double>() + 0.02);
      EXPECT_GE(all, one.at("opacus_rdp").get<double>() * (1 - 1e-3));
      EXPECT_GE(all, lower_bound_of(one));
      ++cases;
    }
  }
  EXPECT_EQ(cases, 74u);
}

TEST(RdpGolden, LaplaceAddsUpAsInTheLibrary) {
  for (const auto& one : golden("mixed_mechanisms")) {
    const double all = rdp_of(phases_of(one), one.at("delta"));
    const double expected = one.at("dpacc_rdp");
    EXPECT_NEAR(all, expected, 0.01 * expected) << one;
    if (phases_of(one).front().mechanism == Mechanism::kLaplace) {
      EXPECT_NEAR(all, expected, 1e-6 * expected) << one;
    }
  }
}

TEST(RdpGolden, ConversionIsTheImprovedOneWithItsShortcut) {
  for (const auto& one : golden("rdp_conversion")) {
    const RdpCurve curve{one.at("orders"), one.at("rdp")};
    const auto bound = rdp_epsilon(curve, {one.at("delta").get<double>()});
    EXPECT_NEAR(bound.epsilon.value, one.at("eps_library").get<double>(), 1e-12) << one;
    EXPECT_LT(bound.epsilon.value, one.at("eps_2017_formula").get<double>());
    if (one.at("kl_shortcut_applies").get<bool>()) {
      EXPECT_EQ(bound.epsilon.value, 0.0);
    } else {
      EXPECT_EQ(bound.order, one.at("order").get<double>());
    }
  }
}

TEST(RdpGolden, DeltasAtWholeOrdersAreThoseOfTheLibrary) {
  for (const auto& one : golden("delta_at_eps")) {
    const auto curve = rdp_curve(composed(phases_of(one)), integer_orders());
    ASSERT_TRUE(curve);
    const double expected = one.at("delta_rdp_integer_orders");
    EXPECT_NEAR(rdp_delta(*curve, {one.at("eps").get<double>()}).delta.value, expected,
                1e-10 * expected);
  }
}

TEST(Rdp, ABestOrderAtTheEdgeIsSaid) {
  const auto curve = [](double z, double q, std::vector<double> orders) {
    return *rdp_curve(composed({Phase::gaussian(z, q, 100)}), orders);
  };
  EXPECT_TRUE(rdp_epsilon(curve(50.0, 0.1, {2, 3, 4}), {1e-5}).at_edge);
  EXPECT_EQ(rdp_epsilon(curve(50.0, 0.1, {2, 3, 4}), {1e-5}).order, 4.0);
  EXPECT_TRUE(rdp_epsilon(curve(0.2, 0.9, {5, 6, 7}), {1e-5}).at_edge);
  const auto bound = rdp_epsilon(*rdp_curve(composed({Phase::gaussian(1.0, 0.01, 1000)})), {1e-5});
  EXPECT_FALSE(bound.at_edge);
  EXPECT_TRUE(rdp_epsilon(*rdp_curve(composed({Phase::gaussian(900.0, 1.0, 1)})), {1e-9}).at_edge);
}

TEST(RdpGolden, WithoutReplacementIsTheBoundOfWangAndOthers) {
  std::size_t cases = 0;
  for (const auto& one : golden("replace_one")) {
    if (one.at("sampling") != "fixed_size_without_replacement") continue;
    RdpCurve curve;
    for (const double order : integer_orders()) {
      curve.orders.push_back(order);
      curve.rho.push_back(
          one.at("steps").get<double>() *
          without_replacement_rdp(one.at("q"), one.at("z"), static_cast<int>(order)));
    }
    const double expected = one.at("rdp_integer_orders");
    EXPECT_NEAR(rdp_epsilon(curve, {one.at("delta").get<double>()}).epsilon.value, expected,
                1e-9 * expected);
    ++cases;
  }
  EXPECT_EQ(cases, 4u);
}

TEST(RdpGolden, ConcentratedPrivacyIsConvertedAtTheBestRealOrder) {
  for (const auto& one : golden("zcdp_to_dp")) {
    const auto bound = zcdp_epsilon(one.at("rho"), {one.at("delta").get<double>()});
    const double expected = one.at("eps_best_order");
    EXPECT_NEAR(bound.epsilon.value, expected, 1e-12 * expected);
    EXPECT_NEAR(bound.order, one.at("order").get<double>(), 1e-5);
    EXPECT_LT(bound.epsilon.value, one.at("eps_simple").get<double>());
  }
}

TEST(SelectionGolden, ChargesForTheRunsThatWereNotPublished) {
  for (const auto& one : golden("repeat_and_select")) {
    const auto run = rdp_curve(composed(phases_of(one)), integer_orders());
    ASSERT_TRUE(run);
    const auto all = repeat_and_select(*run, one.at("mean_runs"), one.at("shape"));
    ASSERT_TRUE(all);
    const Delta delta{one.at("delta").get<double>()};
    EXPECT_NEAR(rdp_epsilon(*run, delta).epsilon.value, one.at("one_run").get<double>(), 1e-9);
    EXPECT_NEAR(rdp_epsilon(*all, delta).epsilon.value, one.at("rdp_integer_orders").get<double>(),
                1e-9);
  }
}

TEST(Selection, CostsMoreForMoreRunsAndRefusesNonsense) {
  const auto run = *rdp_curve(composed({Phase::gaussian(1.0, 0.01, 1000)}));
  double before = rdp_epsilon(run, {1e-5}).epsilon.value;
  for (const double mean : {1.5, 3.0, 10.0, 1000.0}) {
    const double here = rdp_epsilon(*repeat_and_select(run, mean, 0.0), {1e-5}).epsilon.value;
    EXPECT_GT(here, before) << mean;
    before = here;
  }
  EXPECT_FALSE(repeat_and_select(run, 1.0, 1.0));
  EXPECT_FALSE(repeat_and_select(run, 10.0, -1.0));
  EXPECT_FALSE(repeat_and_select(run, std::numeric_limits<double>::quiet_NaN(), 1.0));
}

// The divergence of the Poisson-sampled discrete Gaussian by summing over the lattice.
double summed_divergence(double sigma, const std::vector<int>& shift, double q, int order) {
  const auto weight = [&](double x) { return std::exp(-0.5 * x * x / (sigma * sigma)); };
  const int reach = static_cast<int>(40 * sigma) + 60;
  double norm = 0.0;
  for (int x = -reach; x <= reach; ++x) norm += weight(x);
  double out = 0.0;
  const auto term = [&](double base, double exponent) {
    out += base * std::pow(1 - q + q * std::exp(exponent / (sigma * sigma)), order);
  };
  const double v = shift[0];
  if (shift.size() == 1) {
    for (int x = -reach; x <= reach; ++x) term(weight(x) / norm, x * v - 0.5 * v * v);
  } else {
    const double w = shift[1];
    for (int x = -reach; x <= reach; ++x)
      for (int y = -reach; y <= reach; ++y)
        term(weight(x) * weight(y) / (norm * norm), x * v + y * w - 0.5 * (v * v + w * w));
  }
  return std::log(out) / (order - 1);
}

TEST(DiscreteGolden, HasExactlyTheDivergenceOfTheContinuousGaussianAtWholeOrders) {
  for (const auto& one : golden("discrete_gaussian_moments")) {
    const std::vector<int> shift = one.at("shift");
    double squared = 0.0;
    for (const int v : shift) squared += v * v;
    const int order = one.at("order");
    const double sigma = one.at("sigma_grid");
    const double stated = discrete_gaussian_rdp(sigma, squared, one.at("q"), order);
    EXPECT_NEAR(stated, one.at("rdp_discrete_by_summation").get<double>(), 1e-12 * stated);
    EXPECT_NEAR(stated, one.at("rdp_continuous_formula").get<double>(), 1e-12 * stated);
    EXPECT_NEAR(stated, summed_divergence(sigma, shift, one.at("q"), order), 1e-9 * stated);
  }
}

TEST(DiscreteSlack, IsWhatTheGridCostsAndCoversTheTotalVariation) {
  const auto slack =
      discrete_slack({.bits = 20, .noise_multiplier = 1.0, .dimension = 1e6}, 1000, {1.0});
  EXPECT_NEAR(slack.value, 2.7e-8 * (1 + std::exp(1.0)), 0.02 * slack.value);
  const auto finer =
      discrete_slack({.bits = 24, .noise_multiplier = 1.0, .dimension = 1e6}, 1000, {1.0});
  EXPECT_NEAR(slack.value / finer.value, 256.0, 1e-6);
  EXPECT_EQ((NoiseGrid{.bits = 20, .noise_multiplier = 1.0 + 1e-9}).deviation(), 1048577.0);
  // One coordinate, one release: the variation between the discrete Gaussian and the continuous one
  // rounded to whole numbers.
  const double s = 4.0;
  double norm = 0.0;
  for (int x = -200; x <= 200; ++x) norm += std::exp(-0.5 * x * x / (s * s));
  double variation = 0.0;
  for (int x = -200; x <= 200; ++x) {
    const double rounded = 0.5 * (std::erfc((x - 0.5) / (s * std::sqrt(2.0))) -
                                  std::erfc((x + 0.5) / (s * std::sqrt(2.0))));
    variation += 0.5 * std::abs(std::exp(-0.5 * x * x / (s * s)) / norm - rounded);
  }
  const double bound =
      discrete_slack({.bits = 0, .noise_multiplier = s, .dimension = 1}, 1, {0.0}).value / 2;
  EXPECT_LE(variation, bound);
  EXPECT_GE(variation, 0.3 * bound);
}

}  // namespace
}  // namespace strata::privacy
