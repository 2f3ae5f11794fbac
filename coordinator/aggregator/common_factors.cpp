#include "coordinator/aggregator/common_factors.h"

#include <algorithm>

namespace strata::coordinator {
namespace {

using adapter::LowRank;
using tensor::Matrix;

tl::unexpected<Error> unfit(const KeptUpdate& update, const std::string& tensor, std::string what,
                            std::string rule) {
  return fail({.code = ErrorCode::kIncompatibleUpdate,
               .what = std::move(what),
               .where = "update of " + update.client() + ": " + tensor,
               .rule = std::move(rule)});
}

float difference(float now, float before) {
  return static_cast<float>(static_cast<double>(now) - static_cast<double>(before));
}

float sum(float before, float change) {
  return static_cast<float>(static_cast<double>(before) + static_cast<double>(change));
}

void read_factors(const CommonTensor& common, const LowRank& own, std::span<float> out) {
  const std::size_t rank = common.rank(), r = own.b.cols();
  for (std::size_t i = 0; i < common.d_out; ++i) {
    for (std::size_t j = 0; j < r; ++j) out[i * rank + j] = difference(own.b(i, j), common.b(i, j));
  }
  if (!common.trains_a) return;
  out = out.subspan(common.d_out * rank);
  for (std::size_t i = 0; i < own.a.size(); ++i)
    out[i] = difference(own.a.data()[i], common.a.data()[i]);
}

Result<void> read_tensor(const std::string& name, const CommonTensor& common,
                         const KeptUpdate& update, std::span<float> out) {
  auto delta = update.read(name);
  if (!delta) return fail(std::move(delta).error());
  const auto& own = **delta;
  if (own.d_out != common.d_out || own.d_in != common.d_in || own.terms.size() != 1)
    return unfit(update, name, "is of another shape", "all clients change the same tensors");
  const auto* pair = std::get_if<LowRank>(&own.terms.front());
  if ((pair == nullptr) != common.a.empty() || (pair != nullptr && pair->b.cols() > common.rank()))
    return unfit(update, name, "has other factors", "all clients begin with the same ones");
  if (pair != nullptr) {
    read_factors(common, *pair, out);
  } else {
    const auto values = std::get<adapter::Dense>(own.terms.front()).values.values();
    std::copy(values.begin(), values.end(), out.begin());
  }
  return {};
}

}  // namespace

std::size_t CommonTensor::values() const {
  if (a.empty()) return d_out * d_in;
  return b.size() + (trains_a ? a.size() : 0);
}

std::size_t values_of(const CommonFactors& common) {
  std::size_t out = 0;
  for (const auto& [name, tensor] : common) out += tensor.values();
  return out;
}

Result<void> read_change(const CommonFactors& common, const KeptUpdate& update,
                         std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0F);
  for (const auto& [name, shape] : update.outline()) {
    if (!common.contains(name))
      return unfit(update, name, "is changed", "no client of the plan changes it");
  }
  for (const auto& [name, tensor] : common) {
    const auto part = out.first(tensor.values());
    out = out.subspan(part.size());
    if (!update.outline().contains(name)) continue;
    if (auto read = read_tensor(name, tensor, update, part); !read) return read;
  }
  return {};
}

Aggregate apply_change(const CommonFactors& common, std::span<const float> change, bool averages) {
  Aggregate out;
  for (const auto& [name, tensor] : common) {
    const auto part = change.first(tensor.values());
    change = change.subspan(part.size());
    if (tensor.a.empty()) {
      Matrix values(tensor.d_out, tensor.d_in);
      std::copy(part.begin(), part.end(), values.data());
      out.packet.tensors.emplace(name, adapter::PacketTensor{tensor.d_out, tensor.d_in,
                                                             adapter::Dense{std::move(values)}});
      continue;
    }
    Matrix b = tensor.b, a = tensor.a;
    for (std::size_t i = 0; i < b.size(); ++i) b.data()[i] = sum(b.data()[i], part[i]);
    for (std::size_t i = 0; i < a.size() && tensor.trains_a; ++i)
      a.data()[i] = sum(a.data()[i], part[b.size() + i]);
    if (averages) {
      out.mean_factors.emplace(name, LowRank{.b = std::move(b), .a = std::move(a)});
    } else {
      out.packet.tensors.emplace(name,
                                 adapter::PacketTensor{tensor.d_out, tensor.d_in,
                                                       adapter::Stack{std::move(b), std::move(a)}});
    }
  }
  return out;
}

}  // namespace strata::coordinator
