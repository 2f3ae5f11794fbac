#include "adapter/multi_head.h"

#include <algorithm>

namespace strata::adapter {
namespace {

using tensor::ConstMatrixView;
using tensor::MatrixView;
using tensor::Operand;

// The rows that head h has of those from `first` on, `count` in all, counted from `first`.
struct Share {
  std::size_t first = 0;
  std::size_t count = 0;
};

Share share_of(std::span<const std::uint32_t> head_rows, std::size_t head, std::size_t first,
               std::size_t count) {
  const std::size_t from = std::clamp<std::size_t>(head_rows[head], first, first + count);
  const std::size_t to = std::clamp<std::size_t>(head_rows[head + 1], first, first + count);
  return {from - first, to - from};
}

class MultiHead final : public Adapter {
 public:
  explicit MultiHead(std::vector<std::unique_ptr<Adapter>> heads) : heads_(std::move(heads)) {
    for (const auto& param : heads_.front()->params()) values_.push_back(param.value.size());
    for (const std::size_t n : values_) per_head_ += n;
  }

  const LinearShape& shape() const override { return heads_.front()->shape(); }
  std::size_t rank() const override { return heads() * heads_.front()->rank(); }
  double scale() const override { return heads_.front()->scale(); }
  std::size_t heads() const override { return heads_.size(); }
  std::size_t saved_width() const override { return heads_.front()->saved_width(); }

  void prepare(tensor::DType compute) override {
    for (const auto& head : heads_) head->prepare(compute);
  }

  void forward(AdapterPass& pass, const Operand& x, MatrixView y, MatrixView saved) const override {
    if (pass.head_rows.empty()) return forward_mean(pass, x, y, saved);
    over_heads(pass, y.rows, [&](const Adapter& head, AdapterPass& own, Share rows) {
      head.forward(own, x.rows_from(rows.first, rows.count), y.rows_from(rows.first, rows.count),
                   saved.rows_from(rows.first, rows.count));
    });
  }

  void backward_input(AdapterPass& pass, const Operand& dy, MatrixView dx,
                      MatrixView through) const override {
    check(!pass.head_rows.empty(), "heads are trained on rows of their own");
    over_heads(pass, dy.rows, [&](const Adapter& head, AdapterPass& own, Share rows) {
      head.backward_input(own, dy.rows_from(rows.first, rows.count),
                          dx.data == nullptr ? MatrixView() : dx.rows_from(rows.first, rows.count),
                          through.rows_from(rows.first, rows.count));
    });
  }

  std::size_t parts() const override { return heads() * values_.size(); }

  void backward_factors(AdapterPass& pass, std::size_t part, const Operand& x, const Operand& dy,
                        ConstMatrixView saved, ConstMatrixView through,
                        const RecordGradients* records, std::size_t offset) override {
    const std::size_t h = part / values_.size();
    const std::size_t inner = part % values_.size();
    const std::size_t start = offset + h * per_head_;
    const Share rows = share_of(pass.head_rows, h, 0, x.rows);
    AdapterPass own = pass;
    own.first_row = rows.first;
    own.head_rows = {};
    RecordGradients mine;
    std::vector<std::uint32_t> offsets;
    if (records != nullptr) mine = records_of(*records, rows, start, inner, offsets);
    if (rows.count == 0) return;
    const auto here = [&](auto whole) { return whole.rows_from(rows.first, rows.count); };
    heads_[h]->backward_factors(own, inner, here(x), here(dy), here(saved), here(through),
                                records != nullptr ? &mine : nullptr, start);
  }

  std::vector<ParamRef> params() override {
    std::vector<ParamRef> out;
    for (std::size_t h = 0; h < heads(); ++h) {
      for (auto& param : heads_[h]->params()) {
        param.head = static_cast<int>(h);
        param.name.insert(param.name.rfind('.'), ".heads." + std::to_string(h));
        out.push_back(std::move(param));
      }
    }
    return out;
  }

  TensorDelta product() const override { return joined(&Adapter::product); }
  TensorDelta delta() const override { return joined(&Adapter::delta); }
  TensorDelta increment() const override { return joined(&Adapter::increment); }

