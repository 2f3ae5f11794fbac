#include "export/gguf_import.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "export/gguf_config.h"
#include "export/gguf_tokenizer.h"
#include "formats/atomic_folder.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tensor/convert.h"

namespace strata::exporting {
namespace {

using formats::GgufFile;
using formats::GgufTensor;
using Shape = std::vector<std::size_t>;

// A tensor of the file under its Hugging Face name.
struct Planned {
  std::string gguf_name;
  std::string name;
  const GgufTensor* stored = nullptr;
  std::size_t heads = 0;  // of rows to be put back into half-split order; 0: rows stay
};

std::string shape_text(const Shape& shape) {
  std::string out = "[";
  for (const auto n : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(n);
  return out + "]";
}

// Walks the tensors such a model has; each must be in the file with its shape, and the file must
// hold no other.
class Planner {
 public:
  Planner(const GgufFile& file, const GgufSizes& sizes) : file_(file), s_(sizes) {}

  Result<std::vector<Planned>> all() {
    want("token_embd.weight", "model.embed_tokens.weight", {s_.vocab, s_.hidden});
    want("output_norm.weight", "model.norm.weight", {s_.hidden});
    if (!s_.tied_head) want("output.weight", "lm_head.weight", {s_.vocab, s_.hidden});
    for (std::size_t layer = 0; layer < s_.layers && !error_; ++layer) want_layer(layer);
    if (!error_) refuse_others();
    if (error_) return tl::unexpected<Error>(*error_);
    return std::move(planned_);
  }

 private:
  void want(std::string gguf_name, std::string name, const Shape& shape, std::size_t heads = 0) {
    if (error_) return;
    const auto found = file_.tensors().find(gguf_name);
    if (found == file_.tensors().end())
      return refuse(
          gguf_name, ErrorCode::kFormat, "is missing",
          "a " + s_.architecture + " model of " + std::to_string(s_.layers) + " layers has it");
    if (found->second.shape != shape)
      return refuse(gguf_name, ErrorCode::kFormat, "has shape " + shape_text(found->second.shape),
                    "the sizes of the file ask for " + shape_text(shape));
    planned_.push_back({std::move(gguf_name), std::move(name), &found->second, heads});
  }

  void want_layer(std::size_t layer) {
    const std::string from = "blk." + std::to_string(layer) + ".";
    const std::string to = "model.layers." + std::to_string(layer) + ".";
    const std::size_t q = s_.heads * s_.head_dim, kv = s_.kv_heads * s_.head_dim;
    // llama.cpp keeps rotary pairs of llama models as neighbours; the others were half-split all
    // along.
    const bool turned = s_.architecture == "llama";
    const auto linear = [&](const char* part, const char* name, std::size_t d_out, std::size_t d_in,
                            bool bias, std::size_t heads = 0) {
      want(from + part + ".weight", to + name + ".weight", {d_out, d_in}, heads);
      if (bias) want(from + part + ".bias", to + name + ".bias", {d_out}, heads);
    };
    want(from + "attn_norm.weight", to + "input_layernorm.weight", {s_.hidden});
    linear("attn_q", "self_attn.q_proj", q, s_.hidden, s_.attention_bias, turned ? s_.heads : 0);
    linear("attn_k", "self_attn.k_proj", kv, s_.hidden, s_.attention_bias,
           turned ? s_.kv_heads : 0);
    linear("attn_v", "self_attn.v_proj", kv, s_.hidden, s_.attention_bias);
    linear("attn_output", "self_attn.o_proj", s_.hidden, q,
           s_.attention_bias && s_.architecture != "qwen2");
    if (s_.architecture == "qwen3") {
      want(from + "attn_q_norm.weight", to + "self_attn.q_norm.weight", {s_.head_dim});
      want(from + "attn_k_norm.weight", to + "self_attn.k_norm.weight", {s_.head_dim});
    }
    want(from + "ffn_norm.weight", to + "post_attention_layernorm.weight", {s_.hidden});
    linear("ffn_gate", "mlp.gate_proj", s_.intermediate, s_.hidden, s_.mlp_bias);
    linear("ffn_up", "mlp.up_proj", s_.intermediate, s_.hidden, s_.mlp_bias);
    linear("ffn_down", "mlp.down_proj", s_.hidden, s_.intermediate, s_.mlp_bias);
  }

  void refuse_others() {
    std::vector<std::string_view> known{"rope_freqs.weight"};
    for (const auto& one : planned_) known.push_back(one.gguf_name);
    std::sort(known.begin(), known.end());
    for (const auto& [name, stored] : file_.tensors()) {
      if (!std::binary_search(known.begin(), known.end(), std::string_view(name)))
        return refuse(name, ErrorCode::kUnsupported, "is not a tensor of this architecture",
                      "a " + s_.architecture + " model of " + std::to_string(s_.layers) +
                          " layers without extras is expected");
    }
  }

  void refuse(const std::string& name, ErrorCode code, std::string what, std::string rule) {
    error_ = Error{.code = code,
                   .what = std::move(what),
                   .where = file_.where() + ": tensor " + printable(name, 80),
                   .rule = std::move(rule)};
  }

  const GgufFile& file_;
  const GgufSizes& s_;
  std::vector<Planned> planned_;
  std::optional<Error> error_;
};

// Rows of q or k, head by head: llama.cpp's rotary pairs are neighbours (2i, 2i + 1), Hugging
// Face's are (i, i + d/2).
std::vector<float> half_split(const std::vector<float>& values, std::size_t rows,
                              std::size_t heads) {
  const std::size_t d = rows / heads;
  const std::size_t cols = values.size() / rows;
  std::vector<float> out(values.size());
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t i = 0; i < d; ++i) {
      const std::size_t from = h * d + i;
      const std::size_t to = h * d + (i % 2) * (d / 2) + i / 2;
      std::copy_n(values.data() + from * cols, cols, out.data() + to * cols);
    }
  }
  return out;
}

// Dequantises one tensor and writes it; made when its turn comes, so that a model larger than
// memory can be imported.
Result<void> write_values(const Planned& tensor, const std::string& where, tensor::DType dtype,
                          sys::FileWriter& out) {
  auto values = formats::dequantise(*tensor.stored);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return fail({.code = ErrorCode::kFormat,
                 .what = "value " + std::to_string(i) + " is NaN or infinite",
                 .where = where + ": tensor " + tensor.gguf_name,
                 .rule = "weights are finite",
                 .remedy = "fetch the file again"});
  }
  if (tensor.heads > 0) values = half_split(values, tensor.stored->shape.front(), tensor.heads);
  if (dtype == tensor::DType::kF32) return out.write(std::as_bytes(std::span(values)));
  std::vector<tensor::BFloat16> halves(values.size());
  // The largest floats round to infinity in bf16; they end at its largest value instead.
  constexpr float kLargest = 3.3895314e38f;
  for (float& value : values) value = std::clamp(value, -kLargest, kLargest);
  tensor::to_bf16(halves.data(), values.data(), values.size());
  return out.write(std::as_bytes(std::span(halves)));
}

