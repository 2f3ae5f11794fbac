#include "model/families/vit.h"

#include "model/families/config_reader.h"

namespace strata::model {

Result<DecoderConfig> parse_vit(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  DecoderConfig c;
  c.model_type = "vit";
  c.hidden = in.size("hidden_size", 768);
  c.intermediate = in.size("intermediate_size", 3072);
  c.layers = in.size("num_hidden_layers", 12);
  c.heads = c.kv_heads = in.size("num_attention_heads", 12);
  c.head_dim = c.heads == 0 ? 0 : c.hidden / c.heads;
  PatchGrid grid{.image = in.size("image_size", 224),
                 .patch = in.size("patch_size", 16),
                 .channels = in.size("num_channels", 3)};
  c.norm = NormKind::kLayer;
  c.norm_epsilon = static_cast<float>(in.number("layer_norm_eps", 1e-12));
  c.position = PositionKind::kLearned;
  c.mlp = MlpKind::kGeluErf;
  c.qkv_bias = in.boolean("qkv_bias", true);
  c.output_bias = c.mlp_bias = c.head_bias = true;
  c.causal = false;
  c.initializer_range = in.number("initializer_range", 0.02);
  c.vocab = in.entries("id2label", in.size("num_labels", 2));
  in.expect_text("hidden_act", {"gelu"});
  for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob"})
    in.expect_number(key, 0.0);
  const auto refuse = [&](const char* key, std::size_t value, const char* rule) {
    in.refuse(key, "is " + std::to_string(value), rule);
  };
  if (c.heads != 0 && c.hidden % c.heads != 0)
    refuse("num_attention_heads", c.heads, "must divide hidden_size");
  if (grid.channels != 1 && grid.channels != 3)
    refuse("num_channels", grid.channels, "1 (grey) or 3 (red, green, blue)");
  if (grid.image == 0 || grid.image > 4096) {
    refuse("image_size", grid.image, "1 to 4096");
    grid.image = 1;
  }
  if (grid.patch == 0 || grid.image % grid.patch != 0) {
    refuse("patch_size", grid.patch, "must divide image_size");
    grid.patch = 1;
  }
  if (grid.patch == 1 && grid.channels == 1)
    refuse("patch_size", grid.patch, "a patch has more than one value");
  c.max_positions = grid.count() + 1;
  c.patches = grid;
  return in.finish(c);
}

}  // namespace strata::model
