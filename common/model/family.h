#pragma once
// A model family: how its config.json and tensor names map onto DecoderConfig and the decoder's
// parts. One file per family in families/ and one line in registry.cpp.
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/decoder_config.h"

namespace strata::model {

/// Names of one layer's parts, relative to the layer's prefix; an empty name means the part does
/// not exist.
struct LayerNames {
  std::string_view norm1, norm2;     // "input_layernorm"
  std::string_view q, k, v, qkv, o;  // linear modules: "self_attn.q_proj"
  std::string_view q_norm, k_norm;
  std::string_view gate, up, down;  // gelu models: up = c_fc, down = c_proj
};

struct ModelNames {
  std::string_view embedding;        // "model.embed_tokens"; of images the patches' projection
  std::string_view positions;        // learned positions, or empty; of images a tensor's own name
  std::string_view layer_prefix;     // "model.layers."
  std::string_view final_norm;       // "model.norm"
  std::string_view head;             // "lm_head"
  std::string_view optional_prefix;  // some checkpoints leave it out ("transformer." of gpt2)
  std::string_view class_token;      // of images: what stands in a record's first row
  LayerNames layer;
};

struct FamilyEntry {
  std::string_view model_type;
  std::string_view help;
  ModelNames names;
  /// `json` is the text of config.json, `where` its path for messages.
  Result<DecoderConfig> (*parse)(std::string_view json, const std::string& where);
};

[[nodiscard]] std::span<const FamilyEntry> families();
/// The family named by "model_type" of a config.json; kUnsupported listing the supported ones
/// otherwise.
[[nodiscard]] Result<const FamilyEntry*> find_family(std::string_view json,
                                                     const std::string& where);

}  // namespace strata::model
