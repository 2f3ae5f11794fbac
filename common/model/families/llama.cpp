#include "model/families/llama.h"

#include "model/families/config_reader.h"

namespace strata::model {
namespace {

// What all four share: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
DecoderConfig common(ConfigReader& in) {
  DecoderConfig c;
  c.model_type = in.text("model_type", "llama");
  c.hidden = in.size("hidden_size");
  c.intermediate = in.size("intermediate_size");
  c.layers = in.size("num_hidden_layers");
  c.heads = in.size("num_attention_heads");
  c.kv_heads = in.size("num_key_value_heads", c.heads);
  c.head_dim = in.size("head_dim", c.heads == 0 ? 0 : c.hidden / c.heads);
  c.vocab = in.size("vocab_size");
  c.max_positions = in.size("max_position_embeddings", 2048);
  c.norm_epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-6));
  c.initializer_range = in.number("initializer_range", 0.02);
  c.tied_head = in.boolean("tie_word_embeddings", false);
  in.expect_text("hidden_act", {"silu", "swish"});
  in.expect_number("partial_rotary_factor", 1.0);
  in.rope(c);
  return c;
}

}  // namespace

Result<DecoderConfig> parse_llama(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  DecoderConfig c = common(in);
  c.qkv_bias = c.output_bias = in.boolean("attention_bias", false);
  c.mlp_bias = in.boolean("mlp_bias", false);
  return in.finish(c);
}

Result<DecoderConfig> parse_mistral(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  DecoderConfig c = common(in);
  c.sliding_window = in.has("sliding_window") ? in.size("sliding_window") : 0;
  return in.finish(c);
}

Result<DecoderConfig> parse_qwen2(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  DecoderConfig c = common(in);
  c.qkv_bias = true;
  in.optional_window(c);
  return in.finish(c);
}

Result<DecoderConfig> parse_qwen3(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  DecoderConfig c = common(in);
  c.head_dim = in.size("head_dim", 128);
  c.qk_norm = true;
  c.qkv_bias = c.output_bias = in.boolean("attention_bias", false);
  in.optional_window(c);
  return in.finish(c);
}

}  // namespace strata::model
