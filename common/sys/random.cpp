#include "sys/random.h"

#include <Random123/philox.h>

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace strata::sys {

std::uint64_t name_hash(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return h;
}

namespace {
// One 64-bit output of the generator as a mixing function: (key, a, b) -> bits.
std::uint64_t mix(std::uint64_t key, std::uint64_t a, std::uint64_t b) {
  r123::Philox4x32 philox;
  const r123::Philox4x32::ctr_type counter{
      {static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(a >> 32),
       static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32)}};
  const r123::Philox4x32::key_type k{
      {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}};
  const auto out = philox(counter, k);
  return (static_cast<std::uint64_t>(out[1]) << 32) | out[0];
}
}  // namespace

Stream Stream::at(const Address& address) const {
  // A chain of keyed mixes: the address parts cannot trade places with one another.
  std::uint64_t key = mix(key_, name_hash(address.purpose), 1);
  key = mix(key, address.client, 2);
  key = mix(key, (static_cast<std::uint64_t>(address.round) << 32) | address.step, 3);
  key = mix(key, address.item, 4);
  return Stream(key);
}

std::array<std::uint32_t, 4> Stream::block(std::uint64_t index) const {
  r123::Philox4x32 philox;
  const r123::Philox4x32::ctr_type counter{
      {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), 0, 0xd7a7u}};
  const r123::Philox4x32::key_type k{
      {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)}};
  const auto out = philox(counter, k);
  return {out[0], out[1], out[2], out[3]};
}

std::uint32_t Stream::word(std::uint64_t index) const { return block(index / 4)[index % 4]; }

std::uint32_t Stream::next() {
  const std::uint64_t index = position_++;
  if (index % 4 == 0) words_ = block(index / 4);
  return words_[index % 4];
}

double Stream::uniform() {
  const std::uint64_t high = next();
  const std::uint64_t low = next();
  return static_cast<double>(((high << 32) | low) >> 11) * 0x1.0p-53;
}

double Stream::uniform(double low, double high) { return low + (high - low) * uniform(); }

double Stream::normal() {
  const double u = 1.0 - uniform();  // (0, 1]: the logarithm is finite
  const double v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

double Stream::gamma(double shape) {
  if (shape < 1.0) {
    const double u = 1.0 - uniform();
    return gamma(shape + 1.0) * std::pow(u, 1.0 / shape);
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = normal();
    const double t = 1.0 + c * x;
    if (t <= 0.0) continue;
    const double v = t * t * t;
    const double u = 1.0 - uniform();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

std::uint64_t Stream::below(std::uint64_t n) {
  const std::uint64_t limit = (~0ULL) - (~0ULL) % n;  // reject the incomplete last bucket
  for (;;) {
    const std::uint64_t high = next();
    const std::uint64_t draw = (high << 32) | next();
    if (draw < limit) return draw % n;
  }
}

std::vector<std::size_t> Stream::permutation(std::size_t n) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[below(i)]);
  return order;
}

}  // namespace strata::sys
