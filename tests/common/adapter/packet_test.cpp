#include "adapter/packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace strata::adapter {
namespace {

using tensor::Matrix;
using testing::HasSubstr;

Packet small_packet() {
  Packet packet;
  packet.tensors["a.weight"] = {
      2, 3, Stack{Matrix(2, 1, {1.0f, 2.0f}), Matrix(1, 3, {3.0f, 4.0f, 5.0f})}};
  packet.tensors["b.weight"] = {3, 1, Dense{Matrix(3, 1, {6.0f, 7.0f, 8.0f})}};
  return packet;
}

const TensorShapes kShapes{{"a.weight", {2, 3}}, {"b.weight", {3, 1}}, {"c.weight", {4, 4}}};

template <class Number>
void put(std::vector<std::byte>& bytes, std::size_t at, Number value) {
  ASSERT_LE(at + sizeof value, bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// Offsets in small_packet(): header 8; tensor a: length 8, name 12, kind 20, d_out 21, d_in 29, R
// 37, B 45, A 53; tensor b: 65.
constexpr std::size_t kKindOfA = 20, kRowsOfA = 21, kRankOfA = 37, kValuesOfA = 45, kTensorB = 65;

TEST(Packet, HasTheCanonicalBytesThatItsHeaderDescribes) {
  const auto bytes = small_packet().bytes();
  EXPECT_EQ(bytes.size(), small_packet().byte_count());
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, sizeof length);
  EXPECT_EQ(length, 8U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()) + 12, 8), "a.weight");
  std::uint64_t rank = 0;
  std::memcpy(&rank, bytes.data() + kRankOfA, sizeof rank);
  EXPECT_EQ(rank, 1U);
  float first = 0.0f;
  std::memcpy(&first, bytes.data() + kValuesOfA, sizeof first);
  EXPECT_EQ(first, 1.0f);
  EXPECT_EQ(bytes.size(), kTensorB + 4 + 8 + 1 + 16 + 12);
}

TEST(Packet, HashIsThatOfItsBytesAndSeesEachOfThem) {
  const Packet packet = small_packet();
  EXPECT_EQ(packet.hash(), sha256(packet.bytes()));
  Packet other = small_packet();
  std::get<Stack>(other.tensors["a.weight"].change).a(0, 2) = 5.0000005f;
  EXPECT_NE(other.hash(), packet.hash());
}

TEST(Packet, ComesBackFromItsBytes) {
  const auto parsed = Packet::parse(small_packet().bytes(), kShapes);
  ASSERT_TRUE(parsed) << parsed.error().line();
  EXPECT_EQ(parsed->hash(), small_packet().hash());
  const auto empty = Packet::parse(Packet{}.bytes(), kShapes);
  ASSERT_TRUE(empty);
  EXPECT_TRUE(empty->empty());
}

// A product travels without the identity that makes it a pair of factors.
TEST(Packet, OfAProductHasItsValuesOnce) {
  const Matrix tall(3, 2, {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f});
  for (const Matrix& values : {tall, Matrix(2, 3, {1.0f, -2.0f, 3.0f, 4.0f, 5.0f, -6.0f})}) {
    Packet packet;
    packet.tensors["w"] = {values.rows(), values.cols(), StackProduct{values}};
    const auto bytes = packet.bytes();
    EXPECT_EQ(bytes.size(), 8U + 4 + 1 + 1 + 16 + 6 * sizeof(float));
    EXPECT_EQ(bytes.size(), packet.byte_count());
    const auto parsed = Packet::parse(bytes, {{"w", {values.rows(), values.cols()}}});
    ASSERT_TRUE(parsed) << parsed.error().line();
    EXPECT_EQ(parsed->hash(), packet.hash());
    EXPECT_EQ(std::get<StackProduct>(parsed->tensors.at("w").change).values, values);
    EXPECT_EQ(packet.max_rank(), 2U);
    const auto terms = packet.terms();
    ASSERT_EQ(std::get<LowRank>(terms.at("w").terms.at(0)).a.rows(), 2U);
    std::vector<double> dense;
    add_dense(terms.at("w"), 1.0, dense);
    for (std::size_t i = 0; i < dense.size(); ++i) EXPECT_EQ(dense[i], double{values.data()[i]});
    auto as_dense = packet;
    as_dense.tensors["w"].change = Dense{values};
    EXPECT_NE(as_dense.hash(), packet.hash());
  }
}

TEST(Packet, CutAnywhereIsRefused) {
  const auto bytes = small_packet().bytes();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto parsed = Packet::parse(std::span(bytes).first(n), kShapes);
    ASSERT_FALSE(parsed) << n;
    EXPECT_EQ(parsed.error().code, ErrorCode::kFormat);
  }
}

TEST(Packet, DamageIsRefusedByName) {
  const auto refusal = [](const auto& damage) {
    auto bytes = small_packet().bytes();
    damage(bytes);
    const auto parsed = Packet::parse(bytes, kShapes);
    return parsed ? std::string("accepted") : parsed.error().line();
  };
  using Bytes = std::vector<std::byte>;
  EXPECT_THAT(refusal([](Bytes& b) { put(b, 0, std::uint32_t{9}); }), HasSubstr("format 9"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, 12, 'x'); }), HasSubstr("unknown"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, 12, 'b'); }), HasSubstr("the model's is 3 x 1"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kKindOfA, std::uint8_t{3}); }), HasSubstr("kind 3"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kRowsOfA, std::uint64_t{3}); }), HasSubstr("3 x 3"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kRankOfA, std::uint64_t{0}); }), HasSubstr("rank 0"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kValuesOfA, 0x7fc00000U); }), HasSubstr("NaN"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kTensorB + 4, 'a'); }), HasSubstr("out of order"));
  EXPECT_THAT(refusal([](Bytes& b) { b.push_back(std::byte{0}); }), HasSubstr("1 bytes behind"));
  // Lengths that no memory could hold are refused by the bytes that are there, not by an
  // allocation.
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kRankOfA, std::uint64_t{1} << 62U); }),
              HasSubstr("ends early"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, kRankOfA, std::uint64_t{1} << 40U); }),
              HasSubstr("ends early"));
  EXPECT_THAT(refusal([](Bytes& b) { put(b, 8, 0xffffffffU); }), HasSubstr("ends early"));
}

TEST(ChainHash, NamesHistoryRoundPlanAndPacket) {
  const Sha256 zero{}, one = sha256({}), packet = small_packet().hash();
  const Sha256 chain = chain_hash(zero, 1, packet);
  EXPECT_NE(chain, chain_hash(one, 1, packet));
  EXPECT_NE(chain, chain_hash(zero, 2, packet));
  EXPECT_NE(chain, chain_hash(zero, 1, one));
  EXPECT_NE(chain, chain_hash(zero, 1, packet, one));
  EXPECT_EQ(chain, chain_hash(zero, 1, small_packet().hash()));
}

}  // namespace
}  // namespace strata::adapter
