// A client's training as bytes, and back.
#include <cstring>

#include "client/local_trainer_impl.h"

namespace strata::client {
namespace {
constexpr std::uint32_t kStateFormat = 4;
}  // namespace

Bytes LocalTrainer::save() const {
  const Impl& c = *impl_;
  ByteWriter out;
  out.number(kStateFormat);
  for (const std::int64_t value : {c.step, c.restarted_at}) out.number(value);
  out.number(c.fresh_since);
  out.number(c.epoch);
  out.number(c.clip_norm);
  out.number(static_cast<std::uint64_t>(c.order.size() - c.cursor));  // records left of the epoch
  const auto params = c.trainable ? c.trainable->kept_params() : std::vector<adapter::ParamRef>{};
  out.number(static_cast<std::uint32_t>(params.size()));
  const auto values = [&out](std::string_view name, std::span<const float> v) {
    out.text(name);
    out.number(static_cast<std::uint64_t>(v.size()));
    out.raw(std::as_bytes(v));
  };
  for (const auto& param : params) values(param.name, param.value);
  const auto moments = c.optimizer->state();
  out.number(static_cast<std::uint32_t>(moments.size()));
  for (const auto& [name, v] : moments) values(name, v);
  out.number(static_cast<std::uint32_t>(c.began_with.size()));
  for (std::size_t i = 0; i < c.began_with.size(); ++i) values(params[i].name, c.began_with[i]);
  const auto carried = c.trainable ? c.trainable->carried() : Trainable::Carried{};
  out.number(static_cast<std::uint32_t>(carried.size()));
  for (const auto& [name, v] : carried) values(name, v);
  return std::move(out).take();
}

namespace {

struct Named {
  std::string name;
  std::vector<float> values;
};

std::optional<std::vector<Named>> named_values(ByteReader& in) {
  const auto count = in.number<std::uint32_t>();
  if (!count) return std::nullopt;
  std::vector<Named> out;
  for (std::uint32_t i = 0; i < *count; ++i) {
    auto name = in.text();
    const auto size = name ? in.number<std::uint64_t>() : std::nullopt;
    if (!size || *size > in.left() / sizeof(float)) return std::nullopt;
    const auto bytes = *in.raw(*size * sizeof(float));
    Named& one = out.emplace_back(Named{std::move(*name), std::vector<float>(*size)});
    std::memcpy(one.values.data(), bytes.data(), bytes.size());
  }
  return out;
}

constexpr const char* kOthers = "has other parameters than its adapters";

bool take(std::span<const adapter::ParamRef> own, const std::vector<Named>& kept) {
  if (own.size() != kept.size()) return false;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const auto& values = kept[i].values;
    if (own[i].name != kept[i].name || own[i].value.size() != values.size()) return false;
    std::copy(values.begin(), values.end(), own[i].value.begin());
  }
  return true;
}

}  // namespace

Result<void> LocalTrainer::load(ByteSpan state, const model::Model& base) {
  Impl& c = *impl_;
  const auto damaged = [&c](std::string what) {
    return fail({.code = ErrorCode::kDamaged,
                 .what = std::move(what),
                 .where = "state of client " + c.spec.name,
                 .rule = "it goes on from a state that the same job left"});
  };
  c.trainable.reset();
  c.optimizer->reset();
  c.began_with.clear();
  c.step = c.restarted_at = 0;
  c.fresh_since = c.epoch = 0;
  c.clip_norm = 0.0;
  c.order.clear();
  c.cursor = 0;
  if (state.empty()) return {};
  ByteReader in(state);
  const auto format = in.number<std::uint32_t>();
  const auto step = in.number<std::int64_t>();
  const auto restarted = in.number<std::int64_t>();
  const auto fresh_since = in.number<std::uint32_t>();
  const auto epoch = in.number<std::uint32_t>();
  const auto clip_norm = in.number<double>();
  const auto left = in.number<std::uint64_t>();
  auto params = left ? named_values(in) : std::nullopt;
  auto moments = params ? named_values(in) : std::nullopt;
  auto began = moments ? named_values(in) : std::nullopt;
  auto carried = began ? named_values(in) : std::nullopt;
  if (!carried || *format != kStateFormat || in.left() != 0)
    return damaged("is not laid out as one");
  if (*left > c.spec.examples.size() || (*left > 0 && *epoch == 0))
    return damaged("is of other records");
  c.step = *step;
  c.restarted_at = *restarted;
  c.fresh_since = *fresh_since;
  c.clip_norm = *clip_norm;
  if (*left > 0) {  // the running epoch's order is drawn again
    c.epoch = *epoch - 1;
    c.draw_order();
    if (*left > c.order.size()) return damaged("is of other records");
    c.cursor = c.order.size() - *left;
  } else {
    c.epoch = *epoch;
  }
  std::map<std::string, std::vector<float>> kept_moments;
  for (auto& [name, values] : *moments) kept_moments.emplace(std::move(name), std::move(values));
  if (auto loaded = c.optimizer->load(kept_moments); !loaded) return loaded;
  if (params->empty()) return {};
  if (auto made = c.ensure_trainable(base); !made) return made;
  const auto own = c.trainable->kept_params();
  if (!began->empty()) {  // what the base had of them then, or will have next
    if (!take(own, *began) || !c.spec.late) return damaged(kOthers);
    if (auto anchored = c.go_on(protocol::Restart::kKeep, {}); !anchored) return anchored;
  }
  Trainable::Carried beside;
  for (auto& [name, values] : *carried) {
    const std::size_t at = base.find(name);
    if (at == model::kNone || base.parameters()[at].size() != values.size())
      return damaged(kOthers);
    beside.emplace(std::move(name), std::move(values));
  }
  if (!take(own, *params) || !c.trainable->carry(beside)) return damaged(kOthers);
  return {};
}

}  // namespace strata::client
