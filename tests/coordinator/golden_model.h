#pragma once
// The golden Llama as a coordinator's base.
#include <filesystem>

#include "model/model.h"
#include "sys/disk.h"

namespace strata::coordinator {

[[nodiscard]] inline model::Model golden_model() {
  const auto disk = sys::make_posix_disk();
  const std::filesystem::path folder =
      std::filesystem::path(STRATA_SOURCE_DIR) / "tests/golden/model/llama";
  return model::Model::load(*disk, folder, tensor::DType::kF32).value();
}

/// One of its tensors, not square.
inline constexpr const char* kTensor = "model.layers.1.mlp.up_proj.weight";

}  // namespace strata::coordinator
