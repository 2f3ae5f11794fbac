// The seam: every accountant of the registry keeps the same promises, and says no in one line.
#include "privacy/accountant/accountant.h"

#include <limits>
#include <random>

#include "golden.h"
#include "privacy/accountant/adaptive_clip.h"
#include "privacy/accountant/analytic_gaussian.h"
#include "privacy/accountant/audit_bound.h"
#include "privacy/accountant/calibrate.h"

namespace strata::privacy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class EveryAccountant : public testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    auto made = make_accountant(GetParam());
    ASSERT_TRUE(made);
    accountant_ = std::move(*made);
  }
  [[nodiscard]] double epsilon(const std::vector<Phase>& phases, double delta = 1e-6,
                               Adjacency adjacency = Adjacency::kAddRemove) const {
    auto out = accountant_->epsilon(phases, adjacency, {delta});
    EXPECT_TRUE(out) << out.error().line();
    return out ? out->epsilon.value : kNan;
  }
  [[nodiscard]] std::string refusal(const std::vector<Phase>& phases, double delta = 1e-6) const {
    auto out = accountant_->epsilon(phases, Adjacency::kAddRemove, {delta});
    EXPECT_FALSE(out);
    return out ? "" : out.error().line();
  }

  std::unique_ptr<Accountant> accountant_;
};

TEST_P(EveryAccountant, EdgesAreZeroOrInfinite) {
  const auto one = [](double z, double q, double steps) {
    return std::vector{Phase::gaussian(z, q, steps)};
  };
  EXPECT_EQ(epsilon({}), 0.0);
  EXPECT_EQ(epsilon(one(1.0, 0.0, 100)), 0.0);
  EXPECT_EQ(epsilon(one(1.0, 0.1, 0)), 0.0);
  EXPECT_EQ(epsilon(one(kInfinity, 0.1, 100)), 0.0);
  EXPECT_EQ(epsilon(one(0.0, 0.1, 100)), kInfinity);
  EXPECT_EQ(epsilon(one(0.0, 0.0, 100)), 0.0);
  EXPECT_EQ(epsilon({Phase::laplace(0.0, 1)}), kInfinity);
  EXPECT_EQ(epsilon({Phase::laplace(kInfinity, 1)}), 0.0);
  // What costs nothing changes nothing.
  EXPECT_EQ(epsilon({Phase::gaussian(1.0, 0.1, 10), Phase::gaussian(1.0, 0.0, 10),
                     Phase::gaussian(0.0, 0.1, 0)}),
            epsilon(one(1.0, 0.1, 10)));
  const auto delta = [&](const std::vector<Phase>& phases, double eps) {
    return accountant_->delta(phases, Adjacency::kAddRemove, {eps})->delta.value;
  };
  EXPECT_EQ(delta({}, 1.0), 0.0);
  EXPECT_EQ(delta(one(0.0, 0.1, 1), 1.0), 1.0);
  EXPECT_LE(delta(one(0.3, 0.5, 100), 0.0), 1.0);
  EXPECT_EQ(delta(one(1.0, 0.1, 10), kInfinity), 0.0);
}

TEST_P(EveryAccountant, ValuesOutOfRangeAreOneClearError) {
  const std::vector<Phase> sound{Phase::gaussian(1.0, 0.1, 10)};
  for (const double delta : {0.0, 1.0, 1.5, -1e-6, kNan, kInfinity}) {
    auto out = accountant_->epsilon(sound, Adjacency::kAddRemove, {delta});
    ASSERT_FALSE(out) << delta;
    EXPECT_EQ(out.error().code, ErrorCode::kConfig);
    EXPECT_NE(out.error().line().find("0 < delta < 1"), std::string::npos);
    EXPECT_FALSE(out.error().remedy.empty());
  }
  const std::vector<std::pair<Phase, std::string>> bad{
      {Phase::gaussian(-1.0, 0.1, 10), "noise multiplier is -1"},
      {Phase::gaussian(kNan, 0.1, 10), "noise multiplier is nan"},
      {Phase::gaussian(1.0, -0.1, 10), "sampling rate is -0.1"},
      {Phase::gaussian(1.0, 1.01, 10), "sampling rate is 1.01"},
      {Phase::gaussian(1.0, kNan, 10), "sampling rate is nan"},
      {Phase::gaussian(1.0, 0.1, -1), "releases is -1"},
      {Phase::gaussian(1.0, 0.1, 1.5), "releases is 1.5"},
      {Phase::gaussian(1.0, 0.1, kInfinity), "releases is inf"},
      {Phase::gaussian(1.0, 0.1, kNan), "releases is nan"},
      {Phase::laplace(-2.0, 1), "Laplace scale is -2"},
      {Phase{Mechanism::kLaplace, 1.0, 0.5, 1}, "sampling rate of a Laplace release is 0.5"}};
  for (const auto& [phase, what] : bad) {
    const std::string line = refusal({sound[0], phase});
    EXPECT_NE(line.find(what), std::string::npos) << line;
  }
  for (const double eps : {-0.1, kNan})
    EXPECT_FALSE(accountant_->delta(sound, Adjacency::kAddRemove, {eps})) << eps;
}

