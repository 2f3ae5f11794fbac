// What is read of a kept update is what its client sent; what is not as it should be is refused by
// name.
#include "coordinator/updates/kept_update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <vector>

#include "coordinator/updates/round_file.h"
#include "protocol/update_codec.h"
#include "support/process.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using protocol::Update;
using support::random_matrix;
using support::random_pair;
using testing::AllOf;
using testing::HasSubstr;

// A shared factor, several terms, a dense change and a vector; ranks by `rank`.
Update mixed(const std::string& client, std::size_t rank, unsigned seed) {
  Update out{.client = client, .weight = 1.0 + seed};
  LowRank shared = random_pair(7, 5, rank, seed);
  shared.id_a = 42;
  out.delta["a"] = {7, 5, {shared, random_pair(7, 5, 1, seed + 1)}};
  out.delta["b"] = {3, 4, {Dense{random_matrix(3, 4, seed + 2)}}};
  out.delta["c"] = {9, 1, {Dense{random_matrix(9, 1, seed + 3)}}};
  out.delta["d"] = {6, 8, {random_pair(6, 8, rank + 1, seed + 4)}};
  return out;
}

void expect_equal(const KeptUpdate& kept, const Update& update) {
  EXPECT_EQ(kept.client(), update.client);
  EXPECT_EQ(kept.weight(), update.weight);
  EXPECT_EQ(kept.outline(), outline_of(update.delta));
  for (const auto& [name, delta] : update.delta) {
    const auto read = kept.read(name);
    ASSERT_TRUE(read) << read.error().line();
    EXPECT_EQ((*read)->d_out, delta.d_out);
    EXPECT_EQ((*read)->d_in, delta.d_in);
    ASSERT_EQ((*read)->terms.size(), delta.terms.size());
    for (std::size_t t = 0; t < delta.terms.size(); ++t) {
      if (const auto* pair = std::get_if<LowRank>(&delta.terms[t])) {
        const auto& own = std::get<LowRank>((*read)->terms[t]);
        EXPECT_EQ(own.a, pair->a);
        EXPECT_EQ(own.b, pair->b);
        EXPECT_EQ(own.id_a, pair->id_a);
        EXPECT_EQ(own.id_b, pair->id_b);
      } else {
        EXPECT_EQ(std::get<Dense>((*read)->terms[t]).values,
                  std::get<Dense>(delta.terms[t]).values);
      }
    }
  }
}

TEST(KeptUpdate, InMemoryIsWhatItWas) {
  const Update update = mixed("one", 3, 4);
  expect_equal(*keep_in_memory(update), update);
}

class RoundFiles : public testing::Test {
 protected:
  Result<SharedUpdate> keep(const Update& update, protocol::Encoding encoding) {
    const auto encoded = protocol::encode(update, encoding);
    return keep(update.client, encoded.bytes, encoding);
  }
  Result<SharedUpdate> keep(const std::string& client, ByteSpan bytes,
                            protocol::Encoding encoding) {
    const std::uint64_t region = file_.reserve(bytes.size()).value();
    if (auto written = file_.write(region, bytes); !written) throw std::runtime_error("written");
    return file_.open(client, region, bytes.size(),
                      std::string(protocol::kEncodingNames[static_cast<std::size_t>(encoding)]));
  }
  support::ScratchFolder folder_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  RoundFile file_{*disk_, folder_.path() / "0001", sys::Durability::kProcess};
};

TEST_F(RoundFiles, GiveBackWhatTheyWereGivenBitForBit) {
  std::vector<Update> updates;
  std::vector<SharedUpdate> kept;
  for (unsigned k = 0; k < 5; ++k) {
    updates.push_back(mixed("c" + std::to_string(k), 1 + k % 3, 10 * k));
    updates.back().round = k + 1;
    kept.push_back(keep(updates.back(), protocol::Encoding::kF32).value());
    EXPECT_EQ(file_.last_header().round, k + 1);
    EXPECT_EQ(file_.last_header().base, updates.back().base);
  }
  for (std::size_t k = updates.size(); k-- > 0;) expect_equal(*kept[k], updates[k]);
}

