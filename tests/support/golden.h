#pragma once
// The golden models of tests/golden/model (made by tests/golden/model.py from transformers and
// PEFT) as plain values. A golden that is missing, damaged or asked for under a wrong name throws
// std::runtime_error, which GoogleTest reports as a failure of the test that asked.
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/safetensors.h"

namespace strata::support {

/// One record of the golden batch: `trained[t]` says whether the prediction of token t is trained
/// on; trained[0] is 0.
struct GoldenRecord {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> trained;
};

class Golden {
 public:
  /// "llama", "llama3_rope", "llama_bf16", "mistral", "qwen2", "qwen3", "gpt2": a folder of
  /// tests/golden/model.
  explicit Golden(const std::string& model);

  /// The Hugging Face folder of the base model.
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// The PEFT folders: rank 4 and alpha 6 on all linear layers; unequal ranks and alphas with
  /// rsLoRA.
  [[nodiscard]] std::filesystem::path adapter() const { return folder_ / "adapter"; }
  [[nodiscard]] std::filesystem::path pattern_adapter() const {
    return folder_ / "adapter_patterns";
  }

  /// The three records, in the order of the rows of every "logits".
  [[nodiscard]] const std::vector<GoldenRecord>& records() const { return records_; }
  /// Tokens trained on in all records: what "loss" is a mean over.
  [[nodiscard]] std::size_t trained_tokens() const;

  /// A tensor of floats, row-major: values("lora.grad.model.layers.0.self_attn.q_proj.lora_A").
  [[nodiscard]] std::vector<float> values(std::string_view name) const;
  /// A series kept in double: numbers("lora.adamw.losses") is the loss before each step.
  [[nodiscard]] std::vector<double> numbers(std::string_view name) const;
  [[nodiscard]] std::vector<std::size_t> shape(std::string_view name) const;
  [[nodiscard]] bool contains(std::string_view name) const { return file_.contains(name); }
  /// What follows `prefix` in the names that start with it, sorted: names("lora.grad.") are the
  /// adapter's factors.
  [[nodiscard]] std::vector<std::string> names(std::string_view prefix) const;

 private:
  [[nodiscard]] formats::StoredTensor find(std::string_view name) const;
  template <class T>
  [[nodiscard]] std::vector<T> copy(std::string_view name, tensor::DType type) const;

  std::filesystem::path folder_;
  formats::SafetensorsFile file_;
  std::vector<GoldenRecord> records_;
};

/// tests/golden of the source tree.
[[nodiscard]] std::filesystem::path golden_folder();

/// max_i |actual_i - expected_i|; infinity when the sizes differ or a value is NaN.
[[nodiscard]] double max_abs_diff(std::span<const float> actual, std::span<const float> expected);
[[nodiscard]] double max_abs_diff(std::span<const double> actual, std::span<const double> expected);

/// max_i |actual_i - expected_i| / max_i |expected_i|: relative to the tensor, so that its
/// near-zero entries do not decide.
[[nodiscard]] double max_rel_diff(std::span<const float> actual, std::span<const float> expected);
[[nodiscard]] double max_rel_diff(std::span<const double> actual, std::span<const double> expected);

}  // namespace strata::support
