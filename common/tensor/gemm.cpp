#include "tensor/gemm.h"

#include <dnnl.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tensor/convert.h"

namespace strata::tensor {
namespace {

std::size_t logical_rows(const Operand& x) { return x.transposed ? x.cols : x.rows; }
std::size_t logical_cols(const Operand& x) { return x.transposed ? x.rows : x.cols; }

void zero(MatrixView out) {
  for (std::size_t i = 0; i < out.rows; ++i) std::fill_n(out.row(i), out.cols, 0.0f);
}

using Key = std::tuple<std::size_t, std::size_t, std::size_t, std::size_t, std::size_t, std::size_t,
                       int, float>;

dnnl::memory::desc operand_desc(const Operand& x) {
  const auto rows = static_cast<dnnl::memory::dim>(logical_rows(x));
  const auto cols = static_cast<dnnl::memory::dim>(logical_cols(x));
  const auto stride = static_cast<dnnl::memory::dim>(x.stride);
  const dnnl::memory::dims strides =
      x.transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
  const auto type =
      x.dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  return {{rows, cols}, type, strides};
}

}  // namespace

void small_gemm(MatrixView out, const Operand& a, const Operand& b, bool accumulate, float scale) {
  const std::size_t m = out.rows;
  const std::size_t n = out.cols;
  const std::size_t k = logical_cols(a);
  check(logical_rows(a) == m && logical_cols(b) == n && logical_rows(b) == k,
        "matrix product: shapes do not agree");
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!accumulate) zero(out);
    return;
  }
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
  std::map<Key, dnnl::matmul> primitives;
  std::vector<float> wide_a, wide_b;  // portable path: operands widened to float

  const dnnl::matmul& primitive(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                                float scale) {
    const int flags = (a.transposed ? 1 : 0) | (b.transposed ? 2 : 0) | (accumulate ? 4 : 0);
    const Key key{out.rows, out.cols,   logical_cols(a), a.stride,
                  b.stride, out.stride, flags,           scale};
    const auto found = primitives.find(key);
    if (found != primitives.end()) return found->second;
    dnnl::primitive_attr attributes;
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
    return primitives.emplace(key, dnnl::matmul(chosen)).first->second;
  }

  void run(MatrixView out, const Operand& a, const Operand& b, bool accumulate, float scale) {
    const dnnl::matmul& product = primitive(out, a, b, accumulate, scale);
    // oneDNN has one kind of memory, for what it reads and what it writes.
    // NOLINTBEGIN(cppcoreguidelines-pro-type-const-cast): only read
    const dnnl::memory src(operand_desc(a), engine, const_cast<void*>(a.data));
    const dnnl::memory weights(operand_desc(b), engine, const_cast<void*>(b.data));
    // NOLINTEND(cppcoreguidelines-pro-type-const-cast)
    const dnnl::memory dst(operand_desc(ConstMatrixView(out)), engine, out.data);
    product.execute(stream,
                    {{DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, dst}});
    stream.wait();
  }
};

namespace {
Operand widen(const Operand& x, std::vector<float>& buffer) {
  buffer.resize(x.rows * x.cols);
  for (std::size_t i = 0; i < x.rows; ++i) {
    to_float(buffer.data() + i * x.cols, static_cast<const BFloat16*>(x.data) + i * x.stride,
             x.cols);
  }
  Operand wide(buffer.data(), DType::kF32, x.rows, x.cols);
  wide.transposed = x.transposed;
  return wide;
}
}  // namespace

Gemm::Gemm() : state_(std::make_unique<State>()) {}
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;
Gemm::~Gemm() = default;

void Gemm::multiply(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                    float scale) {
  check(a.dtype == b.dtype, "matrix product: operand types differ");
  if (a.dtype == DType::kF32) return small_gemm(out, a, b, accumulate, scale);
  check(logical_rows(a) == out.rows && logical_cols(b) == out.cols &&
            logical_rows(b) == logical_cols(a),
        "matrix product: shapes do not agree");
  if (out.rows == 0 || out.cols == 0) return;
  if (logical_cols(a) == 0) {
    if (!accumulate) zero(out);
    return;
  }
  if (has_fast_bf16()) {
    state_->run(out, a, b, accumulate, scale);
  } else {
    small_gemm(out, widen(a, state_->wide_a), widen(b, state_->wide_b), accumulate, scale);
  }
}

}  // namespace strata::tensor
