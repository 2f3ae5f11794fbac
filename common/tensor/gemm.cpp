#include "tensor/gemm.h"

#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tensor/convert.h"

namespace strata::tensor {
namespace {

// oneDNN asks OpenMP how many threads the calling one may use: itself, always.
void stay_on_this_thread() { omp_set_num_threads(1); }

void zero(MatrixView out) {
  for (std::size_t i = 0; i < out.rows; ++i) std::fill_n(out.row(i), out.cols, 0.0f);
}

using Key = std::tuple<std::size_t, std::size_t, std::size_t, std::size_t, std::size_t, std::size_t,
                       int, float>;

dnnl::memory::desc operand_desc(const Operand& x) {
  const auto rows = static_cast<dnnl::memory::dim>(x.logical_rows());
  const auto cols = static_cast<dnnl::memory::dim>(x.logical_cols());
  const auto stride = static_cast<dnnl::memory::dim>(x.stride);
  const dnnl::memory::dims strides =
      x.transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
  const auto type =
      x.dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  return {{rows, cols}, type, strides};
}

}  // namespace

void float_gemm(MatrixView out, const Operand& a, const Operand& b, bool accumulate, float scale) {
  const std::size_t m = out.rows;
  const std::size_t n = out.cols;
  const std::size_t k = a.logical_cols();
  check(a.logical_rows() == m && b.logical_cols() == n && b.logical_rows() == k,
        "matrix product: shapes do not agree");
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!accumulate) zero(out);
    return;
  }
  stay_on_this_thread();
  const auto status =
      dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', static_cast<dnnl_dim_t>(m),
                 static_cast<dnnl_dim_t>(n), static_cast<dnnl_dim_t>(k), scale,
                 static_cast<const float*>(a.data), static_cast<dnnl_dim_t>(a.stride),
                 static_cast<const float*>(b.data), static_cast<dnnl_dim_t>(b.stride),
                 accumulate ? 1.0f : 0.0f, out.data, static_cast<dnnl_dim_t>(out.stride));
  check(status == dnnl_success, "oneDNN refused a float matrix product");
}

bool has_fast_bf16() {
  const auto isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core || isa == dnnl::cpu_isa::avx512_core_vnni ||
         isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx ||
         isa == dnnl::cpu_isa::all;
}

std::string instruction_set() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "generic";
  }
}

struct Gemm::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  // oneDNN's own scratch memory belongs to the thread that made a primitive; this one goes where
  // the state goes, so that a workspace may change threads.
  struct Product {
    dnnl::matmul primitive;
    dnnl::memory::desc scratch;
  };
  std::map<Key, Product> primitives;
  dnnl::memory scratch;
  std::size_t scratch_bytes = 0;
  std::vector<float> wide_a, wide_b;  // portable path: tiles widened to float

  const Product& primitive(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                           float scale) {
    const int flags = (a.transposed ? 1 : 0) | (b.transposed ? 2 : 0) | (accumulate ? 4 : 0);
    const Key key{out.rows, out.cols, a.logical_cols(), a.stride, b.stride, out.stride,
                  flags,    scale};
    const auto found = primitives.find(key);
    if (found != primitives.end()) return found->second;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (scale != 1.0f) attributes.set_output_scales(0, {scale});
    if (accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::desc description(operand_desc(a), operand_desc(b),
                                         operand_desc(ConstMatrixView(out)));
    const dnnl::matmul::primitive_desc chosen(description, attributes, engine);
    if (primitives.size() > 4096)
      primitives.clear();  // shapes of one run are few; this only bounds a long-lived process
    return primitives.emplace(key, Product{dnnl::matmul(chosen), chosen.scratchpad_desc()})
        .first->second;
  }

  // Memory for a product to work in, kept for the next.
  dnnl::memory scratch_for(const dnnl::memory::desc& wanted) {
    const std::size_t bytes = wanted.get_size();
    if (bytes > scratch_bytes) {
      const auto size = static_cast<dnnl::memory::dim>(bytes);
      scratch =
          dnnl::memory({{size}, dnnl::memory::data_type::u8, dnnl::memory::format_tag::a}, engine);
      scratch_bytes = bytes;
    }
    return {wanted, engine, scratch_bytes > 0 ? scratch.get_data_handle() : nullptr};
  }

  void run(MatrixView out, const Operand& a, const Operand& b, bool accumulate, float scale) {
    stay_on_this_thread();
    const Product& product = primitive(out, a, b, accumulate, scale);
    // oneDNN has one kind of memory, for what it reads and what it writes.
    // NOLINTBEGIN(cppcoreguidelines-pro-type-const-cast): only read
    const dnnl::memory src(operand_desc(a), engine, const_cast<void*>(a.data));
    const dnnl::memory weights(operand_desc(b), engine, const_cast<void*>(b.data));
    // NOLINTEND(cppcoreguidelines-pro-type-const-cast)
    const dnnl::memory dst(operand_desc(ConstMatrixView(out)), engine, out.data);
    product.primitive.execute(stream, {{DNNL_ARG_SRC, src},
                                       {DNNL_ARG_WEIGHTS, weights},
                                       {DNNL_ARG_DST, dst},
                                       {DNNL_ARG_SCRATCHPAD, scratch_for(product.scratch)}});
    stream.wait();
  }

  void multiply(MatrixView out, const Operand& a, const Operand& b, bool accumulate, float scale);
  void multiply_widened(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                        float scale);
};

