#pragma once
// A whole model as a Hugging Face folder: model.safetensors with every tensor in one float type,
// beside the tokenizer, chat template and configuration of the model it came from. Tensors are
// asked for one at a time, so a checkpoint larger than memory can be written. No thread rules.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "sys/disk.h"
#include "tensor/dtype.h"

namespace strata::exporting {

struct CheckpointTensor {
  std::string name;
  std::vector<std::size_t> shape;
};

/// Fills `out` with the values of tensor `index`, in storage order.
using CopyTensor = std::function<Result<void>(std::size_t index, std::span<float> out)>;

struct CheckpointSummary {
  std::size_t tensors = 0;
  std::size_t bytes = 0;  // of tensors
};

/// Writes into an existing folder: model.safetensors in `dtype` (kF32, kBF16 or kF16), config.json
/// of `source` with its type set to that, and every tokenizer, template and generation file that
/// `source` has. kNumeric naming the tensor when a value is not finite, or leaves the range of
/// `dtype`.
[[nodiscard]] Result<CheckpointSummary> write_checkpoint_files(
    sys::Disk& disk, const std::filesystem::path& folder, const std::filesystem::path& source,
    std::span<const CheckpointTensor> tensors, const CopyTensor& copy, tensor::DType dtype);

/// The same for a model as it is now, with what was folded into it.
[[nodiscard]] Result<CheckpointSummary> write_checkpoint_files(sys::Disk& disk,
                                                               const std::filesystem::path& folder,
                                                               const std::filesystem::path& source,
                                                               const model::Model& model,
                                                               tensor::DType dtype);

}  // namespace strata::exporting
