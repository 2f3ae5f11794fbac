// Updates that leave A out: what is read back has the A of seed, round and tensor, whatever the
// client says, and nothing is made by numbers that nobody has checked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "coordinator/updates/round_file.h"
#include "protocol/update_codec.h"
#include "support/process.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

using adapter::LowRank;
using adapter::SeededFactors;
using protocol::Encoding;
using protocol::Update;
using testing::HasSubstr;

constexpr std::size_t kOut = 24, kIn = 24, kRank = 3;
constexpr std::uint32_t kRound = 4;

SeededFactors factors() { return {adapter::shared_stream(11), kRound}; }

Update trained(const SeededFactors& source, bool seeded = true) {
  Update out{.client = "one", .round = kRound, .weight = 2.0};
  for (unsigned k = 0; k < 2; ++k) {
    const std::string name = "layer." + std::to_string(k) + ".weight";
    out.delta[name] = {kOut,
                       kIn,
                       {LowRank{.b = support::random_matrix(kOut, kRank, k),
                                .a = source.a(name, kRank, kIn),
                                .id_a = source.id(name),
                                .seeded_a = seeded}}};
  }
  return out;
}

class SeededUpdates : public testing::Test {
 protected:
  Result<SharedUpdate> keep(const Update& update, Encoding encoding = Encoding::kF32) {
    const auto bytes = protocol::encode(update, encoding).bytes;
    const std::uint64_t region = file_.reserve(bytes.size()).value();
    if (auto written = file_.write(region, bytes); !written) throw std::runtime_error("written");
    return file_.open(update.client, region, bytes.size(),
                      std::string(protocol::kEncodingNames[static_cast<std::size_t>(encoding)]));
  }
  std::string refusal(const std::function<void(Update&)>& change) {
    Update update = trained(factors());
    change(update);
    const auto kept = keep(update);
    if (kept) return "";
    EXPECT_EQ(kept.error().code, ErrorCode::kIncompatibleUpdate);
    return kept.error().line();
  }
  static LowRank& first(Update& update) {
    return std::get<LowRank>(update.delta.at("layer.0.weight").terms.front());
  }

  support::ScratchFolder folder_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  RoundFile file_{*disk_,
                  folder_.path() / "0004",
                  sys::Durability::kProcess,
                  {factors(), {{"layer.0.weight", {kOut, kIn}}, {"layer.1.weight", {kOut, kIn}}}}};
};

TEST_F(SeededUpdates, ComeBackWithTheAThatIsDrawnHereInEveryEncoding) {
  const Update update = trained(factors());
  for (const auto encoding : {Encoding::kF32, Encoding::kBF16, Encoding::kInt8}) {
    const auto kept = keep(update, encoding);
    ASSERT_TRUE(kept) << kept.error().line();
    EXPECT_EQ((*kept)->outline(), outline_of(update.delta));
    EXPECT_TRUE((*kept)->outline().at("layer.0.weight").seeded);
    for (const auto& [name, delta] : update.delta) {
      const auto read = (*kept)->read(name).value();
      const auto& is = std::get<LowRank>(read->terms.front());
      const auto& was = std::get<LowRank>(delta.terms.front());
      EXPECT_TRUE(is.a == was.a) << "A is not rounded on its way";
      EXPECT_EQ(is.id_a, was.id_a);
      EXPECT_TRUE(is.seeded_a);
      for (std::size_t i = 0; i < was.b.size(); ++i) {
        const double off = encoding == Encoding::kF32    ? 0.0
                           : encoding == Encoding::kBF16 ? 0x1p-8
                                                         : 0x1p-6;
        ASSERT_NEAR(is.b.data()[i], was.b.data()[i], off * 4.0);
      }
    }
  }
}

// The client's own A does not matter: it is not in the file.
TEST_F(SeededUpdates, TakeNothingOfAFromTheClient) {
  Update lied = trained(factors());
  for (float& value : first(lied).a.values()) value = 1e30F;
  const auto kept = keep(lied);
  ASSERT_TRUE(kept) << kept.error().line();
  EXPECT_TRUE(std::get<LowRank>((*kept)->read("layer.0.weight").value()->terms.front()).a ==
              factors().a("layer.0.weight", kRank, kIn));
}

