#pragma once
// A golden model loaded for a test: model, its PEFT factors, the packed records.
#include <map>
#include <memory>
#include <regex>
#include <string>

#include "adapter/adapter_set.h"
#include "formats/safetensors.h"
#include "model/decoder.h"
#include "support/golden.h"

namespace strata::model {

struct GoldenRun {
  support::Golden golden;
  std::unique_ptr<sys::Disk> disk = sys::make_posix_disk();
  Model model;
  PackedBatch batch;
  Workspace workspace{2};

  explicit GoldenRun(const std::string& name, tensor::DType compute = tensor::DType::kF32)
      : golden(name), model(load(*disk, golden, compute)) {
    for (const auto& record : golden.records()) batch.add(record.tokens, record.trained);
  }

  static Model load(const sys::Disk& disk, const support::Golden& golden, tensor::DType compute) {
    auto model = Model::load(disk, golden.folder(), compute);
    if (!model) throw std::runtime_error(model.error().line());
    return std::move(*model);
  }

  std::vector<adapter::LinearShape> shapes() const {
    std::vector<adapter::LinearShape> out;
    for (const auto& site : model.linears()) out.push_back({site.module, site.d_out, site.d_in});
    return out;
  }

  /// The factors of a PEFT folder by module.
  std::map<std::string, adapter::Factors> factors(const std::filesystem::path& folder) const {
    auto file = formats::SafetensorsFile::open(*disk, folder / "adapter_model.safetensors");
    if (!file) throw std::runtime_error(file.error().line());
    std::map<std::string, adapter::Factors> out;
    const std::regex key("base_model\\.model\\.(.*)\\.lora_([AB])\\.weight");
    for (const auto& name : file->names()) {
      std::smatch parts;
      if (!std::regex_match(name, parts, key)) throw std::runtime_error("odd key " + name);
      const auto tensor = file->get(name);
      auto values = formats::to_float(*tensor, name, "golden");
      tensor::Matrix matrix(tensor->shape[0], tensor->shape[1], std::move(*values));
      (parts[2] == "A" ? out[parts[1]].a : out[parts[1]].b) = std::move(matrix);
    }
    return out;
  }

  adapter::AdapterSet adapters(const adapter::AdapterConfig& config,
                               const std::filesystem::path& folder) const {
    auto set = adapter::AdapterSet::make(config, shapes(), sys::Stream(1));
    if (!set) throw std::runtime_error(set.error().line());
    if (auto loaded = set->load(factors(folder)); !loaded)
      throw std::runtime_error(loaded.error().line());
    set->prepare(model.compute());
    return std::move(*set);
  }

  /// Rank 4, alpha 6 on all linear layers.
  adapter::AdapterSet lora() const { return adapters({.rank = 4, .alpha = 6.0}, golden.adapter()); }

  std::vector<float> mean_weights() const {
    return std::vector<float>(batch.records(), 1.0f / static_cast<float>(golden.trained_tokens()));
  }
};

}  // namespace strata::model
