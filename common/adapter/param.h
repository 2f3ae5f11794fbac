#pragma once
// One trainable tensor as optimizers, clipping and noise see it.
#include <span>
#include <string>

namespace strata::adapter {

enum class ParamRole { kFactorA, kFactorB, kBase };

struct ParamRef {
  std::string name;  // "model.layers.0.self_attn.q_proj.lora_A"
  ParamRole role = ParamRole::kBase;
  std::span<float> value;      // borrowed from the adapter or trainable model, which outlives this
  std::span<float> grad;       // same length
  float lr_multiplier = 1.0f;  // LoRA+: > 1 for B
  bool decay = true;           // weight decay applies
  int head = -1;               // of several, that alone trains it; -1: trained by all records
};

}  // namespace strata::adapter
