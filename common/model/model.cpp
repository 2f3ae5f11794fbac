#include "model/model.h"

#include <algorithm>
#include <numeric>

#include "base/checked.h"

namespace strata::model {

/// Walks the decoder's parts in one fixed order and asks `source` for each tensor, so that loading
/// and making from scratch cannot disagree about names and shapes.
struct Model::Builder {
  struct Wanted {
    std::string name;
    std::size_t rows;
    std::size_t cols;
    bool transposed;
    std::vector<std::size_t> shape;  // in the file, when not that of a vector or matrix
  };

  Model& model;
  const ModelNames& names;
  std::vector<Wanted> wanted;

  std::size_t want(std::string name, std::size_t rows, std::size_t cols = 1,
                   bool transposed = false) {
    wanted.push_back({std::move(name), rows, cols, transposed, {}});
    return wanted.size() - 1;
  }

  // What images are made of: a convolution whose step is its size, and rows under their own names.
  void want_patches(const PatchGrid& grid) {
    const std::size_t d = model.config_.hidden;
    const std::string projection(names.embedding);
    model.embedding_ = want(projection + ".weight", d, grid.width());
    wanted.back().shape = {d, grid.channels, grid.patch, grid.patch};
    model.patch_bias_ = want(projection + ".bias", d);
    model.class_token_ = want(std::string(names.class_token), 1, d);
    wanted.back().shape = {1, 1, d};
    model.positions_ = want(std::string(names.positions), model.config_.max_positions, d);
    wanted.back().shape = {1, model.config_.max_positions, d};
  }

  void want_norm(const std::string& module, std::size_t width, std::size_t& gain,
                 std::size_t& bias) {
    gain = want(module + ".weight", width);
    if (model.config_.norm == NormKind::kLayer) bias = want(module + ".bias", width);
  }

  std::size_t want_linear(std::size_t layer, const std::string& module, std::size_t d_out,
                          std::size_t d_in, bool bias) {
    const bool transposed = model.config_.transposed_linear;
    LinearSite site{.module = module, .layer = layer, .d_out = d_out, .d_in = d_in};
    site.weight =
        want(module + ".weight", transposed ? d_in : d_out, transposed ? d_out : d_in, transposed);
    if (bias) site.bias = want(module + ".bias", d_out);
    model.linears_.push_back(std::move(site));
    return model.linears_.size() - 1;
  }

  void want_layer(std::size_t layer) {
    const DecoderConfig& c = model.config_;
    const LayerNames& n = names.layer;
    const std::string prefix = std::string(names.layer_prefix) + std::to_string(layer) + ".";
    const auto at = [&](std::string_view name) { return prefix + std::string(name); };
    LayerParts parts;
    want_norm(at(n.norm1), c.hidden, parts.norm1, parts.norm1_bias);
    if (c.fused_qkv) {
      parts.qkv = {
          want_linear(layer, at(n.qkv), c.query_width() + 2 * c.kv_width(), c.hidden, c.qkv_bias)};
    } else {
      parts.qkv = {want_linear(layer, at(n.q), c.query_width(), c.hidden, c.qkv_bias),
                   want_linear(layer, at(n.k), c.kv_width(), c.hidden, c.qkv_bias),
                   want_linear(layer, at(n.v), c.kv_width(), c.hidden, c.qkv_bias)};
    }
    if (c.qk_norm) {
      parts.q_norm = want(at(n.q_norm) + ".weight", c.head_dim);
      parts.k_norm = want(at(n.k_norm) + ".weight", c.head_dim);
    }
    parts.o = want_linear(layer, at(n.o), c.hidden, c.query_width(), c.output_bias);
    want_norm(at(n.norm2), c.hidden, parts.norm2, parts.norm2_bias);
    if (c.mlp == MlpKind::kSwiGlu)
      parts.gate = want_linear(layer, at(n.gate), c.intermediate, c.hidden, c.mlp_bias);
    parts.up = want_linear(layer, at(n.up), c.intermediate, c.hidden, c.mlp_bias);
    parts.down = want_linear(layer, at(n.down), c.hidden, c.intermediate, c.mlp_bias);
    model.layers_.push_back(std::move(parts));
  }

