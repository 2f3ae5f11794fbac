#include "export/huggingface.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "formats/safetensors.h"
#include "tensor/convert.h"

namespace strata::exporting {
namespace {

using Path = std::filesystem::path;
using Json = nlohmann::ordered_json;

// Everything beside the weights that transformers reads for a text model.
constexpr std::array kCompanions{"tokenizer.json",
                                 "tokenizer_config.json",
                                 "special_tokens_map.json",
                                 "added_tokens.json",
                                 "tokenizer.model",
                                 "vocab.json",
                                 "merges.txt",
                                 "chat_template.jinja",
                                 "chat_template.json",
                                 "generation_config.json",
                                 "LICENSE"};
constexpr std::size_t kPiece = 1u << 20;  // values converted at a time

Result<void> copy_file(sys::Disk& disk, const Path& from, const Path& to) {
  auto file = disk.map(from);
  if (!file) return fail(std::move(file).error());
  return disk.write_atomic(to, [&](sys::FileWriter& out) { return out.write((*file)->bytes()); });
}

std::string_view torch_name(tensor::DType dtype) {
  if (dtype == tensor::DType::kBF16) return "bfloat16";
  return dtype == tensor::DType::kF16 ? "float16" : "float32";
}

// config.json names the type of its weights as torch_dtype, newer files as dtype: whichever is
// there is brought up to date.
Result<void> write_config(sys::Disk& disk, const Path& from, const Path& to, tensor::DType dtype) {
  auto text = disk.read_text(from);
  if (!text) return fail(std::move(text).error());
  Json config = Json::parse(*text, nullptr, false);
  if (!config.is_object()) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "not a JSON object",
                 .where = from.string(),
                 .rule = "config.json describes one model",
                 .remedy = "copy the model folder again"});
  }
  if (config.contains("dtype")) config["dtype"] = torch_name(dtype);
  if (config.contains("torch_dtype") || !config.contains("dtype"))
    config["torch_dtype"] = torch_name(dtype);
  return disk.write_atomic(to, config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Error out_of_range(const std::string& name, std::size_t index, float value, tensor::DType dtype) {
  return {.code = ErrorCode::kNumeric,
          .what = "value " + std::to_string(index) + " is " + std::to_string(value),
          .where = printable(name),
          .rule = "weights are finite and within the range of " + std::string(torch_name(dtype)),
          .remedy = std::isfinite(value) ? "export as f32 or bf16"
                                         : "train with a smaller learning rate"};
}

// Turns floats into the stored type, a piece at a time, in memory that is used again for the next
// tensor.
class Converter {
 public:
  explicit Converter(tensor::DType dtype) : dtype_(dtype) {}

  Result<void> write(const std::string& name, std::span<const float> values, sys::FileWriter& out) {
    const float limit = dtype_ == tensor::DType::kF16
                            ? 65519.99f
                            : std::numeric_limits<float>::max();  // what rounds to infinity
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!(std::fabs(values[i]) <= limit)) return fail(out_of_range(name, i, values[i], dtype_));
    }
    if (dtype_ == tensor::DType::kF32) return out.write(std::as_bytes(values));
    for (std::size_t first = 0; first < values.size(); first += kPiece) {
      const auto piece = values.subspan(first, std::min(kPiece, values.size() - first));
      auto written = out.write(halves(piece));
      if (!written) return written;
    }
    return {};
  }

 private:
  std::span<const std::byte> halves(std::span<const float> values) {
    if (dtype_ == tensor::DType::kBF16) {
      bf16_.resize(values.size());
      tensor::to_bf16(bf16_.data(), values.data(), values.size());
      return std::as_bytes(std::span(bf16_));
    }
    f16_.resize(values.size());
    std::transform(values.begin(), values.end(), f16_.begin(), tensor::Float16::from);
    return std::as_bytes(std::span(f16_));
  }

  tensor::DType dtype_;
  std::vector<tensor::BFloat16> bf16_;
  std::vector<tensor::Float16> f16_;
};

Result<CheckpointSummary> write_weights(sys::Disk& disk, const Path& path,
                                        std::span<const CheckpointTensor> tensors,
                                        const CopyTensor& copy, tensor::DType dtype) {
  Converter converter(dtype);
  std::vector<float> values;
  std::vector<formats::TensorToWrite> planned;
  CheckpointSummary summary{.tensors = tensors.size()};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, shape] = tensors[i];
    planned.push_back({.name = name, .dtype = dtype, .shape = shape});
    planned.back().produce = [&, i](sys::FileWriter& out) -> Result<void> {
      const auto& one = tensors[i];
      values.resize(
          std::accumulate(one.shape.begin(), one.shape.end(), std::size_t{1}, std::multiplies<>()));
      auto copied = copy(i, values);
      return copied ? converter.write(one.name, values, out) : copied;
    };
    summary.bytes += planned.back().byte_count();
  }
  auto written = formats::write_safetensors(disk, path, planned);
  if (!written) return fail(std::move(written).error());
  return summary;
}

}  // namespace

Result<CheckpointSummary> write_checkpoint_files(sys::Disk& disk, const Path& folder,
                                                 const Path& source,
                                                 std::span<const CheckpointTensor> tensors,
                                                 const CopyTensor& copy, tensor::DType dtype) {
  constexpr const char* kDoing = "writing a checkpoint";
  check(
      dtype == tensor::DType::kF32 || dtype == tensor::DType::kBF16 || dtype == tensor::DType::kF16,
      "a checkpoint is written as f32, bf16 or f16");
  if (auto config = write_config(disk, source / "config.json", folder / "config.json", dtype);
      !config) {
    return fail(std::move(config).error(), kDoing);
  }
  for (const char* name : kCompanions) {
    if (!disk.exists(source / name)) continue;
    if (auto copied = copy_file(disk, source / name, folder / name); !copied)
      return fail(std::move(copied).error(), kDoing);
  }
  auto summary = write_weights(disk, folder / "model.safetensors", tensors, copy, dtype);
  if (!summary) return fail(std::move(summary).error(), kDoing);
  return summary;
}

Result<CheckpointSummary> write_checkpoint_files(sys::Disk& disk, const Path& folder,
                                                 const Path& source, const model::Model& model,
                                                 tensor::DType dtype) {
  std::vector<CheckpointTensor> tensors;
  for (const auto& parameter : model.parameters())
    tensors.push_back({.name = parameter.name(), .shape = parameter.shape()});
  const auto copy = [&](std::size_t index, std::span<float> out) -> Result<void> {
    model.parameters()[index].copy_values(out);
    return {};
  };
  return write_checkpoint_files(disk, folder, source, tensors, copy, dtype);
}

}  // namespace strata::exporting