TEST_P(EveryAccountant, IsMonotoneAndCountsEveryRelease) {
  EXPECT_GT(epsilon({Phase::gaussian(1.0, 0.01, 101)}), epsilon({Phase::gaussian(1.0, 0.01, 100)}));
  EXPECT_GT(epsilon({Phase::gaussian(1.0, 0.011, 100)}),
            epsilon({Phase::gaussian(1.0, 0.01, 100)}));
  EXPECT_LT(epsilon({Phase::gaussian(1.01, 0.01, 100)}),
            epsilon({Phase::gaussian(1.0, 0.01, 100)}));
  EXPECT_LT(epsilon({Phase::gaussian(1.0, 0.01, 100)}, 1e-5),
            epsilon({Phase::gaussian(1.0, 0.01, 100)}, 1e-6));
  EXPECT_GT(epsilon({Phase::gaussian(1.0, 0.01, 100), Phase::laplace(50, 1)}),
            epsilon({Phase::gaussian(1.0, 0.01, 100)}));
}

TEST_P(EveryAccountant, FullBatchesAreNeverBelowTheAnalyticGaussian) {
  for (const double z : {0.3, 1.0, 7.0}) {
    for (const double delta : {1e-3, 1e-6, 1e-9}) {
      EXPECT_GE(epsilon({Phase::gaussian(z, 1.0, 4)}, delta),
                gaussian_epsilon(2.0 / z, {delta}).value * (1 - 1e-12));
    }
  }
}

TEST_P(EveryAccountant, CalibratesToNoiseThatKeepsTheTarget) {
  for (const auto& one : golden("calibration")) {
    SCOPED_TRACE(one.dump());
    const NoiseTarget target{.epsilon = {one.at("target_eps").get<double>()},
                             .delta = {one.at("delta").get<double>()},
                             .rate = one.at("q"),
                             .releases = one.at("steps")};
    auto found = calibrate(*accountant_, Adjacency::kAddRemove, target);
    ASSERT_TRUE(found) << found.error().line();
    EXPECT_LE(found->at.epsilon.value, target.epsilon.value);
    EXPECT_EQ(found->at.epsilon.value,
              epsilon({Phase::gaussian(found->noise_multiplier, target.rate, target.releases)},
                      target.delta.value));
    // Two last digits less would not do.
    const double less = found->noise_multiplier - 2e-4;
    EXPECT_GT(epsilon({Phase::gaussian(less, target.rate, target.releases)}, target.delta.value),
              target.epsilon.value);
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryAccountant, testing::Values("pld", "rdp"),
                         [](const auto& value) { return std::string(value.param); });

TEST(Registry, NamesItsAccountantsAndRefusesOthers) {
  std::vector<std::string_view> names;
  for (const auto& entry : accountants()) names.push_back(entry.name);
  EXPECT_EQ(names, (std::vector<std::string_view>{"pld", "rdp"}));
  const auto unknown = make_accountant("gdp");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().line().find("one of: pld rdp"), std::string::npos);
  EXPECT_FALSE(make_accountant("pld", {.eps_tolerance = 0.0}));
  EXPECT_FALSE(make_accountant("pld", {.eps_tolerance = kNan}));
}

TEST(Pld, RefusesADeltaBelowItsPrecision) {
  const std::vector<Phase> phases{Phase::gaussian(1.0, 0.1, 10)};
  const auto pld = *make_accountant("pld");
  const auto refused = pld->epsilon(phases, Adjacency::kAddRemove, {9.9e-12});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().line().find("1e-11"), std::string::npos);
  EXPECT_TRUE(pld->epsilon(phases, Adjacency::kAddRemove, {1e-11}));
  EXPECT_TRUE((*make_accountant("rdp"))->epsilon(phases, Adjacency::kAddRemove, {1e-20}));
}

