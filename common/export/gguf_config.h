#pragma once
// The shape of a GGUF model, from its "<architecture>.<key>" values, and the config.json that says
// the same.
#include <cstddef>
#include <optional>
#include <string>

#include "base/result.h"
#include "formats/gguf.h"
#include "model/decoder_config.h"
#include "tensor/dtype.h"

namespace strata::exporting {

struct GgufSizes {
  std::string architecture;  // llama, qwen2 or qwen3
  std::size_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0,
              context = 0, vocab = 0;
  double epsilon = 1e-5;
  double rope_theta = 10000.0;
  std::optional<model::Llama3Scaling> rope_scaling;
  bool tied_head = false;
  bool attention_bias = false;  // on q, k, v; outside qwen2 on the output projection too
  bool mlp_bias = false;
};

/// kFormat for missing or impossible sizes, kUnsupported for other architectures and for rotary
/// positions that config.json cannot say; each names file and key.
[[nodiscard]] Result<GgufSizes> read_sizes(const formats::GgufFile& file);

[[nodiscard]] std::string config_json(const formats::GgufFile& file, const GgufSizes& sizes,
                                      tensor::DType dtype);
[[nodiscard]] std::string generation_json(const formats::GgufFile& file);

}  // namespace strata::exporting
