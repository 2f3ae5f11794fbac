// The audit of the trainer that trains in every run: right as it is, and with a mechanism that does
// not do what is claimed of it.
#include "cli/privacy_audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "cli/federation.h"
#include "privacy/accountant/accountant.h"
#include "privacy/accountant/calibrate.h"

namespace strata::cli {
namespace {

constexpr privacy::Delta kDelta{1e-5};

struct AuditOfTrainer : testing::Test {
  // `epsilon` over two rounds of two steps, each with half of the units.
  static AuditRequest request(double epsilon) {
    const auto pld = privacy::make_accountant("pld").value();
    const double z =
        privacy::calibrate(*pld, privacy::Adjacency::kAddRemove,
                           {.epsilon = {epsilon}, .delta = kDelta, .rate = 0.5, .releases = 4.0})
            .value()
            .noise_multiplier;
    AuditRequest asked;
    asked.adapter.rank = 4;
    asked.training.local_steps = 2;
    asked.mechanism = {.noise_multiplier = z, .sampling_rate = 0.5, .divisor = 8.0};
    asked.mechanism.clip.norm = 0.5;
    asked.schedule = {.per_round = 2, .rounds = 2};
    asked.claimed = {epsilon};
    asked.delta = kDelta;
    asked.records = 4;
    return asked;
  }
  privacy::AuditVerdict verdict(AuditRequest request, std::uint64_t seed) {
    request.seed = seed;
    auto report = audit_run(request, base, context);
    EXPECT_TRUE(report) << report.error().line();
    return report ? report->verdict : privacy::AuditVerdict::kInconclusive;
  }

  std::unique_ptr<sys::Disk> disk = sys::make_posix_disk();
  std::unique_ptr<sys::Clock> clock = sys::make_posix_clock();
  std::istringstream in;
  std::ostringstream out;
  observe::NullObserver progress;
  Context context{*disk, *clock, in, out, [] { return false; }, progress};
  model::Model base = model::Model::load(*disk, golden_model("llama"), tensor::DType::kF32).value();
};

TEST_F(AuditOfTrainer, NeverAccusesIt) {
  const auto right = request(2.0);
  for (std::uint64_t seed = 0; seed < 100; ++seed)
    ASSERT_EQ(verdict(right, seed), privacy::AuditVerdict::kConsistent) << seed;
}

TEST_F(AuditOfTrainer, FindsATenthOfTheNoise) {
  auto wrong = request(2.0);
  wrong.mechanism.noise_multiplier /= 10.0;
  EXPECT_EQ(verdict(wrong, 1), privacy::AuditVerdict::kViolated);
}

// Units that count for a hundred times as much under the same noise.
TEST_F(AuditOfTrainer, FindsMissingClipping) {
  auto wrong = request(2.0);
  wrong.mechanism.clip.norm *= 100.0;
  wrong.mechanism.noise_multiplier /= 100.0;
  EXPECT_EQ(verdict(wrong, 1), privacy::AuditVerdict::kViolated);
}

class EveryClipping : public AuditOfTrainer, public testing::WithParamInterface<std::string> {};

TEST_P(EveryClipping, CanariesCountForWhatIsAllowed) {
  auto right = request(2.0);
  right.mechanism.clip.kind = GetParam();
  if (GetParam() == "per_layer") right.mechanism.clip.bounds = {{".*", 0.5}};
  if (GetParam() == "adaptive") right.mechanism.clip.sigma_b = 20.0;
  // A canary in one layer shows too little of what all layers together may.
  EXPECT_EQ(verdict(right, 1), GetParam() == "per_layer" ? privacy::AuditVerdict::kInconclusive
                                                         : privacy::AuditVerdict::kConsistent);
  auto wrong = right;
  wrong.mechanism.noise_multiplier /= 1000.0;
  EXPECT_EQ(verdict(wrong, 1), privacy::AuditVerdict::kViolated);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryClipping,
                         testing::Values("flat", "per_layer", "normalise", "adaptive"),
                         [](const auto& one) { return one.param; });

TEST_F(AuditOfTrainer, ManyCanariesNeedManyValues) {
  auto much = request(2.0);
  much.canaries = 10000000;
  const auto refused = audit_run(much, base, context);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConfig);
  EXPECT_THAT(refused.error().line(), testing::HasSubstr("10000000 canaries for "));
}

}  // namespace
}  // namespace strata::cli
