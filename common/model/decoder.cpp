#include "model/decoder.h"

#include <algorithm>
#include <numeric>

#include "model/decoder_impl.h"
#include "model/ops/activation.h"

namespace strata::model {

using tensor::Matrix;

double LossSums::total_loss() const { return std::accumulate(loss.begin(), loss.end(), 0.0); }
std::uint64_t LossSums::total_trained() const {
  return std::accumulate(trained.begin(), trained.end(), std::uint64_t{0});
}
std::uint64_t LossSums::total_correct() const {
  return std::accumulate(correct.begin(), correct.end(), std::uint64_t{0});
}

FullGradients FullGradients::zeros(const Model& model) {
  FullGradients out;
  for (const auto& p : model.parameters()) out.values.emplace_back(p.size(), 0.0f);
  return out;
}

FullGradients FullGradients::zeros(const Model& model, std::span<const std::size_t> parameters) {
  FullGradients out{std::vector<std::vector<float>>(model.parameters().size())};
  for (const std::size_t i : parameters) out.values[i].assign(model.parameters()[i].size(), 0.0f);
  return out;
}

KvCache::KvCache(const Model& model, std::size_t sequences, std::size_t capacity)
    : capacity_(capacity), lengths_(sequences, 0) {
  for (std::size_t layer = 0; layer < model.config().layers; ++layer) {
    k_.emplace_back(sequences * capacity, model.config().kv_width());
    v_.emplace_back(sequences * capacity, model.config().kv_width());
  }
}

Decoder::Impl::Impl(const Model& m, Workspace::State& w, DecoderOptions o)
    : model(m), work(w), options(o), rope(m.config()) {}

void Decoder::Impl::lay_out(const PackedBatch& batch) {
  layout.tokens = batch.tokens;
  layout.pixels = batch.pixels;
  const auto& grid = model.config().patches;
  check(batch.pixels.size() == (grid ? batch.records() * grid->count() * grid->width() : 0) &&
            (!grid || batch.tokens.size() == batch.records() * model.config().max_positions),
        "a batch has the images of its model's size, or none");
  layout.positions.clear();
  layout.segments.clear();
  std::size_t longest = 0;
  for (std::size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const std::size_t first = batch.offsets[i];
    const std::size_t count = batch.offsets[i + 1] - first;
    for (std::size_t t = 0; t < count; ++t)
      layout.positions.push_back(static_cast<std::uint32_t>(t));
    if (count > 0) layout.segments.push_back({first, count, first, count});
    longest = std::max(longest, count);
  }
  rope.ensure(longest);
  lay_out_blocks();
}

// As many blocks for every thread, of nearly equal size: whole 16s of rows, so that few shapes of
// products occur.
void Decoder::Impl::lay_out_blocks() {
  constexpr std::size_t kQueriesPerTask = 256;
  const std::size_t rows = layout.rows();
  const auto threads = static_cast<std::size_t>(work.team.size());
  const std::size_t rows_min = std::min<std::size_t>(32, options.block_rows);
  const std::size_t each =
      (rows + threads * options.block_rows - 1) / (threads * options.block_rows);
  const std::size_t count =
      std::clamp<std::size_t>(threads * each, 1, std::max<std::size_t>(1, rows / rows_min));
  const std::size_t units = whole_units(rows) / kUnit;
  layout.blocks.clear();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t first = std::min(rows, units * i / count * kUnit);
    const std::size_t last = std::min(rows, units * (i + 1) / count * kUnit);
    if (last > first || count == 1) layout.blocks.push_back({first, last - first});
  }
  layout.attention = attention_tasks(layout.segments, attention_shape(0), kQueriesPerTask);
}

std::size_t Decoder::Impl::index_of(Block rows) const {
  const auto found =
      std::lower_bound(layout.blocks.begin(), layout.blocks.end(), rows.first,
                       [](const Block& b, std::size_t first) { return b.first < first; });
  return static_cast<std::size_t>(found - layout.blocks.begin());
}

