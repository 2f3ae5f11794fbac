#include "export/gguf_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "export/gguf_rope.h"

namespace strata::exporting {
namespace {

using formats::GgufFile;
using json = nlohmann::ordered_json;

constexpr std::array<std::pair<const char*, const char*>, 3> kTokenIds{
    {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
     {"eos_token_id", "tokenizer.ggml.eos_token_id"},
     {"pad_token_id", "tokenizer.ggml.padding_token_id"}}};

// The file keeps these as float; what its writer meant is the shortest decimal that rounds to that
// float.
double decimal(double stored) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(stored));
  double out = stored;
  std::from_chars(text, end.ptr, out);
  return out;
}

// Reads "<architecture>.<key>"; the first problem is kept.
class Keys {
 public:
  Keys(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  std::size_t size(std::string_view key, std::optional<std::size_t> fallback = std::nullopt) {
    const auto value = file_.whole(full(key));
    if (value && *value > 0 && *value < (1u << 31)) return static_cast<std::size_t>(*value);
    if (!file_.values().contains(full(key)) && fallback) return *fallback;
    refuse(key, ErrorCode::kFormat, value ? "is " + std::to_string(*value) : absent(key),
           "must be a positive whole number");
    return 1;
  }

  double positive(std::string_view key, double fallback) {
    const auto value = file_.number(full(key));
    if (!value && !file_.values().contains(full(key))) return fallback;
    const double meant = value ? decimal(*value) : 0.0;
    if (meant > 0.0 && meant < 1e30) return meant;
    refuse(key, ErrorCode::kFormat, value ? "is " + std::to_string(*value) : absent(key),
           "must be a positive number");
    return fallback;
  }

  void expect(std::string_view key, std::size_t wanted, std::string rule) {
    if (const auto value = file_.whole(full(key)); value && *value != wanted)
      refuse(key, ErrorCode::kUnsupported, "is " + std::to_string(*value), std::move(rule));
  }

  void refuse(std::string_view key, ErrorCode code, std::string what, std::string rule) {
    if (error_) return;
    error_ = Error{.code = code,
                   .what = std::move(what),
                   .where = file_.where() + ": " + full(key),
                   .rule = std::move(rule)};
  }

  [[nodiscard]] std::string full(std::string_view key) const {
    return architecture_ + "." + std::string(key);
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  [[nodiscard]] std::string absent(std::string_view key) const {
    return file_.values().contains(full(key)) ? "is of another kind" : "is missing";
  }

  const GgufFile& file_;
  std::string architecture_;
  std::optional<Error> error_;
};

// The tensor of factors that Llama 3.1 and later carry.
Result<std::optional<model::Llama3Scaling>> scaling_of(const GgufFile& file, const GgufSizes& s) {
  const auto found = file.tensors().find("rope_freqs.weight");
  if (found == file.tensors().end()) return std::optional<model::Llama3Scaling>{};
  const auto& stored = found->second;
  const auto refuse = [&](ErrorCode code, std::string what, std::string rule) {
    return fail({.code = code,
                 .what = std::move(what),
                 .where = file.where() + ": tensor rope_freqs.weight",
                 .rule = std::move(rule)});
  };
  if (stored.type != formats::GgufType::kF32 || stored.element_count() != s.head_dim / 2) {
    return refuse(ErrorCode::kFormat, "holds " + std::to_string(stored.element_count()) + " values",
                  "it is one F32 factor for each of the " + std::to_string(s.head_dim / 2) +
                      " pairs of a head's dimensions");
  }
  const auto factors = formats::dequantise(stored);
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1.0f; }))
    return std::optional<model::Llama3Scaling>{};
  const auto scaling = llama3_scaling(factors, s.rope_theta);
  if (!scaling) {
    return refuse(ErrorCode::kUnsupported, "holds rotary factors of an unknown rule",
                  "factors are those of Llama 3's scaling, which config.json can say");
  }
  return scaling;
}

}  // namespace

