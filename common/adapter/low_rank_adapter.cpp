#include "adapter/low_rank_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/hash.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"

namespace strata::adapter {
namespace {

using tensor::BFloat16;
using tensor::ConstMatrixView;
using tensor::DType;
using tensor::Matrix;
using tensor::MatrixView;
using tensor::Operand;

// x in the compute type, rounded in `halves` when that is bf16.
Operand in_type(ConstMatrixView x, DType type, std::vector<BFloat16>& halves) {
  if (type == DType::kF32) return x;
  halves.resize(std::max(halves.size(), x.rows * x.cols));
  for (std::size_t i = 0; i < x.rows; ++i)
    tensor::to_bf16(halves.data() + i * x.cols, x.row(i), x.cols);
  return Operand(halves.data(), DType::kBF16, x.rows, x.cols);
}

class LowRankAdapter final : public Adapter {
 public:
  LowRankAdapter(LinearShape shape, std::size_t rank, LowRankOptions options)
      : shape_(std::move(shape)),
        options_(options),
        a_(rank, shape_.d_in),
        b_(shape_.d_out, rank),
        grad_a_(options.train_a ? rank : 0, shape_.d_in),
        grad_b_(shape_.d_out, rank) {
    if (options_.seeded) options_.shared_a = options_.seeded->id(tensor_name());
  }

  const LinearShape& shape() const override { return shape_; }
  std::size_t rank() const override { return a_.rows(); }
  double scale() const override { return options_.scale; }
  std::size_t saved_width() const override { return width(); }

  void prepare(DType compute) override {
    compute_ = compute;
    const std::size_t r = rank();
    const std::size_t w = width();
    if (anchor_ && !options_.train_a) {  // both have one A
      if (wide_b_.size() != b_.size()) wide_b_ = Matrix(b_.rows(), b_.cols());
      std::transform(b_.data(), b_.data() + b_.size(), anchor_->b.data(), wide_b_.data(),
                     std::minus<>());
    } else if (w > r) {  // [A; A0] and [B, -B0]
      if (wide_a_.rows() != w) {
        wide_a_ = Matrix(w, shape_.d_in);
        wide_b_ = Matrix(shape_.d_out, w);
      }
      std::copy_n(a_.data(), a_.size(), wide_a_.data());
      std::copy_n(anchor_->a.data(), anchor_->a.size(), wide_a_.data() + a_.size());
      for (std::size_t i = 0; i < shape_.d_out; ++i) {
        for (std::size_t j = 0; j < w; ++j)
          wide_b_(i, j) = j < r ? b_(i, j) : -anchor_->b(i, j - r);
      }
    }
    if (compute != DType::kBF16) return;
    half_a_.resize(w * shape_.d_in);
    half_b_.resize(w * shape_.d_out);
    tensor::to_bf16(half_a_.data(), (w > r ? wide_a_ : a_).data(), half_a_.size());
    tensor::to_bf16(half_b_.data(), (anchor_ ? wide_b_ : b_).data(), half_b_.size());
  }

  void forward(AdapterPass& pass, const Operand& x, MatrixView y, MatrixView saved) const override {
    pass.gemm.multiply(saved, dropped(pass, x), factor_a().t(), false);
    pass.gemm.multiply(y, in_type(saved, compute_, pass.scratch.inner), factor_b().t(), true,
                       factor());
  }

  // V = s dY B,  dX += V A
  void backward_input(AdapterPass& pass, const Operand& dy, MatrixView dx,
                      MatrixView through) const override {
    pass.gemm.multiply(through, dy, factor_b(), false, factor());
    if (dx.data == nullptr) return;
    const Operand v = in_type(through, compute_, pass.scratch.inner);
    if (!drops(pass)) {
      pass.gemm.multiply(dx, v, factor_a(), true);
      return;
    }
    auto& floats = pass.scratch.floats;
    floats.resize(std::max(floats.size(), dx.rows * dx.cols));
    const MatrixView before(floats.data(), dx.rows, dx.cols);
    pass.gemm.multiply(before, v, factor_a(), false);
    for_mask(pass, dx.rows, [&](std::size_t t, std::size_t i, float keep) {
      dx.row(t)[i] += before.row(t)[i] * keep;
    });
  }

