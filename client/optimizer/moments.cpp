#include "client/optimizer/moments.h"

#include <algorithm>
#include <cmath>

namespace strata::client {
namespace {

constexpr std::size_t kPiece =
    16384;  // floats: with its moments and gradient a piece stays in the L2 cache
constexpr std::uint64_t kStepUnit = 1ull << 22;  // below 2^24, where floats stop counting
constexpr const char* kStepName = "step";

Error damaged(std::string what, std::string where) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = std::move(where),
          .rule = "optimizer state holds a step count and the vectors of its own method",
          .remedy = "resume with the optimizer that wrote the checkpoint"};
}

bool is_count(float value) {
  return value >= 0.0f && value < static_cast<float>(kStepUnit) && std::floor(value) == value;
}

}  // namespace

std::vector<Piece> pieces_of(std::span<const adapter::ParamRef> params) {
  std::vector<Piece> out;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const std::size_t size = params[i].grad.size();
    for (std::size_t first = 0; first < size; first += kPiece)
      out.push_back({i, first, std::min(first + kPiece, size)});
  }
  return out;
}

std::vector<std::span<float>> Moments::of(std::span<const adapter::ParamRef> params) {
  std::vector<std::span<float>> out;
  out.reserve(params.size());
  for (const auto& param : params) {
    auto found = by_name_.find(param.name);
    if (found == by_name_.end()) {
      found = by_name_.emplace(param.name, std::vector<float>(param.value.size(), 0.0f)).first;
    }
    check(found->second.size() == param.value.size(),
          "a parameter changed its size between two optimizer steps");
    out.emplace_back(found->second);
  }
  return out;
}

void Moments::save(StateVectors& state) const {
  for (const auto& [name, values] : by_name_) state[name + suffix_] = values;
}

void Moments::take(StateVectors& state) {
  by_name_.clear();
  for (auto entry = state.begin(); entry != state.end();) {
    const auto& name = entry->first;
    if (!name.ends_with(suffix_)) {
      ++entry;
      continue;
    }
    by_name_[name.substr(0, name.size() - suffix_.size())] = std::move(entry->second);
    entry = state.erase(entry);
  }
}

void save_step(StateVectors& state, std::uint64_t step) {
  const std::uint64_t low = step % kStepUnit;
  const std::uint64_t high = step / kStepUnit;
  state[kStepName] = {static_cast<float>(low), static_cast<float>(high)};
}

Result<std::uint64_t> take_step(StateVectors& state) {
  const auto found = state.find(kStepName);
  if (found == state.end()) return fail(damaged("the step count is missing", kStepName));
  const std::vector<float> digits = std::move(found->second);
  state.erase(found);
  if (digits.size() != 2 || !is_count(digits[0]) || !is_count(digits[1])) {
    return fail(damaged("the step count is not two whole numbers", kStepName));
  }
  return static_cast<std::uint64_t>(digits[0]) + kStepUnit * static_cast<std::uint64_t>(digits[1]);
}

Result<void> all_taken(const StateVectors& rest) {
  if (rest.empty()) return {};
  return fail(damaged("this optimizer has no such state", printable(rest.begin()->first)));
}

}  // namespace strata::client
