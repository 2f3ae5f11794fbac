#include "export/gguf_import.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "export/gguf_tokenizer.h"
#include "formats/atomic_folder.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tensor/convert.h"

namespace strata::exporting {
namespace {

using formats::GgufFile;
using json = nlohmann::ordered_json;

// The file keeps these as float; what its writer meant is the shortest decimal that rounds to that
// float.
double decimal(double stored) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(stored));
  double out = stored;
  std::from_chars(text, end.ptr, out);
  return out;
}

// The sizes of a model, from "<architecture>.<key>".
struct Sizes {
  std::string architecture;
  std::size_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0,
              context = 0, vocab = 0;
  double epsilon = 1e-5;
  double rope_theta = 10000.0;
};

Result<Sizes> read_sizes(const GgufFile& file) {
  Sizes s;
  s.architecture = file.text("general.architecture").value_or("");
  constexpr std::array<std::string_view, 3> kKnown{"llama", "qwen2", "qwen3"};
  if (std::find(kKnown.begin(), kKnown.end(), s.architecture) == kKnown.end()) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "is \"" + printable(s.architecture, 60) + "\"",
                 .where = file.where() + ": general.architecture",
                 .rule = "supported: llama qwen2 qwen3"});
  }
  std::optional<Error> error;
  const auto size = [&](const std::string& key,
                        std::optional<std::size_t> fallback = std::nullopt) -> std::size_t {
    const auto value = file.whole(s.architecture + "." + key);
    if (value && *value > 0 && *value < (1u << 31)) return static_cast<std::size_t>(*value);
    if (!value && fallback) return *fallback;
    if (!error) {
      error = Error{.code = ErrorCode::kFormat,
                    .what = value ? "is " + std::to_string(*value) : "is missing",
                    .where = file.where() + ": " + s.architecture + "." + key,
                    .rule = "must be a positive whole number"};
    }
    return 1;
  };
  s.hidden = size("embedding_length");
  s.intermediate = size("feed_forward_length");
  s.layers = size("block_count");
  s.heads = size("attention.head_count");
  s.kv_heads = size("attention.head_count_kv", s.heads);
  s.head_dim = size("attention.key_length", s.hidden / s.heads);
  s.context = size("context_length", 2048);
  s.epsilon =
      decimal(file.number(s.architecture + ".attention.layer_norm_rms_epsilon").value_or(1e-5));
  s.rope_theta = decimal(file.number(s.architecture + ".rope.freq_base").value_or(10000.0));
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding == file.tensors().end()) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "is missing",
                 .where = file.where() + ": tensor token_embd.weight"});
  }
  s.vocab = embedding->second.shape.front();
  for (const char* key : {"rope.scaling.type"}) {
    const std::string type = file.text(s.architecture + "." + key).value_or("none");
    if (type != "none" && !type.empty()) {
      return fail({.code = ErrorCode::kUnsupported,
                   .what = "is \"" + printable(type, 40) + "\"",
                   .where = file.where() + ": " + s.architecture + "." + key,
                   .rule = "only files without rotary scaling are supported"});
    }
  }
  if (error) return tl::unexpected<Error>(*error);
  return s;
}

