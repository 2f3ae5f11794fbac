#pragma once
// The base model of simulated federations: one layer, small enough to be hashed and folded in no
// time.
#include <stdexcept>
#include <string_view>

#include "model/model.h"

namespace strata::sim {

[[nodiscard]] inline model::Model tiny_model(std::uint64_t seed) {
  static constexpr std::string_view kConfig =
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
  "num_key_value_heads": 2, "vocab_size": 16, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu", "initializer_range": 0.1})";
  auto made = model::Model::create(kConfig, "simulated", tensor::DType::kF32, sys::Stream(seed));
  if (!made) throw std::runtime_error(made.error().line());
  return std::move(*made);
}

}  // namespace strata::sim