// Every value against its rule: bf16 keeps eight bits, int8 half a step of its row's largest.
TEST_F(RoundFiles, RoundingOnTheWireIsWithinItsRule) {
  const Update update = mixed("one", 3, 4);
  for (const auto encoding : {protocol::Encoding::kBF16, protocol::Encoding::kInt8}) {
    const auto kept = keep(update, encoding).value();
    double changed = 0.0, all = 0.0;
    const auto compare = [&](const tensor::Matrix& was, const tensor::Matrix& is) {
      ASSERT_EQ(was.rows(), is.rows());
      ASSERT_EQ(was.cols(), is.cols());
      for (std::size_t i = 0; i < was.rows(); ++i) {
        float largest = 0.0F;
        for (std::size_t j = 0; j < was.cols(); ++j)
          largest = std::max(largest, std::abs(was(i, j)));
        for (std::size_t j = 0; j < was.cols(); ++j) {
          const double off = std::abs(double{was(i, j)} - is(i, j));
          const double bound = encoding == protocol::Encoding::kBF16 ? std::abs(was(i, j)) / 256.0
                                                                     : largest / 254.0 * 1.00001;
          EXPECT_LE(off, bound) << was(i, j) << " became " << is(i, j);
          changed += off * off;
          all += double{was(i, j)} * was(i, j);
        }
      }
    };
    for (const auto& [name, delta] : update.delta) {
      const auto read = kept->read(name).value();
      for (std::size_t t = 0; t < delta.terms.size(); ++t) {
        if (const auto* pair = std::get_if<LowRank>(&delta.terms[t])) {
          const auto& own = std::get<LowRank>(read->terms[t]);
          compare(pair->a, own.a);
          compare(pair->b, own.b);
          EXPECT_EQ(own.id_a, pair->id_a);
        } else {
          compare(std::get<Dense>(delta.terms[t]).values, std::get<Dense>(read->terms[t]).values);
        }
      }
    }
    EXPECT_GT(changed, 0.0);
    EXPECT_NEAR(protocol::encode(update, encoding).relative_error, std::sqrt(changed / all), 1e-6);
  }
}

// The same of B over a factor that stays what it is; over another A nothing is carried on, and of
// trained pairs nothing is kept.
TEST_F(RoundFiles, WhatAnEncodingLosesOfBIsToldOverTheSameA) {
  constexpr int kRounds = 50;
  LowRank pair{.b = random_matrix(4, 2, 9), .a = random_matrix(2, 3, 4)};
  for (float& value : pair.b.values()) value *= 1e-3F;
  pair.b(1, 0) = 1.0F;
  const auto update_with = [&](std::uint64_t id) {
    pair.lasting_a = id;
    return Update{.client = "one", .delta = {{"w", {4, 3, {pair}}}}};
  };
  for (const auto encoding : {protocol::Encoding::kBF16, protocol::Encoding::kInt8}) {
    protocol::Untold untold;
    std::vector<double> told(pair.b.size(), 0.0);
    for (int round = 0; round < kRounds; ++round) {
      const auto encoded = protocol::encode(update_with(7), encoding, &untold);
      const auto kept = keep("one", encoded.bytes, encoding).value();
      const auto read = kept->read("w").value();
      const auto values = std::get<LowRank>(read->terms[0]).b.values();
      for (std::size_t i = 0; i < values.size(); ++i) told[i] += double{values[i]};
    }
    for (std::size_t i = 0; i < told.size(); ++i) {
      const auto& lost = untold.at("w");
      EXPECT_EQ(lost.lasting_a, 7U);
      EXPECT_NEAR(told[i] + double{lost.values.data()[i]}, kRounds * double{pair.b.data()[i]},
                  1e-5);
    }
    const auto first = protocol::encode(update_with(8), encoding);
    EXPECT_EQ(protocol::encode(update_with(8), encoding, &untold).bytes, first.bytes);
    EXPECT_NE(protocol::encode(update_with(8), encoding, &untold).bytes, first.bytes);

    protocol::Untold none;
    (void)protocol::encode(update_with(0), encoding, &none);
    EXPECT_TRUE(none.empty());
    // An update that is refused for a value that is no number does not spoil the next.
    const float kept_value = pair.b(2, 1);
    pair.b(2, 1) = std::numeric_limits<float>::quiet_NaN();
    (void)protocol::encode(update_with(3), encoding, &none);
    pair.b(2, 1) = kept_value;
    for (const float value : none.at("w").values.values()) EXPECT_TRUE(std::isfinite(value));
  }
}

