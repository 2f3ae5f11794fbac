#include "model/families/gpt2.h"

#include "model/families/config_reader.h"

namespace strata::model {

Result<DecoderConfig> parse_gpt2(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  DecoderConfig c;
  c.model_type = "gpt2";
  c.hidden = in.size("n_embd");
  c.intermediate = in.size("n_inner", 4 * c.hidden);
  c.layers = in.size("n_layer");
  c.heads = c.kv_heads = in.size("n_head");
  c.head_dim = c.heads == 0 ? 0 : c.hidden / c.heads;
  c.vocab = in.size("vocab_size");
  c.max_positions = in.size("n_positions", 1024);
  c.norm = NormKind::kLayer;
  c.norm_epsilon = static_cast<float>(in.number("layer_norm_epsilon", 1e-5));
  c.position = PositionKind::kLearned;
  c.mlp = MlpKind::kGelu;
  c.fused_qkv = c.transposed_linear = true;
  c.qkv_bias = c.output_bias = c.mlp_bias = true;
  c.tied_head = in.boolean("tie_word_embeddings", true);
  c.initializer_range = in.number("initializer_range", 0.02);
  in.expect_text("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  if (in.boolean("scale_attn_by_inverse_layer_idx", false)) {
    in.refuse("scale_attn_by_inverse_layer_idx", "is true", "only false is supported");
  }
  if (!in.boolean("scale_attn_weights", true))
    in.refuse("scale_attn_weights", "is false", "only true is supported");
  if (c.heads != 0 && c.hidden % c.heads != 0) {
    in.refuse("n_head",
              std::to_string(c.heads) + " does not divide n_embd " + std::to_string(c.hidden),
              "must divide it");
  }
  return in.finish(c);
}

}  // namespace strata::model