  std::size_t parts() const override { return options_.train_a ? 2 : 1; }

  // dA = V^T X,  dB = s dY^T U
  void backward_factors(AdapterPass& pass, std::size_t part, const Operand& x, const Operand& dy,
                        ConstMatrixView saved, ConstMatrixView through,
                        const RecordGradients* records, std::size_t offset) override {
    const std::size_t r = rank();
    auto& inner = pass.scratch.inner;
    if (options_.train_a && part == 0) {
      add_gradient(pass, in_type(through.cols_from(0, r), compute_, inner), dropped(pass, x),
                   records, offset, grad_a_, 1.0f);
    } else {
      add_gradient(pass, dy, in_type(saved.cols_from(0, r), compute_, inner), records,
                   offset + grad_a_.size(), grad_b_, factor());
    }
  }

  std::vector<ParamRef> params() override {
    std::vector<ParamRef> out;
    if (options_.train_a) {
      out.push_back({.name = shape_.module + ".lora_A",
                     .role = ParamRole::kFactorA,
                     .value = a_.values(),
                     .grad = grad_a_.values(),
                     .lr_multiplier = 1.0f,
                     .decay = true});
    }
    out.push_back({.name = shape_.module + ".lora_B",
                   .role = ParamRole::kFactorB,
                   .value = b_.values(),
                   .grad = grad_b_.values(),
                   .lr_multiplier = static_cast<float>(options_.lr_ratio_b),
                   .decay = true});
    return out;
  }

  TensorDelta product() const override { return of({term(b_, a_)}); }

  TensorDelta increment() const override { return less(term(b_, a_), anchor_.get()); }

  TensorDelta delta() const override {
    std::vector<LowRank> pairs{term(b_, a_)};
    for (const Factors& left : merged_) {
      pairs.push_back(term(left.b, left.a));
      pairs.back().lasting_a = 0;  // left behind
    }
    return less(stacked(pairs), round_.get());
  }

  void reset(const sys::Stream& stream) override {
    draw(stream);
    forget();
  }

  void anchor() override {
    mark_merged();
    round_ = anchor_;
    merged_.clear();
  }

  void anchor_late() override {
    anchor_ = round_;
    round_ = std::make_shared<const Factors>(present());
    merged_.clear();
  }

  void rest(bool late) override {
    anchor_.reset();
    if (!late) round_.reset();
    for (Matrix* m : {&grad_a_, &grad_b_, &wide_a_, &wide_b_}) *m = Matrix();
    for (auto* halves : {&half_a_, &half_b_}) std::vector<BFloat16>().swap(*halves);
  }

  void begin() override {
    if (grad_b_.size() == b_.size()) return;
    grad_a_ = Matrix(options_.train_a ? rank() : 0, shape_.d_in);
    grad_b_ = Matrix(shape_.d_out, rank());
  }

  void mark_merged() override { anchor_ = std::make_shared<const Factors>(present()); }

  void restart_merged(const sys::Stream& stream) override {
    // What was folded in and not left behind: only the part that this restart ends.
    check(!round_ && !anchor_, "a kept factor cannot restart between rounds");
    merged_.push_back({b_, a_});
    draw(stream);
  }

  Result<void> load(const Factors& factors) override {
    if (factors.a.rows() != a_.rows() || factors.a.cols() != a_.cols() ||
        factors.b.rows() != b_.rows() || factors.b.cols() != b_.cols()) {
      return fail({.code = ErrorCode::kIncompatibleUpdate,
                   .what = "factors are " + std::to_string(factors.b.rows()) + " x " +
                           std::to_string(factors.b.cols()) + " and " +
                           std::to_string(factors.a.rows()) + " x " +
                           std::to_string(factors.a.cols()),
                   .where = shape_.module,
                   .rule = "this adapter needs " + std::to_string(b_.rows()) + " x " +
                           std::to_string(b_.cols()) + " and " + std::to_string(a_.rows()) + " x " +
                           std::to_string(a_.cols()),
                   .remedy = "use the same rank and target modules"});
    }
    if (options_.seeded && factors.a != a_) {
      return fail({.code = ErrorCode::kIncompatibleUpdate,
                   .what = "A is given from outside",
                   .where = shape_.module,
                   .rule = "this method draws it from the seed"});
    }
    a_ = factors.a;
    b_ = factors.b;
    name_a();
    forget();
    return {};
  }

