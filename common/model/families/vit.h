#pragma once
// Vision transformers that classify images (Dosovitskiy et al. 2021), by the names of checkpoints.
#include <string>
#include <string_view>

#include "model/family.h"

namespace strata::model {

[[nodiscard]] Result<DecoderConfig> parse_vit(std::string_view json, const std::string& where);

inline constexpr ModelNames kVitNames{.embedding = "vit.embeddings.patch_embeddings.projection",
                                      .positions = "vit.embeddings.position_embeddings",
                                      .layer_prefix = "vit.encoder.layer.",
                                      .final_norm = "vit.layernorm",
                                      .head = "classifier",
                                      .optional_prefix = "",
                                      .class_token = "vit.embeddings.cls_token",
                                      .layer = {.norm1 = "layernorm_before",
                                                .norm2 = "layernorm_after",
                                                .q = "attention.attention.query",
                                                .k = "attention.attention.key",
                                                .v = "attention.attention.value",
                                                .qkv = "",
                                                .o = "attention.output.dense",
                                                .q_norm = "",
                                                .k_norm = "",
                                                .gate = "",
                                                .up = "intermediate.dense",
                                                .down = "output.dense"}};

}  // namespace strata::model
