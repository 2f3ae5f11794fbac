#pragma once
// A decoder-only language model: its shape, its tensors, and the linear layers that can carry an
// adapter. The base of a federation round: shared and read-only while clients train, changed only
// by folding a round's packet into it. Threads: const members from several threads; anything else
// needs exclusive use.
#include <array>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "model/decoder_config.h"
#include "model/family.h"
#include "model/parameter.h"
#include "sys/disk.h"
#include "sys/random.h"
#include "tensor/team.h"

namespace strata::model {

inline constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

/// One linear layer y = W x (+ bias). `module` is the name PEFT uses
/// ("model.layers.0.self_attn.q_proj").
struct LinearSite {
  std::string module;
  std::size_t layer = 0;
  std::size_t weight = kNone;  // index into parameters()
  std::size_t bias = kNone;
  std::size_t d_out = 0;
  std::size_t d_in = 0;
};

/// Indices of one layer's parts: sites into linears(), the rest into parameters().
struct LayerParts {
  std::size_t norm1 = kNone, norm1_bias = kNone, norm2 = kNone, norm2_bias = kNone;
  std::size_t q_norm = kNone, k_norm = kNone;
  std::vector<std::size_t> qkv;  // {q, k, v}, or the fused one alone
  std::size_t o = kNone, gate = kNone, up = kNone, down = kNone;
};

class Model {
 public:
  /// Loads a Hugging Face folder. `compute` is the type of the matrix products, kF32 or kBF16.
  /// Errors name file and tensor: missing tensors, wrong shapes, non-finite values, unsupported
  /// families.
  [[nodiscard]] static Result<Model> load(const sys::Disk& disk,
                                          const std::filesystem::path& folder,
                                          tensor::DType compute);
  /// Fresh weights for the config.json text: normal with initializer_range, norms 1, biases 0.
  [[nodiscard]] static Result<Model> create(std::string_view config_json, const std::string& where,
                                            tensor::DType compute, sys::Stream stream);

  [[nodiscard]] const DecoderConfig& config() const { return config_; }
  [[nodiscard]] const std::string& where() const { return where_; }
  [[nodiscard]] tensor::DType compute() const { return compute_; }
  [[nodiscard]] std::span<const Parameter> parameters() const { return parameters_; }
  [[nodiscard]] std::span<Parameter> parameters() { return parameters_; }
  [[nodiscard]] std::span<const LinearSite> linears() const { return linears_; }
  [[nodiscard]] std::span<const LayerParts> layers() const { return layers_; }
  /// Of text the table of tokens; of images the projection of patches, whose bias and class row
  /// are `patch_bias` and `class_token`.
  [[nodiscard]] std::size_t embedding() const { return embedding_; }
  [[nodiscard]] std::size_t patch_bias() const { return patch_bias_; }
  [[nodiscard]] std::size_t class_token() const { return class_token_; }
  [[nodiscard]] std::size_t positions() const { return positions_; }
  [[nodiscard]] std::size_t final_norm() const { return final_norm_; }
  [[nodiscard]] std::size_t final_norm_bias() const { return final_norm_bias_; }
  /// The output head's parameter: the embedding itself when tied.
  [[nodiscard]] std::size_t head() const { return head_; }
  [[nodiscard]] std::size_t head_bias() const { return head_bias_; }
  /// Index into parameters() of a tensor by name, or kNone.
  [[nodiscard]] std::size_t find(std::string_view name) const;
  [[nodiscard]] std::size_t parameter_count() const;

  /// SHA-256 over (name, SHA-256 of the f32 values) of all tensors in name order: the same for
  /// every party that holds the same model, however it is stored.
  [[nodiscard]] Sha256 state_hash(tensor::Team* team = nullptr) const;
  [[nodiscard]] std::size_t owned_bytes() const;

 private:
  struct Builder;
  Model() = default;

  DecoderConfig config_;
  std::string where_;
  tensor::DType compute_ = tensor::DType::kF32;
  std::optional<formats::SafetensorsFile> file_;  // keeps the mapping alive
  std::vector<Parameter> parameters_;
  std::vector<LinearSite> linears_;
  std::vector<LayerParts> layers_;
  std::size_t embedding_ = kNone, positions_ = kNone, final_norm_ = kNone, final_norm_bias_ = kNone,
              head_ = kNone, patch_bias_ = kNone, class_token_ = kNone, head_bias_ = kNone;
};

}  // namespace strata::model