TEST_F(SeededUpdates, AreHalfTheBytesOfOnesWithA) {
  for (const auto encoding : {Encoding::kF32, Encoding::kBF16, Encoding::kInt8}) {
    // Without the header, whose length does not depend on the values' number.
    const auto values = [&](bool seeded) {
      const auto bytes = protocol::encode(trained(factors(), seeded), encoding).bytes;
      std::uint64_t header = 0;
      std::memcpy(&header, bytes.data(), sizeof header);
      return bytes.size() - 8 - header;
    };
    const double scales = encoding == Encoding::kInt8 ? 4.0 : 0.0;
    const double width = encoding == Encoding::kF32 ? 4.0 : encoding == Encoding::kBF16 ? 2.0 : 1.0;
    EXPECT_EQ(static_cast<double>(values(true)), 2.0 * kOut * (kRank * width + scales));
    EXPECT_EQ(static_cast<double>(values(false) - values(true)),
              2.0 * kRank * (kIn * width + scales));
    const auto planned = [&](bool seeded) {
      const Outline one{{"w", {4096, 4096, {16}, seeded}}};
      return static_cast<double>(protocol::bytes_max(one, encoding));
    };
    EXPECT_LT(planned(true), 0.62 * planned(false));
    EXPECT_GE(planned(true), 16 * 4096 * width + 4096 * scales);
  }
}

TEST_F(SeededUpdates, OfAnotherSeedRoundOrShapeAreRefusedByName) {
  EXPECT_EQ(refusal([](Update&) {}), "");
  EXPECT_THAT(refusal([](Update& u) {
                first(u).id_a =
                    SeededFactors(adapter::shared_stream(12), kRound).id("layer.0.weight");
              }),
              HasSubstr("layer.0.weight is trained on A"));
  EXPECT_THAT(refusal([](Update& u) {
                first(u).id_a =
                    SeededFactors(adapter::shared_stream(11), kRound - 1).id("layer.0.weight");
              }),
              HasSubstr("the plan's seed draws"));
  EXPECT_THAT(refusal([](Update& u) { u.round = kRound + 1; }), HasSubstr("is for round 5"));
  EXPECT_THAT(refusal([](Update& u) {
                auto node = u.delta.extract("layer.0.weight");
                node.key() = "layer.9.weight";
                u.delta.insert(std::move(node));
              }),
              HasSubstr("the model has no such tensor"));
  EXPECT_THAT(refusal([](Update& u) { first(u).a = tensor::Matrix(kRank, kIn + 1); }),
              HasSubstr("layer.0.weight is 24 x 25; the model's is 24 x 24"));
}

TEST_F(SeededUpdates, AreRefusedWhereNothingIsDrawn) {
  RoundFile plain(*disk_, folder_.path() / "plain", sys::Durability::kProcess);
  Update update = trained({sys::Stream(0), 0});
  update.round = 0;
  const auto bytes = protocol::encode(update, Encoding::kF32).bytes;
  const std::uint64_t region = plain.reserve(bytes.size()).value();
  ASSERT_TRUE(plain.write(region, bytes));
  const auto kept = plain.open("one", region, bytes.size(), "f32");
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, ErrorCode::kIncompatibleUpdate);
}

TEST(CheckPlannedSeeded, NamesATensorThatComesWithAOrWithoutAgainstThePlan) {
  const auto line = [](bool sent, bool plan) {
    const auto fits =
        check_planned("one", Outline{{"a", {7, 5, {2}, sent}}}, Outline{{"a", {7, 5, {2}, plan}}});
    return fits ? std::string() : fits.error().line();
  };
  EXPECT_EQ(line(true, true), "");
  EXPECT_EQ(line(false, false), "");
  EXPECT_THAT(line(false, true), HasSubstr("a comes with A; the plan says that A is drawn"));
  EXPECT_THAT(line(true, false), HasSubstr("a comes without A; the plan says that the client"));
}

}  // namespace
}  // namespace strata::coordinator