void Decoder::Impl::begin(const Pass& what) {
  pass = what;
  sites.assign(model.linears().size(), nullptr);
  if (pass.adapters != nullptr) {
    for (std::size_t i = 0; i < sites.size(); ++i) sites[i] = pass.adapters->at(i);
  }
  waiting.clear();
  reserve_forward();
  if (pass.request != nullptr) reserve_backward();
}

void Decoder::Impl::reserve_forward() {
  const DecoderConfig& c = model.config();
  const std::size_t n = whole_units(layout.rows());
  const std::size_t qkv = c.query_width() + 2 * c.kv_width();
  const tensor::DType type = compute();
  const std::size_t kept = options.recompute ? 0 : c.layers - pass.first_kept;
  if (work.caches.size() < c.layers) work.caches.resize(c.layers);
  const auto reserve = [&](LayerCache& cache, std::size_t layer) {
    for (Buffer* b : {&cache.rstd1, &cache.mean1, &cache.rstd2, &cache.mean2}) b->reserve(n);
    cache.mid.reserve(n * c.hidden);
    cache.qkv.reserve(n * qkv);
    cache.lse.reserve(n * c.heads);
    if (c.qk_norm) {
      cache.qk_raw.reserve(n * (c.query_width() + c.kv_width()));
      cache.qk_rstd.reserve(n * (c.heads + c.kv_heads));
    }
    cache.attended.reserve(n, c.query_width(), type);
    cache.gate.reserve(n, c.intermediate, type);
    cache.up.reserve(n, c.intermediate, type);
    const std::size_t first = model.layers()[layer].qkv.front();
    for (std::size_t i = 0; i < kSitesMax && first + i < sites.size(); ++i) {
      if (const auto* own = sites[first + i]) cache.saved[i].reserve(n * own->saved_width());
    }
  };
  for (std::size_t layer = pass.first_kept; layer < c.layers; ++layer) {
    work.caches[layer].x.reserve(n * c.hidden);
    if (!options.recompute) reserve(work.caches[layer], layer);
  }
  for (std::size_t layer = 0; kept < c.layers && layer < c.layers; ++layer)
    reserve(work.scratch, layer);
  work.hidden.reserve(n * c.hidden);
  work.hidden2.reserve(n * c.hidden);
  if (type != tensor::DType::kF32) work.attended.reserve(n * c.query_width());
  if (c.patches) work.patches.reserve(n, c.patches->width(), type);
  std::size_t block = 0;
  for (const Block& b : layout.blocks) block = std::max(block, whole_units(b.count));
  const std::size_t widest =
      std::max({c.intermediate, c.hidden, qkv, c.patches ? c.patches->width() : 0});
  for (Member& m : work.members) {
    m.rows.reserve(kActivationScratch * widest);
    m.normed.reserve(block, c.hidden, type);
    m.act.reserve(block, c.intermediate, type);
    if (type != tensor::DType::kF32) {
      m.gate.reserve(block * c.intermediate);
      m.up.reserve(block * c.intermediate);
    }
  }
}

void Decoder::Impl::reserve_backward() {
  const DecoderConfig& c = model.config();
  const std::size_t n = whole_units(layout.rows());
  const std::size_t qkv = c.query_width() + 2 * c.kv_width();
  const tensor::DType type = compute();
  work.dx.reserve(n * c.hidden);
  work.dmid.reserve(n * c.hidden);
  if (type != tensor::DType::kF32) {
    work.dx_typed.reserve(n, c.hidden, type);
    work.dmid_typed.reserve(n, c.hidden, type);
    work.dqkv_typed.reserve(n, qkv, type);
  }
  work.h1.reserve(n, c.hidden, type);
  work.h2.reserve(n, c.hidden, type);
  for (Buffer* b : {&work.act, &work.dgate, &work.dup}) b->reserve(n, c.intermediate, type);
  work.d_attended.reserve(n * c.query_width());
  work.dots.reserve(n * c.heads);
  for (Buffer& b : work.dqkv) b.reserve(n * qkv);
  for (std::size_t site = 0; site < sites.size(); ++site) {
    if (sites[site] != nullptr)
      work.through[site_in_layer(site)].reserve(n * sites[site]->saved_width());
  }
  std::size_t block = 0;
  for (const Block& b : layout.blocks) block = std::max(block, whole_units(b.count));
  for (Member& m : work.members) {
    m.gate.reserve(block * c.intermediate);
    m.dh.reserve(block * c.hidden);
  }
}