  void reset(const sys::Stream& stream) override {
    for (std::size_t h = 0; h < heads(); ++h) heads_[h]->reset(draws_of(stream, h));
  }
  void anchor() override {
    for (const auto& head : heads_) head->anchor();
  }
  void anchor_late() override {
    for (const auto& head : heads_) head->anchor_late();
  }
  void rest(bool late) override {
    for (const auto& head : heads_) head->rest(late);
  }
  void begin() override {
    for (const auto& head : heads_) head->begin();
  }
  void mark_merged() override {
    for (const auto& head : heads_) head->mark_merged();
  }
  void restart_merged(const sys::Stream& stream) override {
    for (std::size_t h = 0; h < heads(); ++h) heads_[h]->restart_merged(draws_of(stream, h));
  }
  Result<void> load(const Factors& factors) override {
    for (const auto& head : heads_) {
      if (auto loaded = head->load(factors); !loaded) return loaded;
    }
    return {};
  }

 private:
  static sys::Stream draws_of(const sys::Stream& stream, std::size_t head) {
    return stream.at({.step = static_cast<std::uint32_t>(head), .purpose = "head"});
  }

  template <class Work>
  void over_heads(const AdapterPass& pass, std::size_t count, const Work& work) const {
    for (std::size_t h = 0; h < heads(); ++h) {
      const Share rows = share_of(pass.head_rows, h, pass.first_row, count);
      if (rows.count == 0) continue;
      AdapterPass own = pass;
      own.first_row += rows.first;
      own.head_rows = {};
      work(*heads_[h], own, rows);
    }
  }

  void forward_mean(AdapterPass& pass, const Operand& x, MatrixView y, MatrixView saved) const {
    auto& memory = pass.scratch.heads;
    memory.resize(std::max(memory.size(), y.rows * y.cols));
    const MatrixView sum(memory.data(), y.rows, y.cols);
    std::fill_n(memory.begin(), y.rows * y.cols, 0.0f);
    for (const auto& head : heads_) head->forward(pass, x, sum, saved);
    const float share = 1.0f / static_cast<float>(heads());
    for (std::size_t t = 0; t < y.rows; ++t) {
      for (std::size_t i = 0; i < y.cols; ++i) y.row(t)[i] += share * sum.row(t)[i];
    }
  }

  // The records among `rows`, as the head sees them; of all others, nothing is its doing.
  RecordGradients records_of(const RecordGradients& all, Share rows, std::size_t start,
                             std::size_t inner, std::vector<std::uint32_t>& offsets) const {
    std::size_t place = start;
    for (std::size_t i = 0; i < inner; ++i) place += values_[i];
    std::size_t first = all.offsets.size();
    for (std::size_t i = 0; i + 1 < all.offsets.size(); ++i) {
      const bool own =
          all.offsets[i] >= rows.first && all.offsets[i + 1] <= rows.first + rows.count;
      if (own && all.offsets[i + 1] > all.offsets[i]) {
        if (offsets.empty()) {
          first = i;
          offsets.push_back(0);
        }
        offsets.push_back(all.offsets[i + 1] - static_cast<std::uint32_t>(rows.first));
      } else {
        std::fill_n(all.data + i * all.stride + place, values_[inner], 0.0f);
      }
    }
    return {.data = all.data + first * all.stride, .stride = all.stride, .offsets = offsets};
  }

  TensorDelta joined(TensorDelta (Adapter::*what)() const) const {
    std::vector<std::vector<LowRank>> by_term;
    for (const auto& head : heads_) {
      TensorDelta own = (*head.*what)();
      by_term.resize(std::max(by_term.size(), own.terms.size()));
      for (std::size_t i = 0; i < own.terms.size(); ++i)
        by_term[i].push_back(std::get<LowRank>(std::move(own.terms[i])));
    }
    TensorDelta out{.d_out = shape().d_out, .d_in = shape().d_in, .terms = {}};
    for (const auto& pairs : by_term) out.terms.emplace_back(stacked(pairs));
    return out;
  }

  std::vector<std::unique_ptr<Adapter>> heads_;
  std::vector<std::size_t> values_;  // of a head's params
  std::size_t per_head_ = 0;
};

}  // namespace

std::unique_ptr<Adapter> make_multi_head(std::vector<std::unique_ptr<Adapter>> heads) {
  return std::make_unique<MultiHead>(std::move(heads));
}

}  // namespace strata::adapter
