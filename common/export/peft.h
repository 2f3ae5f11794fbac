#pragma once
// LoRA adapters as Hugging Face PEFT keeps them: a folder with adapter_config.json and
// adapter_model.safetensors, whose tensors are named base_model.model.<module>.lora_A.weight (r x
// d_in) and .lora_B.weight (d_out x r).
//   dW(<module>.weight) = scale B A,   scale = alpha / r, or alpha / sqrt(r) with use_rslora
// Reading checks everything against the configuration; what changes the forward pass in a way that
// such a product cannot say (DoRA, biases, modules_to_save, ...) is kUnsupported, never ignored.
// Writing folds every scale into B and says lora_alpha = r, so that every reader, whatever it makes
// of patterns, applies scale 1. No thread rules.
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/delta_terms.h"
#include "base/result.h"
#include "sys/disk.h"

namespace strata::exporting {

/// The part of adapter_config.json that decides what the tensors mean. Patterns keep the file's
/// order: the first match counts.
struct PeftConfig {
  std::string base_model;  // base_model_name_or_path, "" when null
  std::int64_t rank = 8;
  double alpha = 8.0;
  bool use_rslora = false;
  bool fan_in_fan_out = false;  // the base stores d_in x d_out (gpt2); A and B are not affected
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  /// Names as listed; empty when names alone do not say which layers (an expression, "all-linear",
  /// layers_to_transform, exclude_modules). The adapter's tensors always do.
  std::vector<std::string> target_modules;
};

/// The factors of one linear layer as stored: scale not included.
struct PeftModule {
  tensor::Matrix b;  // d_out x rank
  tensor::Matrix a;  // rank x d_in
  std::size_t rank = 0;
  double alpha = 0.0;
  double scale = 1.0;
};

struct PeftAdapter {
  PeftConfig config;
  std::map<std::string, PeftModule> modules;  // "model.layers.0.self_attn.q_proj" -> factors

  [[nodiscard]] std::size_t max_rank() const;
};

/// The configuration alone. kFileMissing, kFormat or kUnsupported naming file and key. `where`
/// names the file.
[[nodiscard]] Result<PeftConfig> parse_peft_config(std::string_view json, const std::string& where);

/// Reads a whole adapter. kFormat for tensors that do not fit the configuration or each other, and
/// for NaN and infinity; each names file and tensor.
[[nodiscard]] Result<PeftAdapter> read_peft(const sys::Disk& disk,
                                            const std::filesystem::path& folder);

/// The change it makes to the base, by base tensor, scale folded into B.
[[nodiscard]] adapter::DeltaTerms delta_terms(const PeftAdapter& peft);

/// The factors alone, by module: to start training from (AdapterSet::load).
[[nodiscard]] std::map<std::string, adapter::Factors> factors(const PeftAdapter& peft);

struct PeftOptions {
  std::string base_model;  // written to base_model_name_or_path and to the model card
  std::vector<std::string>
      target_modules;  // empty: every module by its full name, which is always exact
  bool fan_in_fan_out = false;
  bool uniform_rank =
      true;  // pad with zero rows to one rank; otherwise rank_pattern and alpha_pattern
  std::map<std::string, std::string> metadata;  // into __metadata__ of the tensors' file
};

struct PeftSummary {
  std::size_t modules = 0;
  std::size_t rank = 0;   // r of the configuration
  std::size_t bytes = 0;  // of tensors
};

/// Writes adapter_config.json, adapter_model.safetensors and README.md into an existing folder (see
/// write_peft for one that appears whole). The low-rank terms of each tensor are concatenated.
/// kUnsupported when a term is dense or a tensor is no linear layer's weight; kIncompatibleUpdate
/// for values or shapes that validate() refuses.
[[nodiscard]] Result<PeftSummary> write_peft_files(sys::Disk& disk,
                                                   const std::filesystem::path& folder,
                                                   const adapter::DeltaTerms& delta,
                                                   const PeftOptions& options);

/// The shortest target_modules that select exactly the adapted layers among `linears` (module names
/// of the base model): last parts ("q_proj") where all layers so called are adapted, full names
/// elsewhere.
[[nodiscard]] std::vector<std::string> short_targets(const adapter::DeltaTerms& delta,
                                                     std::span<const std::string> linears);

}  // namespace strata::exporting