// A dense change of small values beside a large one: int8 alone rounds them to nothing, for ever.
// With feedback all that was to be told is told, but for the last half step.
TEST_F(RoundFiles, WhatAnEncodingLosesOfDenseChangesIsToldLater) {
  constexpr int kRounds = 50;
  tensor::Matrix change = random_matrix(3, 4, 9);
  for (float& value : change.values()) value *= 1e-3F;
  change(1, 0) = 1.0F;
  for (const auto encoding : {protocol::Encoding::kBF16, protocol::Encoding::kInt8}) {
    protocol::Untold untold;
    std::vector<double> told(change.size(), 0.0), plain(change.size(), 0.0);
    for (int round = 0; round < kRounds; ++round) {
      const Update update{.client = "one", .delta = {{"w", {3, 4, {Dense{change}}}}}};
      const auto add = [&](const protocol::EncodedUpdate& encoded, std::vector<double>& to) {
        const auto kept = keep("one", encoded.bytes, encoding).value();
        const auto read = kept->read("w").value();
        const auto values = std::get<Dense>(read->terms[0]).values.values();
        for (std::size_t i = 0; i < values.size(); ++i) to[i] += double{values[i]};
      };
      add(protocol::encode(update, encoding, &untold), told);
      add(protocol::encode(update, encoding), plain);
    }
    double worst = 0.0, worst_plain = 0.0;
    for (std::size_t i = 0; i < told.size(); ++i) {
      const double wanted = kRounds * double{change.data()[i]};
      // All of it, but for what is kept; and that is at most half a step.
      EXPECT_NEAR(told[i] + double{untold.at("w").values.data()[i]}, wanted, 1e-5);
      EXPECT_LE(std::abs(untold.at("w").values.data()[i]), 1.02F / 254.0F);
      worst = std::max(worst, std::abs(told[i] - wanted));
      worst_plain = std::max(worst_plain, std::abs(plain[i] - wanted));
    }
    EXPECT_LT(worst, 0.2 * worst_plain);
  }
  // Where nothing is lost nothing is kept.
  protocol::Untold untold;
  (void)protocol::encode(mixed("one", 3, 4), protocol::Encoding::kF32, &untold);
  EXPECT_TRUE(untold.empty());
}

TEST_F(RoundFiles, RefuseAnUpdateCutAtAnyByte) {
  const auto whole = protocol::encode(mixed("one", 1, 4), protocol::Encoding::kInt8).bytes;
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto kept = keep("one", ByteSpan(whole).first(n), protocol::Encoding::kInt8);
    ASSERT_FALSE(kept) << n << " of " << whole.size() << " bytes";
    EXPECT_EQ(kept.error().code, ErrorCode::kIncompatibleUpdate) << kept.error().line();
  }
  EXPECT_TRUE(keep("one", whole, protocol::Encoding::kInt8));
}

TEST_F(RoundFiles, RefuseAnotherEncodingThanTheJobs) {
  const auto bytes = protocol::encode(mixed("one", 1, 4), protocol::Encoding::kBF16).bytes;
  const auto kept = keep("one", bytes, protocol::Encoding::kF32);
  ASSERT_FALSE(kept);
  EXPECT_THAT(kept.error().line(), HasSubstr("is encoded as bf16"));
}