 private:
  std::string tensor_name() const { return shape_.module + ".weight"; }

  void draw(const sys::Stream& stream) {
    if (options_.seeded) {
      a_ = options_.seeded->a(tensor_name(), rank(), shape_.d_in);
    } else {
      draw_a(options_.shared_a != 0 ? options_.shared : stream);
    }
    std::fill(b_.values().begin(), b_.values().end(), 0.0f);
    name_a();
  }

  void name_a() {
    if (options_.train_a || options_.seeded) return;
    const Sha256 hash = sha256(std::as_bytes(std::span<const float>(a_.values())));
    std::memcpy(&lasting_a_, hash.data(), sizeof lasting_a_);
    lasting_a_ |= std::uint64_t{lasting_a_ == 0};
  }

  // Kaiming-uniform with a = sqrt(5), as torch's nn.Linear and PEFT: U(-1/sqrt(d_in),
  // 1/sqrt(d_in)). Rows are drawn one behind another, so a smaller rank is a prefix of a larger
  // one.
  void draw_a(const sys::Stream& source) {
    sys::Stream draws = source.at({.purpose = "lora_A", .item = sys::name_hash(shape_.module)});
    if (options_.orthogonal) return draw_orthogonal(draws);
    const double bound = 1.0 / std::sqrt(static_cast<double>(shape_.d_in));
    for (float& value : a_.values()) value = static_cast<float>(draws.uniform(-bound, bound));
  }

  // Orthogonal rows of length sqrt(d_in / r): the Q of a Gaussian matrix.
  void draw_orthogonal(sys::Stream& draws) {
    tensor::Doubles normal(shape_.d_in, rank());
    for (double& value : normal.values) value = draws.normal();
    const tensor::Doubles q = tensor::thin_qr(normal).q;
    const double length = std::sqrt(static_cast<double>(shape_.d_in) / static_cast<double>(rank()));
    for (std::size_t j = 0; j < rank(); ++j) {
      for (std::size_t i = 0; i < shape_.d_in; ++i) a_(j, i) = static_cast<float>(length * q(i, j));
    }
  }

  void forget() {
    anchor_.reset();
    round_.reset();
    merged_.clear();
  }

  TensorDelta of(std::vector<Term> terms) const {
    return {.d_out = shape_.d_out, .d_in = shape_.d_in, .terms = std::move(terms)};
  }

  // As an anchor: without A when it stays what it is.
  Factors present() const { return {b_, options_.train_a ? a_ : Matrix()}; }

  // `now` without what was there `before`: [B, -B0] over [A; A0] as two terms, or (B - B0) A.
  TensorDelta less(LowRank now, const Factors* before) const {
    if (before == nullptr) return of({std::move(now)});
    if (options_.train_a) return of({std::move(now), term(before->b, before->a, -1.0)});
    check(now.b.size() == b_.size(), "factors with a frozen A are kept from round to round");
    const double factor = options_.scale * options_.share;
    for (std::size_t i = 0; i < b_.size(); ++i) {
      now.b.data()[i] = static_cast<float>(
          (static_cast<double>(b_.data()[i]) - static_cast<double>(before->b.data()[i])) * factor);
    }
    return of({std::move(now)});
  }

  LowRank term(const Matrix& b, const Matrix& a, double sign = 1.0) const {
    return {.b = scaled(b, sign * options_.scale * options_.share),
            .a = a,
            .id_a = options_.shared_a,
            .id_b = 0,
            .seeded_a = options_.seeded.has_value(),
            .lasting_a = lasting_a_};
  }

  std::size_t width() const { return rank() + (anchor_ ? anchor_->a.rows() : 0); }  // 0: frozen
  float factor() const { return static_cast<float>(options_.scale); }

  static Matrix scaled(const Matrix& m, double factor) {
    Matrix out = m;
    for (float& value : out.values())
      value = static_cast<float>(static_cast<double>(value) * factor);
    return out;
  }