Result<GgufSizes> read_sizes(const GgufFile& file) {
  GgufSizes s;
  s.architecture = file.text("general.architecture").value_or("");
  constexpr std::array<std::string_view, 3> kKnown{"llama", "qwen2", "qwen3"};
  if (std::find(kKnown.begin(), kKnown.end(), s.architecture) == kKnown.end()) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "is \"" + printable(s.architecture, 60) + "\"",
                 .where = file.where() + ": general.architecture",
                 .rule = "supported: llama qwen2 qwen3"});
  }
  Keys keys(file, s.architecture);
  s.hidden = keys.size("embedding_length");
  s.intermediate = keys.size("feed_forward_length");
  s.layers = keys.size("block_count");
  s.heads = keys.size("attention.head_count");
  s.kv_heads = keys.size("attention.head_count_kv", s.heads);
  s.head_dim = keys.size("attention.key_length", s.hidden / s.heads);
  s.context = keys.size("context_length", 2048);
  s.epsilon = keys.positive("attention.layer_norm_rms_epsilon", 1e-5);
  s.rope_theta = keys.positive("rope.freq_base", 10000.0);
  keys.expect("attention.value_length", s.head_dim, "values are as long as keys");
  keys.expect("rope.dimension_count", s.head_dim, "all dimensions of a head are rotated");
  if (s.head_dim == 0 || s.head_dim % 2 != 0) {
    keys.refuse("attention.key_length", ErrorCode::kFormat, "is " + std::to_string(s.head_dim),
                "heads of even width are rotated");
  }
  if (s.heads % s.kv_heads != 0) {
    keys.refuse("attention.head_count_kv", ErrorCode::kFormat, "is " + std::to_string(s.kv_heads),
                "it divides the " + std::to_string(s.heads) + " heads");
  }
  const std::string scaling = file.text(keys.full("rope.scaling.type")).value_or("none");
  if (scaling != "none" && !scaling.empty()) {
    keys.refuse("rope.scaling.type", ErrorCode::kUnsupported,
                "is \"" + printable(scaling, 40) + "\"",
                "supported: none, and the factors of Llama 3 (rope_freqs.weight)");
  }
  if (file.number(keys.full("rope.scale_linear")).value_or(1.0) != 1.0) {
    keys.refuse("rope.scale_linear", ErrorCode::kUnsupported, "is not 1",
                "supported: no scaling, and the factors of Llama 3 (rope_freqs.weight)");
  }
  if (keys.error()) return tl::unexpected<Error>(*keys.error());
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding == file.tensors().end()) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "is missing",
                 .where = file.where() + ": tensor token_embd.weight"});
  }
  s.vocab = embedding->second.shape.front();
  s.tied_head = !file.tensors().contains("output.weight");
  s.attention_bias = s.architecture == "qwen2" || file.tensors().contains("blk.0.attn_q.bias");
  s.mlp_bias = file.tensors().contains("blk.0.ffn_up.bias");
  auto rope_scaling = scaling_of(file, s);
  if (!rope_scaling) return fail(std::move(rope_scaling).error());
  s.rope_scaling = *rope_scaling;
  return s;
}

std::string config_json(const GgufFile& file, const GgufSizes& s, tensor::DType dtype) {
  const std::map<std::string, std::string> classes{
      {"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}};
  json scaling = nullptr;
  if (s.rope_scaling) {
    scaling = {{"rope_type", "llama3"},
               {"factor", s.rope_scaling->factor},
               {"low_freq_factor", s.rope_scaling->low_freq_factor},
               {"high_freq_factor", s.rope_scaling->high_freq_factor},
               {"original_max_position_embeddings",
                static_cast<std::int64_t>(s.rope_scaling->original_max_positions)}};
  }
  json config{{"architectures", {classes.at(s.architecture)}},
              {"model_type", s.architecture},
              {"hidden_size", s.hidden},
              {"intermediate_size", s.intermediate},
              {"num_hidden_layers", s.layers},
              {"num_attention_heads", s.heads},
              {"num_key_value_heads", s.kv_heads},
              {"head_dim", s.head_dim},
              {"vocab_size", s.vocab},
              {"max_position_embeddings", s.context},
              {"rms_norm_eps", s.epsilon},
              {"rope_theta", s.rope_theta},
              {"rope_scaling", std::move(scaling)},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", s.tied_head},
              {"attention_bias", s.attention_bias && s.architecture != "qwen2"},
              {"mlp_bias", s.mlp_bias}};
  for (const auto& [name, key] : kTokenIds) {
    const auto id = file.whole(key);
    config[name] = id ? json(*id) : json(nullptr);
  }
  config["torch_dtype"] = dtype == tensor::DType::kBF16 ? "bfloat16" : "float32";
  return config.dump(1) + "\n";
}

std::string generation_json(const GgufFile& file) {
  json out = json::object();
  for (const auto& [name, key] : kTokenIds) {
    if (const auto id = file.whole(key)) out[name] = *id;
  }
  return out.dump(1) + "\n";
}

}  // namespace strata::exporting