// GGUF name -> Hugging Face name, or "" for a tensor that is not expected.
std::string hf_name(const std::string& name) {
  static const std::map<std::string, std::string, std::less<>> kParts{
      {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
      {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
      {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
      {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  if (!name.starts_with("blk.")) return {};
  const auto layer_end = name.find('.', 4);
  const auto part_end = name.rfind('.');
  if (layer_end == std::string::npos || part_end <= layer_end) return {};
  const auto part = kParts.find(name.substr(layer_end + 1, part_end - layer_end - 1));
  if (part == kParts.end()) return {};
  return "model.layers." + name.substr(4, layer_end - 4) + "." + part->second +
         name.substr(part_end);
}

// Rows of q or k, head by head: llama.cpp's rotary pairs are neighbours (2i, 2i + 1), Hugging
// Face's are (i, i + d/2).
void half_split(std::vector<float>& values, std::size_t heads, std::size_t rows, std::size_t cols) {
  const std::size_t d = rows / heads;
  std::vector<float> out(values.size());
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t i = 0; i < d; ++i) {
      const std::size_t from = h * d + i;
      const std::size_t to = h * d + (i % 2) * (d / 2) + i / 2;
      std::copy_n(values.data() + from * cols, cols, out.data() + to * cols);
    }
  }
  values = std::move(out);
}

struct Written {
  std::vector<std::byte> bytes;
  formats::TensorToWrite entry;
};

Written convert(const std::string& gguf_name, const formats::GgufTensor& stored, const Sizes& s,
                tensor::DType dtype) {
  std::vector<float> values = formats::dequantise(stored);
  const std::size_t rows = stored.shape.front();
  const std::size_t cols = stored.shape.size() > 1 ? stored.shape[1] : 1;
  if (s.architecture == "llama") {
    if (gguf_name.find(".attn_q.") != std::string::npos) half_split(values, s.heads, rows, cols);
    if (gguf_name.find(".attn_k.") != std::string::npos) half_split(values, s.kv_heads, rows, cols);
  }
  Written out;
  out.bytes.resize(values.size() * tensor::size_of(dtype));
  if (dtype == tensor::DType::kBF16) {
    tensor::to_bf16(reinterpret_cast<tensor::BFloat16*>(out.bytes.data()), values.data(),
                    values.size());
  } else {
    std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
  }
  out.entry = {.name = hf_name(gguf_name), .dtype = dtype, .shape = stored.shape, .bytes = {}};
  return out;
}

std::string config_json(const GgufFile& file, const Sizes& s, tensor::DType dtype) {
  const std::map<std::string, std::string> classes{
      {"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}};
  const auto id = [&](const char* key) {
    const auto v = file.whole(key);
    return v ? json(*v) : json(nullptr);
  };
  const bool bias = s.architecture == "llama" && file.tensors().contains("blk.0.attn_q.bias");
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
              {"rope_scaling", nullptr},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", !file.tensors().contains("output.weight")},
              {"attention_bias", bias},
              {"mlp_bias", false},
              {"bos_token_id", id("tokenizer.ggml.bos_token_id")},
              {"eos_token_id", id("tokenizer.ggml.eos_token_id")},
              {"pad_token_id", id("tokenizer.ggml.padding_token_id")},
              {"torch_dtype", dtype == tensor::DType::kBF16 ? "bfloat16" : "float32"}};
  return config.dump(1) + "\n";
}

std::string generation_json(const GgufFile& file) {
  json out = json::object();
  for (const auto& [name, key] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                  std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                  std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
    if (const auto id = file.whole(key)) out[name] = *id;
  }
  return out.dump(1) + "\n";
}

}  // namespace

Result<ImportReport> import_gguf(sys::Disk& disk, const std::filesystem::path& gguf,
                                 const std::filesystem::path& out, const ImportOptions& options) {
  if (auto free = formats::check_free(disk, out, options.force); !free)
    return fail(std::move(free).error());
  auto file = GgufFile::open(disk, gguf);
  if (!file) return fail(std::move(file).error());
  auto sizes = read_sizes(*file);
  if (!sizes) return fail(std::move(sizes).error());
  auto text = tokenizer_files(*file, sizes->context);
  if (!text) return fail(std::move(text).error());

  ImportReport report{.architecture = sizes->architecture,
                      .name = file->text("general.name").value_or("")};
  std::vector<Written> tensors;
  for (const auto& [name, stored] : file->tensors()) {
    if (hf_name(name).empty()) {
      const bool factors = name.starts_with("rope_freqs");
      return fail({.code = ErrorCode::kUnsupported,
                   .what = factors ? "holds rotary scaling factors"
                                   : "is not a tensor of this architecture",
                   .where = file->where() + ": tensor " + printable(name, 80),
                   .rule = "a " + sizes->architecture + " model without extras is expected"});
    }
    if (stored.shape.size() > 2) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "has " + std::to_string(stored.shape.size()) + " sides",
                   .where = file->where() + ": tensor " + printable(name, 80),
                   .rule = "weights are vectors or matrices"});
    }
    const bool rotary =
        name.find(".attn_q.") != std::string::npos || name.find(".attn_k.") != std::string::npos;
    const std::size_t heads =
        name.find(".attn_q.") != std::string::npos ? sizes->heads : sizes->kv_heads;
    if (rotary && stored.shape.front() % (2 * heads) != 0) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "has " + std::to_string(stored.shape.front()) + " rows",
                   .where = file->where() + ": tensor " + printable(name, 80),
                   .rule = "they divide into " + std::to_string(heads) + " heads of even width"});
    }
    tensors.push_back(convert(name, stored, *sizes, options.dtype));
    ++report.tensors;
    report.parameters += stored.element_count();
  }
  std::vector<formats::TensorToWrite> entries;
  for (auto& tensor : tensors) {
    tensor.entry.bytes = tensor.bytes;
    entries.push_back(tensor.entry);
  }
  auto written = formats::write_folder(
      disk, out, options.force, [&](const std::filesystem::path& folder) -> Result<void> {
        if (auto ok = formats::write_safetensors(disk, folder / "model.safetensors", entries); !ok)
          return ok;
        for (const auto& [name, content] :
             {std::pair<const char*, std::string>{"config.json",
                                                  config_json(*file, *sizes, options.dtype)},
              {"generation_config.json", generation_json(*file)},
              {"tokenizer.json", text->tokenizer},
              {"tokenizer_config.json", text->tokenizer_config},
              {"chat_template.jinja", text->chat_template}}) {
          if (content.empty()) continue;
          if (auto ok = disk.write_atomic(folder / name, content); !ok) return ok;
        }
        return {};
      });
  if (!written) return fail(std::move(written).error());
  return report;
}

}  // namespace strata::exporting
