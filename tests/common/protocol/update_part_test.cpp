// A part of an update is the update that a client with no other tensors would have sent.
#include "protocol/update_part.h"

#include <gtest/gtest.h>

#include "protocol/update_codec.h"

namespace strata::protocol {
namespace {

tensor::Matrix matrix(std::size_t rows, std::size_t cols, unsigned seed) {
  tensor::Matrix out(rows, cols);
  for (std::size_t i = 0; i < out.size(); ++i)
    out.data()[i] = static_cast<float>((std::size_t{seed} * 31 + i * 17) % 23) / 7.0F - 1.5F;
  return out;
}

// Several terms, shared factors, drawn ones, dense changes; one name is the beginning of another.
Update update() {
  Update out{.client = "one", .round = 4, .base = {}, .weight = 2.5, .delta = {}};
  const auto pair = [](std::size_t d_out, std::size_t d_in, std::size_t rank, unsigned seed) {
    return adapter::LowRank{.b = matrix(d_out, rank, seed), .a = matrix(rank, d_in, seed + 1)};
  };
  auto shared = pair(6, 5, 2, 1), drawn = pair(6, 5, 3, 5);
  shared.id_a = 77;
  drawn.id_a = 78;
  drawn.seeded_a = true;
  out.delta["a.weight"] = {6, 5, {shared, pair(6, 5, 1, 3)}};
  out.delta["a.weight_too"] = {6, 5, {drawn}};
  out.delta["norm"] = {4, 1, {adapter::Dense{matrix(4, 1, 9)}}};
  out.delta["table"] = {9, 3, {adapter::Dense{matrix(9, 3, 11)}}};
  return out;
}

TEST(UpdatePart, IsTheUpdateOfThoseTensorsAlone) {
  for (const Encoding encoding : {Encoding::kF32, Encoding::kBF16, Encoding::kInt8}) {
    const Bytes whole = encode(update(), encoding).bytes;
    for (unsigned mask = 0; mask < 16; ++mask) {
      std::set<std::string, std::less<>> wanted;
      Update fewer = update();
      unsigned bit = 0;
      for (const auto& [name, delta] : update().delta) {
        if ((mask >> bit++ & 1U) != 0) {
          wanted.insert(name);
        } else {
          fewer.delta.erase(name);
        }
      }
      const auto part =
          part_of(whole, [&](std::string_view name) { return wanted.contains(name); });
      ASSERT_TRUE(part) << part.error().line();
      EXPECT_EQ(*part, encode(fewer, encoding).bytes) << mask;
    }
  }
}

TEST(UpdatePart, OfWhatIsNoUpdateIsRefused) {
  const Bytes whole = encode(update(), Encoding::kF32).bytes;
  for (const std::size_t length : {std::size_t{0}, std::size_t{5}, std::size_t{40}}) {
    const auto part = part_of(ByteSpan(whole).first(length), [](std::string_view) { return true; });
    ASSERT_FALSE(part) << length;
    EXPECT_EQ(part.error().code, ErrorCode::kIncompatibleUpdate);
  }
}

}  // namespace
}  // namespace strata::protocol