adapter::AdapterPass Decoder::Impl::adapter_pass(Member& m, std::size_t first_row) const {
  return {.gemm = m.gemm,
          .scratch = m.adapter,
          .training = pass.request != nullptr,
          .dropout = pass.request != nullptr ? pass.request->dropout : sys::Stream(0),
          .first_row = first_row,
          .head_rows =
              pass.request != nullptr ? pass.request->head_rows : std::span<const std::uint32_t>{}};
}

AttentionShape Decoder::Impl::attention_shape(std::size_t layer) const {
  const DecoderConfig& c = model.config();
  return {.heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .window = c.window_of(layer),
          .causal = c.causal};
}

AttentionTools Decoder::Impl::attention_tools(Member& m) const {
  const bool rounds = compute() == tensor::DType::kBF16 && tensor::has_fast_bf16();
  return {.gemm = m.gemm,
          .scratch = m.attention,
          .products = rounds ? tensor::DType::kBF16 : tensor::DType::kF32};
}

NormWeights Decoder::Impl::norm_weights(std::size_t gain, std::size_t bias) const {
  const auto parameters = model.parameters();
  return {.gain = parameters[gain].vector(),
          .bias = bias != kNone ? parameters[bias].vector() : std::span<const float>{},
          .eps = model.config().norm_epsilon,
          .centred = model.config().norm == NormKind::kLayer};
}

NormStats Decoder::Impl::norm_stats(Buffer& rstd, Buffer& mean, Block rows) {
  const std::size_t end = rows.first + rows.count;
  return {rstd.floats(end).subspan(rows.first), mean.floats(end).subspan(rows.first)};
}

std::size_t Decoder::Impl::spare_rows(Block rows) const {
  const bool last = rows.first + rows.count == layout.rows();
  return last && compute() != tensor::DType::kF32 ? whole_units(rows.count) - rows.count : 0;
}

void Decoder::Impl::product(Member& m, tensor::MatrixView out, const tensor::Operand& a,
                            const tensor::Operand& b, bool accumulate, std::string_view what) {
  const sys::Span span(m.timeline, what,
                       2.0 * static_cast<double>(out.rows) * static_cast<double>(out.cols) *
                           static_cast<double>(a.logical_cols()));
  if (!splitting) return m.gemm.multiply(out, a, b, accumulate);
  work.team.for_range(out.cols, 64, [&](std::size_t first, std::size_t last, int member) {
    const std::size_t count = last - first;
    work.members[static_cast<std::size_t>(member)].gemm.multiply(
        out.cols_from(first, count), a,
        b.transposed ? b.rows_from(first, count) : b.cols_from(first, count), accumulate);
  });
}

Decoder::Decoder(const Model& model, Workspace& workspace, DecoderOptions options)
    : impl_(std::make_unique<Impl>(model, workspace.state(), options)) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

tensor::Team& Decoder::team() const { return impl_->work.team; }
sys::Timeline* Decoder::timeline() const { return impl_->work.members.front().timeline; }

LossSums Decoder::evaluate(const PackedBatch& batch, const adapter::AdapterSet* adapters) {
  impl_->lay_out(batch);
  impl_->begin({.adapters = adapters, .first_kept = impl_->model.config().layers});
  return impl_->head(batch, impl_->forward());
}

namespace {

struct Lowest {
  std::size_t layer;
  Stage stage;
};

// The lowest trained linear layer: no work below it.
Lowest lowest_trained(const Model& model, const adapter::AdapterSet& adapters) {
  Lowest out{model.config().layers, Stage::kNothing};
  for (std::size_t layer = model.config().layers; layer-- > 0;) {
    const LayerParts& parts = model.layers()[layer];
    const auto has = [&](std::size_t site) {
      return site != kNone && adapters.at(site) != nullptr;
    };
    Stage here = Stage::kNothing;
    if (has(parts.down)) here = Stage::kDown;
    if (has(parts.up) || has(parts.gate)) here = Stage::kUp;
    if (has(parts.o)) here = Stage::kOut;
    for (const std::size_t site : parts.qkv) here = has(site) ? Stage::kQkv : here;
    if (here != Stage::kNothing) out = {layer, here};
  }
  return out;
}

}  // namespace

