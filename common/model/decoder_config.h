#pragma once
// What a transformer looks like: every supported family is a value of this struct, so that one
// forward and one backward serve them all; decoders of text, and encoders of images, which see all
// of a record and answer at its first row. Filled from config.json by a family
// (families/*.cpp) and const afterwards.
#include <cstddef>
#include <optional>
#include <string>

namespace strata::model {

enum class NormKind { kRms, kLayer };           // Zhang & Sennrich 2019; Ba et al. 2016
enum class PositionKind { kRotary, kLearned };  // Su et al. 2021; absolute embeddings
enum class MlpKind {
  kSwiGlu,
  kGelu,
  kGeluErf
};  // Shazeer 2020; Hendrycks & Gimpel 2016, in tanh
    // form and exact

/// Llama 3's stretching of the rotary wavelengths (config.json `rope_scaling` of type "llama3").
struct Llama3Scaling {
  double factor = 8.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double original_max_positions = 8192.0;
};

/// How an image becomes rows of a record (Dosovitskiy et al. 2021): square patches, each a row of
/// its values, first all of one channel.
struct PatchGrid {
  std::size_t image = 0;     // side, pixels
  std::size_t patch = 0;     // side, pixels; divides the image's
  std::size_t channels = 0;  // 1: grey; 3: red, green, blue
  [[nodiscard]] std::size_t count() const { return (image / patch) * (image / patch); }
  [[nodiscard]] std::size_t width() const { return channels * patch * patch; }
};

struct DecoderConfig {
  std::string model_type;        // "llama", ...
  std::size_t hidden = 0;        // D
  std::size_t intermediate = 0;  // F
  std::size_t layers = 0;
  std::size_t heads = 0;     // H
  std::size_t kv_heads = 0;  // <= H, divides it (grouped-query attention)
  std::size_t head_dim = 0;  // even for rotary
  std::size_t vocab = 0;     // V; of images the number of classes
  std::size_t max_positions = 0;
  NormKind norm = NormKind::kRms;
  float norm_epsilon = 1e-5f;
  PositionKind position = PositionKind::kRotary;
  double rope_theta = 10000.0;
  std::optional<Llama3Scaling> rope_scaling;
  MlpKind mlp = MlpKind::kSwiGlu;
  bool fused_qkv = false;          // one projection of width (H + 2 H_kv) * head_dim (gpt2)
  bool transposed_linear = false;  // weights stored d_in x d_out (gpt2's Conv1D)
  bool qkv_bias = false;
  bool output_bias = false;  // attention output projection
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm of each head of q and k before the rotation (qwen3)
  bool tied_head = false;
  bool head_bias = false;
  bool causal = true;                // false: every token sees its whole record
  std::optional<PatchGrid> patches;  // records are images: a class row, then their patches
  std::size_t sliding_window = 0;    // keys a query sees, itself included; 0: all earlier ones
  std::size_t sliding_from_layer =
      0;  // layers below this one see everything (qwen2's max_window_layers)
  double initializer_range = 0.02;  // of weights made from scratch

  [[nodiscard]] std::size_t query_width() const { return heads * head_dim; }
  [[nodiscard]] std::size_t kv_width() const { return kv_heads * head_dim; }
  [[nodiscard]] std::size_t window_of(std::size_t layer) const {
    return layer >= sliding_from_layer ? sliding_window : 0;
  }
};

}  // namespace strata::model