namespace {

// Rows [first, first + count) of op(x), and columns likewise.
Operand logical_rows_of(const Operand& x, std::size_t first, std::size_t count) {
  return x.transposed ? x.cols_from(first, count) : x.rows_from(first, count);
}
Operand logical_cols_of(const Operand& x, std::size_t first, std::size_t count) {
  return x.transposed ? x.rows_from(first, count) : x.cols_from(first, count);
}

Operand widen(const Operand& x, std::vector<float>& buffer) {
  buffer.resize(std::max(buffer.size(), x.rows * x.cols));
  for (std::size_t i = 0; i < x.rows; ++i) {
    to_float(buffer.data() + i * x.cols, static_cast<const BFloat16*>(x.data) + i * x.stride,
             x.cols);
  }
  Operand wide(buffer.data(), DType::kF32, x.rows, x.cols);
  wide.transposed = x.transposed;
  return wide;
}

// Calls piece(first, count) on a long multiple-of-`step` head of [0, n) and on the rest. Numbers of
// tokens differ from batch to batch, and every new shape costs oneDNN a new kernel: cut like this,
// a whole run needs only a few dozen.
template <class Piece>
void in_known_lengths(std::size_t n, std::size_t step, const Piece& piece) {
  const std::size_t head = n - n % step;
  if (head > 0) piece(std::size_t{0}, head);
  if (head < n) piece(head, n - head);
}

}  // namespace

// Tokens are the rows of the result (forward, input gradients) or what is summed over (gradients of
// weights, where the left operand is transposed).
void Gemm::State::multiply(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                           float scale) {
  if (a.transposed) {
    in_known_lengths(a.logical_cols(), 32, [&](std::size_t first, std::size_t count) {
      run(out, logical_cols_of(a, first, count), logical_rows_of(b, first, count),
          accumulate || first > 0, scale);
    });
    return;
  }
  in_known_lengths(out.rows, 16, [&](std::size_t first, std::size_t count) {
    run(out.rows_from(first, count), a.rows_from(first, count), b, accumulate, scale);
  });
}

// Tile by tile, so that a large weight is never held in float as a whole.
void Gemm::State::multiply_widened(MatrixView out, const Operand& a, const Operand& b,
                                   bool accumulate, float scale) {
  constexpr std::size_t kTile = 2048;
  const std::size_t inner = a.logical_cols();
  for (std::size_t k = 0; k < inner; k += kTile) {
    const std::size_t depth = std::min(kTile, inner - k);
    const Operand left = widen(logical_cols_of(a, k, depth), wide_a);
    const Operand right = logical_rows_of(b, k, depth);
    for (std::size_t n = 0; n < out.cols; n += kTile) {
      const std::size_t width = std::min(kTile, out.cols - n);
      float_gemm(out.cols_from(n, width), left, widen(logical_cols_of(right, n, width), wide_b),
                 accumulate || k > 0, scale);
    }
  }
}

Gemm::Gemm() : state_(std::make_unique<State>()) {}
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;
Gemm::~Gemm() = default;

void Gemm::multiply(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                    float scale) {
  check(a.dtype == b.dtype, "matrix product: operand types differ");
  if (a.dtype == DType::kF32) return float_gemm(out, a, b, accumulate, scale);
  check(a.logical_rows() == out.rows && b.logical_cols() == out.cols &&
            b.logical_rows() == a.logical_cols(),
        "matrix product: shapes do not agree");
  if (out.rows == 0 || out.cols == 0) return;
  if (a.logical_cols() == 0) {
    if (!accumulate) zero(out);
    return;
  }
  if (has_fast_bf16()) return state_->multiply(out, a, b, accumulate, scale);
  state_->multiply_widened(out, a, b, accumulate, scale);
}

}  // namespace strata::tensor