TEST(Rdp, RefusesSwappedRecordsInSampledBatches) {
  const auto rdp = *make_accountant("rdp");
  const std::vector<Phase> sampled{Phase::gaussian(1.0, 0.1, 10)};
  const auto refused = rdp->epsilon(sampled, Adjacency::kReplaceOne, {1e-6});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().line().find("pld"), std::string::npos);
  EXPECT_FALSE(rdp->delta(sampled, Adjacency::kReplaceOne, {1.0}));
  EXPECT_TRUE(
      rdp->epsilon(std::vector{Phase::gaussian(1.0, 1.0, 10)}, Adjacency::kReplaceOne, {1e-6}));
}

// The file's noise is at a fixed mesh of 1e-3 for the loss distributions, whole orders for Renyi.
class AtMesh final : public Accountant {
 public:
  [[nodiscard]] Result<Statement> epsilon(std::span<const Phase> phases, Adjacency adjacency,
                                          Delta delta) const override {
    return pld_epsilon(*compose(phases, adjacency), delta, {.mesh = 1e-3}).map([](const auto& b) {
      return Statement{.epsilon = b.epsilon, .delta = b.delta};
    });
  }
  [[nodiscard]] Result<Statement> delta(std::span<const Phase>, Adjacency, Epsilon) const override {
    return Statement{};
  }
};

class WholeOrders final : public Accountant {
 public:
  [[nodiscard]] Result<Statement> epsilon(std::span<const Phase> phases, Adjacency adjacency,
                                          Delta delta) const override {
    const auto bound =
        rdp_epsilon(*rdp_curve(*compose(phases, adjacency), integer_orders()), delta);
    return Statement{.epsilon = bound.epsilon, .delta = bound.delta};
  }
  [[nodiscard]] Result<Statement> delta(std::span<const Phase>, Adjacency, Epsilon) const override {
    return Statement{};
  }
};

TEST(CalibrationGolden, FindsTheNoiseThatTheLibraryFinds) {
  std::size_t compared = 0;
  for (const auto& one : golden("calibration")) {
    SCOPED_TRACE(one.dump());
    const NoiseTarget target{.epsilon = {one.at("target_eps").get<double>()},
                             .delta = {one.at("delta").get<double>()},
                             .rate = one.at("q"),
                             .releases = one.at("steps")};
    const auto close = [&](const Accountant& accountant, const char* key) {
      if (!one.contains(key)) return;
      const auto found = calibrate(accountant, Adjacency::kAddRemove, target);
      ASSERT_TRUE(found);
      // The library stops at 1e-4 of epsilon; ours is rounded up to the fourth decimal.
      EXPECT_NEAR(found->noise_multiplier, one.at(key).get<double>(), 2e-4) << key;
      EXPECT_LE(found->at.epsilon.value, target.epsilon.value);
      ++compared;
    };
    close(AtMesh{}, "z_pld_interval_1e3");
    close(WholeOrders{}, "z_rdp_integer_orders");
    close(AtMesh{}, "z_exact");
    // The usual mesh is finer: never more noise.
    if (!one.contains("z_pld_interval_1e3")) continue;
    const auto usual = calibrate(**make_accountant("pld"), Adjacency::kAddRemove, target);
    ASSERT_TRUE(usual);
    EXPECT_LE(usual->noise_multiplier, one.at("z_pld_interval_1e3").get<double>() + 2e-4);
  }
  EXPECT_EQ(compared, 23u);
}

TEST(Calibrate, SwappedRecordsNeedTwiceTheNoiseOnFullBatches) {
  const auto pld = *make_accountant("pld");
  const NoiseTarget target{.epsilon = {1.0}, .delta = {1e-6}, .rate = 1.0, .releases = 16};
  const auto removed = calibrate(*pld, Adjacency::kAddRemove, target);
  const auto swapped = calibrate(*pld, Adjacency::kReplaceOne, target);
  ASSERT_TRUE(removed && swapped);
  EXPECT_NEAR(swapped->noise_multiplier, 2 * removed->noise_multiplier, 3e-4);
}

