// The pld accountant against dp-accounting 0.6.0 (tests/golden/privacy/epsilon.json): its
// connect-the-dots numbers at the same mesh, its lower bounds, and closed formulas.
#include "golden.h"

namespace strata::privacy {
namespace {

constexpr PldOptions kFine{.mesh = 1e-4};  // as in the file
constexpr double kClose = 1e-5;            // asked for is 1e-4; what was measured is 4e-6

struct Tally {
  std::size_t cases = 0;
  std::size_t with_lower = 0;
};

// Every case of a section, at the file's mesh and at the mesh of the default tolerance.
Tally follow(const std::string& section) {
  Tally tally;
  for (const auto& one : golden(section)) {
    if (!one.contains("dpacc_pld")) continue;
    SCOPED_TRACE(one.dump());
    const auto phases = phases_of(one);
    const double delta = one.at("delta");
    const double fine = pld_of(phases, delta, adjacency_of(one), kFine);
    const double usual = pld_of(phases, delta, adjacency_of(one));
    EXPECT_NEAR(fine, one.at("dpacc_pld").get<double>(), kClose);
    // The mesh of the tolerance: never below a much finer one, and no more than it above.
    const double truth =
        one.contains("dpacc_pld_fine") ? one.at("dpacc_pld_fine").get<double>() : fine;
    EXPECT_GE(usual, truth - kClose);
    EXPECT_LE(usual, truth + PldOptions{}.tolerance);
    EXPECT_GE(fine, lower_bound_of(one));
    EXPECT_GE(usual, lower_bound_of(one));
    if (one.contains("dpacc_rdp") && one["dpacc_rdp"].is_number()) {
      EXPECT_LE(usual, one["dpacc_rdp"].get<double>());
    }
    tally.with_lower += lower_bound_of(one) > 0.0 ? 1 : 0;
    ++tally.cases;
  }
  return tally;
}

TEST(PldGolden, FollowsDpAccountingOnPoissonSampledGaussians) {
  const Tally tally = follow("poisson_gaussian");
  EXPECT_EQ(tally.cases, 59u);
  EXPECT_GT(tally.with_lower, 50u);
}

TEST(PldGolden, FollowsDpAccountingOnHeterogeneousPhases) {
  EXPECT_EQ(follow("compositions").cases, 6u);
}

TEST(PldGolden, FollowsDpAccountingOnGaussiansWithLaplace) {
  EXPECT_EQ(follow("mixed_mechanisms").cases, 4u);
}

TEST(PldGolden, FollowsDpAccountingOnSwappedRecords) { EXPECT_EQ(follow("replace_one").cases, 6u); }

TEST(PldGolden, FullBatchesAreExactAndRoundedUp) {
  std::size_t exact = 0;
  for (const char* section : {"gaussian", "replace_one"}) {
    for (const auto& one : golden(section)) {
      if (!one.contains("exact")) continue;
      SCOPED_TRACE(one.dump());
      const double epsilon = pld_of(phases_of(one), one.at("delta"), adjacency_of(one));
      EXPECT_GE(epsilon, one.at("exact").get<double>() * (1 - 1e-13));
      EXPECT_LE(epsilon, one.at("exact").get<double>() + 1e-9);
      EXPECT_GE(epsilon, lower_bound_of(one));
      ++exact;
    }
  }
  EXPECT_EQ(exact, 11u);
}

TEST(PldGolden, FollowsDpAccountingAtEveryMesh) {
  for (const auto& one : golden("pld_mesh")) {
    SCOPED_TRACE(one.dump());
    const double epsilon = pld_of(phases_of(one), one.at("delta"), Adjacency::kAddRemove,
                                  {.mesh = one.at("interval")});
    EXPECT_NEAR(epsilon, one.at("pld_connect_dots").get<double>(), kClose);
    if (one.at("pld_bucket_upper").is_number()) {
      EXPECT_LT(epsilon, one.at("pld_bucket_upper").get<double>());
    }
    if (one.at("pld_lower").is_number()) {
      EXPECT_GT(epsilon, one.at("pld_lower").get<double>());
    }
  }
}

TEST(PldGolden, DeltasFollowDpAccounting) {
  for (const auto& one : golden("delta_at_eps")) {
    SCOPED_TRACE(one.dump());
    const auto fine = pld_delta(composed(phases_of(one)), {one.at("eps")}, kFine);
    const auto usual = pld_delta(composed(phases_of(one)), {one.at("eps")});
    ASSERT_TRUE(fine && usual);
    const double expected = one.at("delta_pld");
    EXPECT_NEAR(fine->delta.value, expected, 1e-6 * expected);
    EXPECT_GE(usual->delta.value, fine->delta.value * (1 - 1e-6));
    EXPECT_LE(usual->delta.value, 1.01 * expected);
    if (one.at("exact").is_number()) {
      EXPECT_NEAR(fine->delta.value, one.at("exact").get<double>(), 1e-12);
    }
  }
}

// Draws of tests/oracle/privacy_oracle.py that no constant of the accountant was chosen by.
TEST(PldGolden, HoldsOnDrawnCases) {
  const auto file = golden_file("held_out.json");
  EXPECT_GE(file.at("cases").size(), 38u);
  std::size_t lower = 0;
  for (const auto& one : file.at("cases")) {
    SCOPED_TRACE(one.dump());
    std::vector<Phase> phases;
    for (const auto& p : one.at("phases")) {
      if (p.contains("laplace_scale"))
        phases.push_back(Phase::laplace(p.at("laplace_scale"), p.at("steps")));
      else
        phases.push_back(
            Phase::gaussian(p.at("noise_multiplier"), p.at("sampling_rate"), p.at("steps")));
    }
    const double expected = one.at("pld");
    const double fine = pld_of(phases, one.at("delta"), adjacency_of(one), kFine);
    const double usual = pld_of(phases, one.at("delta"), adjacency_of(one));
    // Near delta 1e-9 the library's own FFT moves its epsilon by 3e-5 from one mesh to the next.
    EXPECT_NEAR(fine, expected, one.at("delta").get<double>() < 1e-8 ? 1e-4 : kClose);
    EXPECT_GE(usual, expected - 2e-4);  // the library's own mesh lies at most so far up
    EXPECT_LE(usual, expected + PldOptions{}.tolerance);
    if (!one.contains("pld_lower")) continue;
    EXPECT_GE(usual, one.at("pld_lower").get<double>());
    const double renyi = rdp_of(phases, one.at("delta"), integer_orders());
    EXPECT_NEAR(renyi, one.at("rdp_integer_orders").get<double>(), 1e-9 * renyi);
    EXPECT_LE(usual, rdp_of(phases, one.at("delta")));
    ++lower;
  }
  EXPECT_GE(lower, 25u);
}

}  // namespace
}  // namespace strata::privacy
