#include "model/fold.h"

#include <algorithm>

#include "formats/safetensors.h"

namespace strata::model {

adapter::TensorShapes tensor_shapes(const Model& model) {
  adapter::TensorShapes out;
  for (const auto& p : model.parameters()) out.emplace(p.name(), std::pair(p.d_out(), p.d_in()));
  return out;
}

void fold(Model& model, const adapter::Packet& packet, tensor::Team* team) {
  tensor::Team alone;
  adapter::MergeRoom room;
  for (const auto& [name, change] : packet.tensors) {
    auto& parameter = model.parameters()[model.find(name)];
    adapter::merge(parameter.master(), parameter.transposed(), change,
                   adapter::product_kernels().back(), team != nullptr ? *team : alone, room);
    parameter.refresh();
  }
}

std::size_t changed_bytes(const Model& model) {
  std::size_t out = 0;
  for (const auto& p : model.parameters()) {
    if (p.has_master()) out += p.size() * sizeof(float);
  }
  return out;
}

Result<void> write_changed(sys::Disk& disk, const std::filesystem::path& path, const Model& model) {
  std::vector<formats::TensorToWrite> tensors;
  for (const auto& p : model.parameters()) {
    if (!p.has_master()) continue;
    tensors.push_back({.name = p.name(),
                       .dtype = tensor::DType::kF32,
                       .shape = {p.rows(), p.cols()},
                       .produce = [&p](sys::FileWriter& out) {
                         std::vector<float> values(p.size());
                         p.copy_values(values);
                         return out.write(std::as_bytes(std::span<const float>(values)));
                       }});
  }
  return formats::write_safetensors(disk, path, tensors);
}

Result<void> load_changed(Model& model, const formats::SafetensorsFile& file) {
  const auto names = file.names();
  for (const auto& name : names) {
    auto stored = file.get(name);
    if (!stored) return fail(std::move(stored).error());
    const std::size_t at = model.find(name);
    if (at == kNone || stored->shape != std::vector{model.parameters()[at].rows(),
                                                    model.parameters()[at].cols()}) {
      return fail({.code = ErrorCode::kFormat,
                   .what = at == kNone ? "is unknown" : "has another shape than the model's",
                   .where = file.where() + ": tensor " + printable(name, 120),
                   .rule = "a snapshot holds tensors of the model"});
    }
    if (auto values = formats::to_float(*stored, name, file.where()); !values)
      return fail(std::move(values).error());
  }
  for (const auto& name : names) {
    auto& parameter = model.parameters()[model.find(name)];
    const auto values = formats::to_float(file.get(name).value(), name, file.where()).value();
    std::copy(values.begin(), values.end(), parameter.master().begin());
    parameter.refresh();
  }
  return {};
}

}  // namespace strata::model