  Operand factor_a() const {
    if (compute_ == DType::kBF16)
      return Operand(half_a_.data(), DType::kBF16, width(), shape_.d_in);
    return width() > rank() ? wide_a_.view() : a_.view();
  }
  Operand factor_b() const {
    if (compute_ == DType::kBF16)
      return Operand(half_b_.data(), DType::kBF16, shape_.d_out, width());
    return anchor_ ? wide_b_.view() : b_.view();
  }

  bool drops(const AdapterPass& pass) const { return pass.training && options_.dropout > 0.0; }

  // Keeps each value of the input with probability 1 - p and scales it by 1 / (1 - p); the same
  // draw in both directions, whichever rows a call is about.
  template <class Apply>
  void for_mask(const AdapterPass& pass, std::size_t rows, const Apply& apply) const {
    const sys::Stream draws =
        pass.dropout.at({.purpose = "dropout", .item = sys::name_hash(shape_.module)});
    const auto limit = static_cast<std::uint32_t>(options_.dropout * 4294967296.0);
    const auto keep = static_cast<float>(1.0 / (1.0 - options_.dropout));
    std::size_t draw = pass.first_row * shape_.d_in;
    for (std::size_t t = 0; t < rows; ++t) {
      for (std::size_t i = 0; i < shape_.d_in; ++i)
        apply(t, i, draws.word(draw++) < limit ? 0.0f : keep);
    }
  }

  // The input after dropout; x itself when there is none.
  Operand dropped(AdapterPass& pass, const Operand& x) const {
    if (!drops(pass)) return x;
    const std::size_t n = x.rows * x.cols;
    auto& floats = pass.scratch.floats;
    floats.resize(std::max(floats.size(), n));
    for (std::size_t t = 0; t < x.rows; ++t) {
      float* row = floats.data() + t * x.cols;
      if (x.dtype == DType::kF32) {
        std::copy_n(static_cast<const float*>(x.data) + t * x.stride, x.cols, row);
      } else {
        tensor::to_float(row, static_cast<const BFloat16*>(x.data) + t * x.stride, x.cols);
      }
    }
    for_mask(pass, x.rows,
             [&](std::size_t t, std::size_t i, float keep) { floats[t * x.cols + i] *= keep; });
    const ConstMatrixView kept(floats.data(), x.rows, x.cols);
    return in_type(kept, x.dtype, pass.scratch.input);
  }

  // out += scale * left^T right over all rows, or that of each record to its own place.
  static void add_gradient(AdapterPass& pass, const Operand& left, const Operand& right,
                           const RecordGradients* records, std::size_t offset, Matrix& out,
                           float weight) {
    if (records == nullptr) {
      pass.gemm.multiply(out.view(), left.t(), right, true, weight);
      return;
    }
    for (std::size_t i = 0; i + 1 < records->offsets.size(); ++i) {
      const std::size_t first = records->offsets[i];
      const std::size_t count = records->offsets[i + 1] - first;
      const MatrixView own(records->data + i * records->stride + offset, out.rows(), out.cols());
      pass.gemm.multiply(own, left.rows_from(first, count).t(), right.rows_from(first, count),
                         false, weight);
    }
  }

  LinearShape shape_;
  LowRankOptions options_;
  Matrix a_, b_;                 // f32 master copies
  std::uint64_t lasting_a_ = 0;  // of a_: LowRank::lasting_a
  Matrix grad_a_, grad_b_;
  std::shared_ptr<const Factors> anchor_;  // subtracted from what the model holds of them
  std::shared_ptr<const Factors> round_;   // as they were when the round began
  std::vector<Factors> merged_;            // folded in and left behind since then
  DType compute_ = DType::kF32;
  Matrix wide_a_, wide_b_;  // with an anchor: [A; A0] and [B, -B0], or B - B0 over the frozen A
  std::vector<BFloat16> half_a_, half_b_;
};

}  // namespace

std::unique_ptr<Adapter> make_low_rank(const LinearShape& shape, std::size_t rank,
                                       const LowRankOptions& options) {
  return std::make_unique<LowRankAdapter>(shape, rank, options);
}

}  // namespace strata::adapter