LossSums Decoder::train(const PackedBatch& batch, const TrainRequest& request) {
  check(request.adapters != nullptr || request.full != nullptr,
        "train: give adapters or full gradients");
  check(request.record_weights.size() + 1 == batch.offsets.size(), "train: one weight per record");
  Impl& d = *impl_;
  d.lay_out(batch);
  const Lowest lowest = request.full == nullptr ? lowest_trained(d.model, *request.adapters)
                                                : Lowest{0, Stage::kNothing};
  d.begin({.adapters = request.adapters, .request = &request, .first_kept = lowest.layer});
  LossSums sums = d.head(batch, d.forward());
  d.backward(lowest.layer, lowest.stage);
  return sums;
}

// Large buffers take no memory until they are written, so planning is doing without the work.
std::size_t pass_bytes(const Model& model, int threads, const DecoderOptions& options,
                       const PassPlan& plan) {
  Workspace workspace(threads);
  Decoder decoder(model, workspace, options);
  Decoder::Impl& d = *decoder.impl_;
  const std::vector<std::int32_t> tokens(plan.tokens);
  d.layout.tokens = tokens;
  d.lay_out_blocks();
  FullGradients everything;
  const TrainRequest request{.full = plan.full ? &everything : nullptr};
  const bool from_the_start = plan.adapters == nullptr || plan.full;
  const std::size_t first_kept = !plan.gradients  ? model.config().layers
                                 : from_the_start ? 0
                                                  : lowest_trained(model, *plan.adapters).layer;
  d.begin({.adapters = plan.adapters,
           .request = plan.gradients ? &request : nullptr,
           .first_kept = first_kept});
  (void)d.reserve_head(plan.targets);
  const AttentionSegment longest{0, plan.longest, 0, plan.longest};
  for (Member& m : d.work.members)
    m.attention.resize(attention_scratch(longest, d.attention_shape(0),
                                         d.attention_tools(m).products, plan.gradients));
  return workspace.bytes();
}

Matrix Decoder::logits(const PackedBatch& batch, const adapter::AdapterSet* adapters) {
  impl_->lay_out(batch);
  impl_->begin({.adapters = adapters, .first_kept = impl_->model.config().layers});
  return impl_->all_logits(impl_->forward());
}

Matrix Decoder::extend(KvCache& cache, std::span<const CacheStep> steps,
                       const adapter::AdapterSet* adapters) {
  Impl& d = *impl_;
  std::vector<std::int32_t> tokens;
  std::vector<std::size_t> ends;
  d.layout.positions.clear();
  d.layout.segments.clear();
  std::size_t longest = 0;
  for (const CacheStep& step : steps) {
    const std::size_t past = cache.lengths_[step.sequence];
    check(past + step.tokens.size() <= cache.capacity_ && !step.tokens.empty(),
          "extend: beyond the cache's capacity");
    d.layout.segments.push_back({tokens.size(), step.tokens.size(), step.sequence * cache.capacity_,
                                 past + step.tokens.size()});
    for (std::size_t t = 0; t < step.tokens.size(); ++t) {
      d.layout.positions.push_back(static_cast<std::uint32_t>(past + t));
      tokens.push_back(step.tokens[t]);
    }
    ends.push_back(tokens.size());
    longest = std::max(longest, past + step.tokens.size());
  }
  d.rope.ensure(longest);
  d.layout.tokens = tokens;
  d.lay_out_blocks();
  d.begin({.adapters = adapters, .kv = &cache, .first_kept = d.model.config().layers});
  const auto hidden = d.forward();
  Matrix last(steps.size(), d.model.config().hidden);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::copy_n(hidden.row(ends[i] - 1), hidden.cols, last.data() + i * hidden.cols);
    cache.lengths_[steps[i].sequence] += steps[i].tokens.size();
  }
  return d.all_logits(last.view());
}

}  // namespace strata::model
