#pragma once
// GPT-2: LayerNorm, learned positions, one fused q/k/v projection, tanh GELU, weights stored d_in x
// d_out (Conv1D).
#include <string>
#include <string_view>

#include "model/family.h"

namespace strata::model {

[[nodiscard]] Result<DecoderConfig> parse_gpt2(std::string_view json, const std::string& where);

inline constexpr ModelNames kGpt2Names{.embedding = "transformer.wte",
                                       .positions = "transformer.wpe",
                                       .layer_prefix = "transformer.h.",
                                       .final_norm = "transformer.ln_f",
                                       .head = "lm_head",
                                       .optional_prefix = "transformer.",
                                       .class_token = "",
                                       .layer = {.norm1 = "ln_1",
                                                 .norm2 = "ln_2",
                                                 .q = "",
                                                 .k = "",
                                                 .v = "",
                                                 .qkv = "attn.c_attn",
                                                 .o = "attn.c_proj",
                                                 .q_norm = "",
                                                 .k_norm = "",
                                                 .gate = "",
                                                 .up = "mlp.c_fc",
                                                 .down = "mlp.c_proj"}};

}  // namespace strata::model