TEST(CheckPlanned, NamesTheTensorAndWhatThePlanSays) {
  const Outline planned{{"a", {7, 5, {2, 2}}}, {"b", {3, 4, {0}}}};
  const auto line = [&](const Outline& outline) {
    const auto fits = check_planned("one", outline, planned);
    return fits ? std::string() : fits.error().line();
  };
  EXPECT_EQ(line(planned), "");
  EXPECT_EQ(line({{"a", {7, 5, {2}}}, {"b", {3, 4, {0}}}}), "");  // the first of its terms
  EXPECT_THAT(line({{"a", {7, 5, {3}}}, {"b", {3, 4, {0}}}}),
              HasSubstr("update of one: a has rank 3; the plan says rank 2 and rank 2"));
  EXPECT_THAT(line({{"a", {7, 5, {2, 2, 2}}}, {"b", {3, 4, {0}}}}), HasSubstr("and rank 2 and"));
  EXPECT_THAT(line({{"a", {5, 7, {2}}}, {"b", {3, 4, {0}}}}),
              HasSubstr("a is 5 x 7; the plan says 7 x 5"));
  EXPECT_THAT(line({{"a", {7, 5, {2}}}, {"b", {3, 4, {1}}}}),
              HasSubstr("b has rank 1; the plan says full rank"));
  EXPECT_THAT(line({{"a", {7, 5, {2}}}}), HasSubstr("does not change b"));
  EXPECT_THAT(line({{"a", {7, 5, {2}}}, {"b", {3, 4, {0}}}, {"\x1b[2J", {1, 1, {1}}}}),
              HasSubstr("changes \\x1b[2J"));
}

TEST(CheckUpdate, RefusesWhatIsBadInItself) {
  EXPECT_TRUE(check_update(mixed("good", 2, 1)));
  auto update = mixed("bad", 2, 1);
  update.weight = 0.0;
  EXPECT_THAT(check_update(update).error().line(), HasSubstr("weight"));
  update.weight = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(check_update(update));
  update = mixed("bad", 2, 1);
  update.delta.clear();
  EXPECT_THAT(check_update(update).error().line(), HasSubstr("changes nothing"));
  update = mixed("bad", 2, 1);
  std::get<Dense>(update.delta.at("b").terms.front()).values(1, 2) =
      std::numeric_limits<float>::quiet_NaN();
  const auto refused = check_update(update);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
  EXPECT_THAT(refused.error().line(), HasSubstr("bad"));
}

TEST(CheckNorm, RefusesWhatIsLargerThanAllowed) {
  const auto update = mixed("large", 3, 1);
  double squares = 0.0;
  for (const auto& [name, change] : update.delta) {
    std::vector<double> whole;
    adapter::add_dense(change, 1.0, whole);
    for (const double value : whole) squares += value * value;
  }
  const double norm = std::sqrt(squares);
  const auto kept = keep_in_memory(update);
  ASSERT_TRUE(update_norm(*kept));
  EXPECT_NEAR(*update_norm(*kept), norm, 1e-12 * norm);
  EXPECT_TRUE(check_norm(*kept, 0.0));
  EXPECT_TRUE(check_norm(*kept, norm * 1.000001));
  const auto refused = check_norm(*kept, norm * 0.999999);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
  EXPECT_THAT(refused.error().line(),
              AllOf(HasSubstr("update of large"), HasSubstr("max_update_norm")));
}

// What a client with kept factors sends from its second round on: the difference of two products.
TEST(CheckNorm, IsOfWhatTheTermsAddUpTo) {
  const LowRank pair = random_pair(7, 5, 3, 1);
  LowRank back = pair;
  for (float& value : back.b.values()) value = -value;
  Update update{.client = "kept"};
  update.delta["a"] = {7, 5, {pair, back}};
  EXPECT_NEAR(*update_norm(*keep_in_memory(update)), 0.0, 1e-6);
  update.delta["a"] = {7, 5, {pair, pair}};
  std::vector<double> whole;
  adapter::add_dense(update.delta["a"], 1.0, whole);
  double squares = 0.0;
  for (const double value : whole) squares += value * value;
  EXPECT_NEAR(*update_norm(*keep_in_memory(update)), std::sqrt(squares), 1e-12);
}

}  // namespace
}  // namespace strata::coordinator
