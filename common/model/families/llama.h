#pragma once
// The Llama line of families: llama, mistral (sliding window), qwen2 (q/k/v bias), qwen3 (q/k
// norm).
#include <string>
#include <string_view>

#include "model/family.h"

namespace strata::model {

[[nodiscard]] Result<DecoderConfig> parse_llama(std::string_view json, const std::string& where);
[[nodiscard]] Result<DecoderConfig> parse_mistral(std::string_view json, const std::string& where);
[[nodiscard]] Result<DecoderConfig> parse_qwen2(std::string_view json, const std::string& where);
[[nodiscard]] Result<DecoderConfig> parse_qwen3(std::string_view json, const std::string& where);

inline constexpr ModelNames kLlamaNames{.embedding = "model.embed_tokens",
                                        .positions = "",
                                        .layer_prefix = "model.layers.",
                                        .final_norm = "model.norm",
                                        .head = "lm_head",
                                        .optional_prefix = "",
                                        .class_token = "",
                                        .layer = {.norm1 = "input_layernorm",
                                                  .norm2 = "post_attention_layernorm",
                                                  .q = "self_attn.q_proj",
                                                  .k = "self_attn.k_proj",
                                                  .v = "self_attn.v_proj",
                                                  .qkv = "",
                                                  .o = "self_attn.o_proj",
                                                  .q_norm = "self_attn.q_norm",
                                                  .k_norm = "self_attn.k_norm",
                                                  .gate = "mlp.gate_proj",
                                                  .up = "mlp.up_proj",
                                                  .down = "mlp.down_proj"}};

}  // namespace strata::model