Result<void> write_texts(sys::Disk& disk, const std::filesystem::path& folder, const GgufFile& file,
                         const GgufSizes& sizes, const TokenizerFiles& text, tensor::DType dtype) {
  const std::array<std::pair<const char*, std::string>, 5> files{
      {{"config.json", config_json(file, sizes, dtype)},
       {"generation_config.json", generation_json(file)},
       {"tokenizer.json", text.tokenizer},
       {"tokenizer_config.json", text.tokenizer_config},
       {"chat_template.jinja", text.chat_template}}};
  for (const auto& [name, content] : files) {
    if (content.empty()) continue;
    if (auto ok = disk.write_atomic(folder / name, content); !ok) return ok;
  }
  return {};
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
  auto planned = Planner(*file, *sizes).all();
  if (!planned) return fail(std::move(planned).error());
  auto text = tokenizer_files(*file, sizes->context, sizes->vocab);
  if (!text) return fail(std::move(text).error());

  ImportReport report{.architecture = sizes->architecture,
                      .name = file->text("general.name").value_or("")};
  std::vector<formats::TensorToWrite> entries;
  for (const auto& tensor : *planned) {
    entries.push_back({.name = tensor.name,
                       .dtype = options.dtype,
                       .shape = tensor.stored->shape,
                       .produce = [&](sys::FileWriter& writer) {
                         return write_values(tensor, file->where(), options.dtype, writer);
                       }});
    ++report.tensors;
    report.parameters += tensor.stored->element_count();
  }
  auto written = formats::write_folder(
      disk, out, options.force, [&](const std::filesystem::path& folder) -> Result<void> {
        auto ok = formats::write_safetensors(disk, folder / "model.safetensors", entries);
        return ok ? write_texts(disk, folder, *file, *sizes, *text, options.dtype) : ok;
      });
  if (!written) return fail(std::move(written).error());
  return report;
}

}  // namespace strata::exporting