  void want_all() {
    const DecoderConfig& c = model.config_;
    if (c.patches) {
      want_patches(*c.patches);
    } else {
      model.embedding_ = want(std::string(names.embedding) + ".weight", c.vocab, c.hidden);
      if (c.position == PositionKind::kLearned) {
        model.positions_ =
            want(std::string(names.positions) + ".weight", c.max_positions, c.hidden);
      }
    }
    for (std::size_t layer = 0; layer < c.layers; ++layer) want_layer(layer);
    want_norm(std::string(names.final_norm), c.hidden, model.final_norm_, model.final_norm_bias_);
    model.head_ = c.tied_head ? model.embedding_
                              : want(std::string(names.head) + ".weight", c.vocab, c.hidden);
    if (c.head_bias) model.head_bias_ = want(std::string(names.head) + ".bias", c.vocab);
  }
};

namespace {

constexpr std::size_t kParametersMax = std::size_t{1} << 40;

std::string shape_text(std::span<const std::size_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace

Result<Model> Model::load(const sys::Disk& disk, const std::filesystem::path& folder,
                          tensor::DType compute) {
  const std::string config_path = (folder / "config.json").string();
  if (!disk.is_directory(folder)) {
    return fail(
        {.code = ErrorCode::kFileMissing,
         .what = "no such folder",
         .where = folder.string(),
         .rule = "a model is a Hugging Face folder with config.json and model.safetensors"});
  }
  auto json = disk.read_text(config_path);
  if (!json) return fail(std::move(json).error());
  auto family = find_family(*json, config_path);
  if (!family) return fail(std::move(family).error());
  auto config = (*family)->parse(*json, config_path);
  if (!config) return fail(std::move(config).error());
  auto file = formats::SafetensorsFile::open_checkpoint(disk, folder);
  if (!file) return fail(std::move(file).error());

  Model model;
  model.config_ = std::move(*config);
  model.where_ = folder.string();
  model.compute_ = compute;
  model.file_ = std::move(*file);
  const ModelNames& names = (*family)->names;
  // A head that lies in the file beside a tied config wins nothing: transformers ignores it too.
  Builder builder{model, names, {}};
  builder.want_all();

  model.parameters_.reserve(builder.wanted.size());
  for (const auto& want : builder.wanted) {
    std::string stored_name = want.name;
    if (!model.file_->contains(stored_name) && !names.optional_prefix.empty() &&
        stored_name.starts_with(names.optional_prefix)) {
      stored_name.erase(0, names.optional_prefix.size());
    }
    auto tensor = model.file_->get(stored_name);
    if (!tensor) return fail(std::move(tensor).error());
    const std::vector<std::size_t> shape = !want.shape.empty() ? want.shape
                                           : want.cols == 1
                                               ? std::vector<std::size_t>{want.rows}
                                               : std::vector<std::size_t>{want.rows, want.cols};
    if (tensor->shape != shape) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "has shape " + shape_text(tensor->shape),
                   .where = model.file_->where() + ": " + stored_name,
                   .rule = "config.json asks for " + shape_text(shape),
                   .remedy = "check that config.json belongs to this checkpoint"});
    }
    auto parameter = Parameter::stored(want.name, want.rows, want.cols, want.transposed, compute,
                                       *tensor, model.file_->where());
    if (!parameter) return fail(std::move(parameter).error());
    if (!parameter->is_mapped()) model.file_->release(*tensor);
    parameter->set_shape(want.shape);
    model.parameters_.push_back(std::move(*parameter));
  }
  return model;
}

Result<Model> Model::create(std::string_view config_json, const std::string& where,
                            tensor::DType compute, sys::Stream stream) {
  auto family = find_family(config_json, where);
  if (!family) return fail(std::move(family).error());
  auto config = (*family)->parse(config_json, where);
  if (!config) return fail(std::move(config).error());
  Model model;
  model.config_ = std::move(*config);
  model.where_ = where;
  model.compute_ = compute;
  Builder builder{model, (*family)->names, {}};
  builder.want_all();
  std::optional<std::size_t> total = 0;
  for (const auto& want : builder.wanted) {
    const auto own = checked_mul(want.rows, want.cols);
    total = own && total ? checked_add(*total, *own) : std::nullopt;
  }
  if (!total || *total > kParametersMax) {
    return fail(
        {.code = ErrorCode::kFormat,
         .what = "asks for " + (total ? std::to_string(*total) : "more than 2^64") + " parameters",
         .where = where,
         .rule = "at most " + std::to_string(kParametersMax)});
  }
  for (const auto& want : builder.wanted) {
    std::vector<float> values(want.rows * want.cols, want.name.ends_with(".bias") ? 0.0f : 1.0f);
    if (want.cols != 1) {
      sys::Stream draws = stream.at({.purpose = "weights", .item = sys::name_hash(want.name)});
      for (float& v : values)
        v = static_cast<float>(model.config_.initializer_range * draws.normal());
    }
    model.parameters_.push_back(Parameter::made(want.name, want.rows, want.cols, want.transposed,
                                                compute, std::move(values)));
    model.parameters_.back().set_shape(want.shape);
  }
  return model;
}

std::size_t Model::find(std::string_view name) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].name() == name) return i;
  }
  return kNone;
}

std::size_t Model::parameter_count() const {
  std::size_t n = 0;
  for (const auto& p : parameters_) n += p.size();
  return n;
}

Sha256 Model::state_hash(tensor::Team* team) const {
  std::vector<std::size_t> order(parameters_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return parameters_[a].name() < parameters_[b].name();
  });
  std::vector<Sha256> hashes(parameters_.size());
  tensor::Team alone;
  (team != nullptr ? *team : alone).for_tasks(order.size(), [&](std::size_t i, int) {
    hashes[order[i]] = parameters_[order[i]].hash();
  });
  Hasher root;
  for (const std::size_t i : order) {
    root.add(parameters_[i].name());
    root.add(std::string_view("\0", 1));
    root.add(hashes[i]);
  }
  return root.finish();
}

std::size_t Model::owned_bytes() const {
  std::size_t n = 0;
  for (const auto& p : parameters_) n += p.owned_bytes();
  return n;
}

}  // namespace strata::model