TEST(Calibrate, RefusesTargetsThatCannotBe) {
  const auto pld = *make_accountant("pld");
  const auto at = [&](double eps, double delta, double q = 0.1, double steps = 10) {
    return calibrate(*pld, Adjacency::kAddRemove, {{eps}, {delta}, q, steps});
  };
  for (const double eps : {0.0, -1.0, kNan, kInfinity}) EXPECT_FALSE(at(eps, 1e-6)) << eps;
  EXPECT_FALSE(at(1.0, 0.0));
  EXPECT_FALSE(at(1.0, 1e-6, 1.5));
  EXPECT_FALSE(at(1e-9, 1e-10, 1.0, 1e9));
  const auto nothing = at(1.0, 1e-6, 0.0);
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->noise_multiplier, 0.0);
}

TEST(AdaptiveClipGolden, SplitsTheCharge) {
  for (const auto& one : golden("adaptive_clip_split")) {
    const auto split = adaptive_clip_split(one.at("z_charged"), one.at("sigma_b"));
    ASSERT_TRUE(split);
    EXPECT_NEAR(*split, one.at("z_delta_to_add").get<double>(), 1e-12);
    // Both together are one Gaussian of the charged multiplier.
    const double bits = 2.0 * one.at("sigma_b").get<double>();
    EXPECT_NEAR(1 / (*split * *split) + 1 / (bits * bits),
                std::pow(one.at("z_charged").get<double>(), -2.0), 1e-12);
  }
  EXPECT_FALSE(adaptive_clip_split(1.0, 0.5));
  EXPECT_FALSE(adaptive_clip_split(0.0, 0.5));
  EXPECT_FALSE(adaptive_clip_split(kNan, 0.5));
  EXPECT_FALSE(adaptive_clip_split(1.0, kInfinity));
}

TEST(AuditGolden, LowerBoundsAreThoseOfTheOneRunAudit) {
  for (const auto& one : golden("one_run_audit")) {
    const AuditCount count{one.at("canaries"), one.at("guesses"), one.at("correct")};
    const auto bound = audit_lower_bound(count, {one.at("delta").get<double>()},
                                         1.0 - one.at("beta").get<double>());
    ASSERT_TRUE(bound);
    EXPECT_NEAR(bound->value, one.at("eps_lower").get<double>(), 1e-7) << one;
  }
}

TEST(Audit, RisesWithRightGuessesAndFallsWithDelta) {
  const auto at = [](std::int64_t correct, double delta, double confidence = 0.95) {
    return audit_lower_bound({1000, 500, correct}, {delta}, confidence)->value;
  };
  EXPECT_EQ(at(250, 0.0), 0.0);
  EXPECT_EQ(at(0, 1e-5), 0.0);
  EXPECT_LT(at(350, 0.0), at(400, 0.0));
  EXPECT_LT(at(400, 1e-4), at(400, 0.0));
  EXPECT_LT(at(400, 0.0, 0.99), at(400, 0.0, 0.9));
  EXPECT_GT(at(500, 0.0), 5.0);
  EXPECT_FALSE(audit_lower_bound({10, 20, 5}, {0.0}, 0.95));
  EXPECT_FALSE(audit_lower_bound({10, 0, 0}, {0.0}, 0.95));
  EXPECT_FALSE(audit_lower_bound({10, 5, 6}, {0.0}, 0.95));
  EXPECT_FALSE(audit_lower_bound({10, 5, 5}, {-0.1}, 0.95));
  EXPECT_FALSE(audit_lower_bound({10, 5, 5}, {0.0}, 1.0));
}

TEST(AnalyticGaussian, IsNotTheTextbookFormula) {
  for (const auto& one : golden("calibration")) {
    if (!one.contains("z_exact")) continue;
    const double z = one.at("z_exact");
    const Epsilon eps{one.at("target_eps").get<double>()};
    EXPECT_NEAR(gaussian_delta(1 / z, eps).value, one.at("delta").get<double>(),
                1e-9 * one.at("delta").get<double>());
  }
  EXPECT_GT(gaussian_delta(1 / 0.24224026313026945, {20.0}).value, 1e-5);
  EXPECT_NEAR(gaussian_delta(1.0, {0.0}).value, std::erf(0.5 / std::sqrt(2.0)), 1e-15);
  EXPECT_TRUE(std::isfinite(gaussian_epsilon(500.0, {1e-6}).value));
  EXPECT_EQ(gaussian_epsilon(1e-9, {1e-6}).value, 0.0);
}

}  // namespace
}  // namespace strata::privacy
