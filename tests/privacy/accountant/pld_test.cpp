// What must hold of the pld accountant whatever the numbers are: directions of rounding,
// monotonicity, identities.
#include <array>
#include <limits>
#include <random>

#include "golden.h"
#include "privacy/accountant/analytic_gaussian.h"
#include "privacy/accountant/loss_masses.h"

namespace strata::privacy {
namespace {

double normal_below(double x) { return normal_tail(-x); }

// delta(eps) of one release in closed form, each direction (docs of loss_masses.h).
double exact_curve(double q, double z, Direction direction, double eps) {
  const bool remove = direction == Direction::kRemove;
  const double argument = (std::exp(remove ? eps : -eps) - 1.0 + q) / q;
  if (argument <= 0.0) return remove ? 1.0 - std::exp(eps) : 0.0;
  const double x = z * z * std::log(argument) + 0.5;
  if (remove) {
    return (1 - q) * normal_tail(x / z) + q * normal_tail((x - 1) / z) -
           std::exp(eps) * normal_tail(x / z);
  }
  return normal_below(x / z) -
         std::exp(eps) * ((1 - q) * normal_below(x / z) + q * normal_below((x - 1) / z));
}

// The hockey-stick curve of masses, and their sum.
double curve_of(const LossMasses& losses, double eps) {
  double out = losses.infinity;
  for (std::size_t k = 0; k < losses.mass.size(); ++k) {
    const double loss = losses.lowest() + losses.mesh * static_cast<double>(k);
    if (loss > eps) out += losses.mass[k] * -std::expm1(eps - loss);
  }
  return out;
}

TEST(LossMasses, AgreeWithTheExactCurveOnTheGridAndLieAboveItBetween) {
  for (const auto& [q, z] :
       {std::pair(0.01, 1.0), {0.3, 0.5}, {0.001, 4.0}, {0.9, 2.0}, {1.0, 1.5}}) {
    for (const auto direction : {Direction::kRemove, Direction::kAdd}) {
      const double h = 0.01;
      const auto losses = sampled_gaussian_losses(q, z, direction, h);
      for (int i = -40; i <= 200; i += 3) {
        SCOPED_TRACE(testing::Message() << "q " << q << " z " << z << " at " << i);
        EXPECT_NEAR(curve_of(losses, i * h), exact_curve(q, z, direction, i * h), 2e-15);
        const double between = (i + 0.4) * h;
        EXPECT_GE(curve_of(losses, between) + 2e-15, exact_curve(q, z, direction, between));
      }
    }
  }
}

TEST(LossMasses, OfLaplaceAgreeWithItsCurveOnTheGrid) {
  const double b = 3.0;
  const auto losses = laplace_losses(b, 0.01);
  for (int i = -33; i <= 33; ++i) {
    const double exact = 1.0 - std::exp(0.5 * (0.01 * i - 1.0 / b));
    EXPECT_NEAR(curve_of(losses, 0.01 * i), exact, 2e-15) << i;
  }
  EXPECT_NEAR(curve_of(losses, 0.34), 0.0, 1e-15);
}

TEST(LossMasses, OfSwappedRecordsOnFullBatchesAreThoseOfTwiceTheMovement) {
  // As q goes to 1 the swapped pair becomes N(1) against N(-1).
  const auto swapped = swapped_gaussian_losses(1.0 - 1e-12, 2.0, 0.01);
  for (int i = -100; i <= 300; i += 7)
    EXPECT_NEAR(curve_of(swapped, 0.01 * i), exact_curve(1.0, 1.0, Direction::kRemove, 0.01 * i),
                1e-10);
}

TEST(Pld, OneReleaseIsItsExactCurveAndNeverBelow) {
  for (const auto& [q, z] : {std::pair(0.01, 1.0), {0.1, 0.7}, {0.5, 2.0}}) {
    for (const double eps : {0.05, 0.4, 1.3}) {
      const double exact = std::max(exact_curve(q, z, Direction::kRemove, eps),
                                    exact_curve(q, z, Direction::kAdd, eps));
      const auto got = pld_delta(composed({Phase::gaussian(z, q, 1)}), {eps}, {.mesh = 1e-4});
      ASSERT_TRUE(got);
      EXPECT_GE(got->delta.value, exact);
      EXPECT_LE(got->delta.value, exact * (1 + 1e-6) + 2e-14);
    }
  }
}

TEST(Pld, FullBatchesThroughTheGridAreTheAnalyticGaussianFromAbove) {
  // A Laplace release that tells nothing keeps the closed formula away.
  for (const double delta : {1e-3, 1e-6, 1e-10}) {
    const double exact = gaussian_epsilon(std::sqrt(3.0 / 4.0 + 5.0 / 9.0), {delta}).value;
    const double grid =
        pld_of({Phase::gaussian(2.0, 1.0, 3), Phase::gaussian(3.0, 1.0, 5), Phase::laplace(1e7, 1)},
               delta, Adjacency::kAddRemove, {.mesh = 1e-4});
    EXPECT_GE(grid, exact);
    EXPECT_LE(grid, exact + (delta < 1e-9 ? 5e-5 : 1e-5));  // 1e-14 are added to delta
    EXPECT_NEAR(pld_of({Phase::gaussian(2.0, 1.0, 3), Phase::gaussian(3.0, 1.0, 5)}, delta), exact,
                1e-9);
  }
}

TEST(Pld, ManyNearlyFullBatchesApproachTheAnalyticGaussian) {
  // Through the FFT's power and not through the closed formula.
  const double exact = gaussian_epsilon(std::sqrt(50.0) / 8.0, {1e-6}).value;
  const double grid =
      pld_of({Phase::gaussian(8.0, 1.0 - 1e-9, 50)}, 1e-6, Adjacency::kAddRemove, {.mesh = 1e-4});
  EXPECT_NEAR(grid, exact, 2e-5);
}

TEST(Pld, SplittingPhasesOrTheirOrderChangesNothing) {
  const double whole = pld_of({Phase::gaussian(1.1, 0.02, 900)}, 1e-6);
  const double split = pld_of({Phase::gaussian(1.1, 0.02, 400), Phase::gaussian(1.1, 0.02, 1),
                               Phase::gaussian(1.1, 0.02, 499)},
                              1e-6);
  EXPECT_NEAR(whole, split, 1e-9);
  // Noise that differs in the last digits is not merged and goes through the product of spectra.
  const double nearly = pld_of(
      {Phase::gaussian(1.1, 0.02, 400), Phase::gaussian(1.1 * (1 + 1e-13), 0.02, 500)}, 1e-6);
  EXPECT_NEAR(whole, nearly, 1e-9);
  const std::vector<Phase> ab{Phase::gaussian(1.1, 0.02, 400), Phase::laplace(20, 7),
                              Phase::gaussian(3.0, 1.0, 2)};
  EXPECT_DOUBLE_EQ(pld_of(ab, 1e-6), pld_of({ab[2], ab[1], ab[0]}, 1e-6));
}

TEST(Pld, EpsilonFallsInNoiseAndDeltaAndRisesInRateAndReleases) {
  for (const auto adjacency : {Adjacency::kAddRemove, Adjacency::kReplaceOne}) {
    const auto at = [&](double z, double q, double steps, double delta) {
      return pld_of({Phase::gaussian(z, q, steps)}, delta, adjacency);
    };
    double before = at(0.6, 0.02, 300, 1e-6);
    for (const double z : {0.601, 0.65, 0.8, 1.2, 2.0, 5.0, 20.0}) {
      const double here = at(z, 0.02, 300, 1e-6);
      EXPECT_LT(here, before) << z;
      before = here;
    }
    before = at(1.0, 0.02, 300, 1e-10);
    for (const double delta : {1.1e-10, 1e-9, 1e-6, 1e-5, 1e-3, 0.1}) {
      const double here = at(1.0, 0.02, 300, delta);
      EXPECT_LT(here, before) << delta;
      before = here;
    }
    before = at(1.0, 0.001, 300, 1e-6);
    for (const double q : {0.0011, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0}) {
      const double here = at(1.0, q, 300, 1e-6);
      EXPECT_GT(here, before) << q;
      before = here;
    }
    before = at(1.0, 0.02, 1, 1e-6);
    for (const double steps : {2, 3, 10, 11, 300, 301, 20000}) {
      const double here = at(1.0, 0.02, steps, 1e-6);
      EXPECT_GT(here, before) << steps;
      before = here;
    }
  }
}

TEST(Pld, DeltaOfEpsilonOfDeltaComesBack) {
  std::mt19937_64 draw(5);
  std::uniform_real_distribution<double> unit(0.0, 1.0);
  for (int i = 0; i < 25; ++i) {
    const auto c = composed({Phase::gaussian(
        0.5 + 4.0 * unit(draw), std::pow(10.0, -3 * unit(draw)), std::ceil(2000 * unit(draw)))});
    const double delta = std::pow(10.0, -2 - 7 * unit(draw));
    const PldOptions options{.mesh = 4e-4};
    const auto there = pld_epsilon(c, {delta}, options);
    ASSERT_TRUE(there);
    const auto back = pld_delta(c, there->epsilon, options);
    ASSERT_TRUE(back);
    EXPECT_NEAR(back->delta.value, delta, 1e-6 * delta) << "epsilon " << there->epsilon.value;
  }
}

// Bounds without the accountant: one release alone, in closed form, is not worse than all of them;
// Renyi and the full batch are not better.
TEST(Pld, RandomCasesLieBetweenOneReleaseAndRenyi) {
  std::mt19937_64 draw(7);
  std::uniform_real_distribution<double> unit(0.0, 1.0);
  for (int i = 0; i < 40; ++i) {
    const double q = std::pow(10.0, -3 * unit(draw));
    const double z = 0.4 + 6.0 * unit(draw) * unit(draw);
    const double steps = std::ceil(std::pow(10.0, 3.5 * unit(draw)));
    const double delta = std::pow(10.0, -3 - 6 * unit(draw));
    SCOPED_TRACE(testing::Message() << q << " " << z << " " << steps << " " << delta);
    const double epsilon = pld_of({Phase::gaussian(z, q, steps)}, delta);
    if (!(epsilon < 50.0)) continue;
    EXPECT_LE(epsilon, rdp_of({Phase::gaussian(z, q, steps)}, delta) + 1e-3);
    const double one = std::max(exact_curve(q, z, Direction::kRemove, epsilon),
                                exact_curve(q, z, Direction::kAdd, epsilon));
    EXPECT_LE(one, delta * (1 + 1e-9));
    // Sampling only helps: the full batch is exact and worse.
    EXPECT_LE(epsilon, gaussian_epsilon(std::sqrt(steps) / z, {delta}).value + 1e-3);
  }
}

// A swap moves the sum twice as far as a removal: at the same z it is the removal at z/2, not the
// same number and not a quarter.
TEST(Adjacency, SwappingARecordIsTwiceTheMovement) {
  const std::vector<Phase> full{Phase::gaussian(4.0, 1.0, 10)};
  const std::vector<Phase> half{Phase::gaussian(2.0, 1.0, 10)};
  EXPECT_DOUBLE_EQ(pld_of(full, 1e-5, Adjacency::kReplaceOne), pld_of(half, 1e-5));
  EXPECT_DOUBLE_EQ(rdp_of(full, 1e-5, default_orders(), Adjacency::kReplaceOne),
                   rdp_of(half, 1e-5));
  const std::vector<Phase> laplace{Phase::laplace(40.0, 30)};
  EXPECT_DOUBLE_EQ(pld_of(laplace, 1e-5, Adjacency::kReplaceOne),
                   pld_of({Phase::laplace(20.0, 30)}, 1e-5));
  EXPECT_DOUBLE_EQ(pld_of(full, 1e-5, Adjacency::kZeroOut), pld_of(full, 1e-5));
  // Sampled: between the removal at z and the removal at z/2, strictly.
  const std::vector<Phase> sampled{Phase::gaussian(2.0, 0.05, 500)};
  const double swapped = pld_of(sampled, 1e-5, Adjacency::kReplaceOne);
  EXPECT_GT(swapped, 1.5 * pld_of(sampled, 1e-5));
  EXPECT_LT(swapped, pld_of({Phase::gaussian(1.0, 0.05, 500)}, 1e-5));
  // The library's Renyi accountant takes z relative to the swap: the number it gives for the same
  // event is about half, and it is not ours.
  for (const auto& one : golden("replace_one")) {
    if (!one.contains("TRAP_dpacc_rdp_given_z_unhalved")) continue;
    EXPECT_GT(rdp_of(phases_of(one), one.at("delta"), default_orders(), Adjacency::kReplaceOne),
              1.9 * one.at("TRAP_dpacc_rdp_given_z_unhalved").get<double>());
  }
}

TEST(Pld, ToleranceIsKeptWhereLossesAreTiny) {
  // Spread 0.004 in all: a mesh of T h^2 alone would give ten times the epsilon.
  const std::vector<Phase> phases{Phase::gaussian(8.0, 0.001, 1000)};
  const double fine = pld_of(phases, 1e-5, Adjacency::kAddRemove, {.mesh = 2e-6});
  EXPECT_NEAR(pld_of(phases, 1e-5), fine, 1e-3);
  EXPECT_LT(fine, 0.02);
}

TEST(Pld, AYearOfManySmallStepsIsWithinToleranceOfAFinerMesh) {
  const std::vector<Phase> year{
      Phase::gaussian(1.0, 0.001, 91250), Phase::gaussian(1.1, 0.001, 91250),
      Phase::gaussian(1.2, 0.0012, 91250), Phase::gaussian(1.4, 0.0015, 91250)};
  const double usual = pld_of(year, 1e-6);
  const double fine = pld_of(year, 1e-6, Adjacency::kAddRemove, {.tolerance = 1e-4});
  EXPECT_GE(usual, fine);
  EXPECT_LE(usual, fine + 1e-3);
  EXPECT_LE(usual, rdp_of(year, 1e-6));
}

TEST(Pld, ExtremesAnswerWithABoundAndNotWithNonsense) {
  // Little noise: losses of thousands.
  const double rough = pld_of({Phase::gaussian(0.05, 0.01, 20)}, 1e-6);
  EXPECT_GT(rough, 100.0);
  EXPECT_LE(rough, rdp_of({Phase::gaussian(0.05, 0.01, 20)}, 1e-6));
  // So little that one loss is out of range: infinite is a bound.
  EXPECT_GT(pld_of({Phase::gaussian(0.01, 0.5, 1)}, 1e-6), 4000.0);
  // Hardly any loss, and ten million releases.
  EXPECT_LT(pld_of({Phase::gaussian(50.0, 1e-5, 1e7)}, 1e-6), 0.02);
  EXPECT_GT(pld_of({Phase::gaussian(1.0, 0.01, 1e6)}, 1e-6), 90.0);
  EXPECT_EQ(pld_of({Phase::gaussian(100.0, 1e-4, 1)}, 0.5), 0.0);
  // Almost no noise at all, alone and beside other releases, ends at once.
  for (const double z : {1e-3, 1e-5, 1e-200}) {
    for (const double q : {1e-6, 0.5, 1.0}) {
      EXPECT_GT(pld_of({Phase::gaussian(z, q, 3)}, 1e-6), 1e6);
      EXPECT_GT(rdp_of({Phase::gaussian(z, q, 3)}, 1e-6), 1e6);
      EXPECT_GT(pld_of({Phase::gaussian(z, q, 3), Phase::laplace(5, 1)}, 1e-6), 1e6);
    }
  }
  EXPECT_GT(pld_of({Phase::laplace(1e-5, 1)}, 1e-6), 9e4);
  EXPECT_LT(pld_of({Phase::gaussian(1e6, 0.01, 1e7)}, 1e-6), 1e-3);
  EXPECT_LT(pld_of({Phase::laplace(1e9, 1000)}, 1e-6), 1e-3);
}

}  // namespace
}  // namespace strata::privacy
