// Each fused operation of the decoder against a plain twin in double, and its gradient against
// finite differences of that twin.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "model/ops/activation.h"
#include "model/ops/attention.h"
#include "model/ops/cross_entropy.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "sys/random.h"

namespace strata::model {
namespace {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::Matrix;
using tensor::MatrixView;
using tensor::TypedRows;
using Doubles = std::vector<double>;

Matrix drawn(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  sys::Stream draws(seed);
  Matrix out(rows, cols);
  for (float& value : out.values()) value = static_cast<float>(draws.normal());
  return out;
}

Doubles doubles(const Matrix& m) { return {m.values().begin(), m.values().end()}; }

// d/dx of f at x, by central differences.
Doubles differences(const std::function<double(const Doubles&)>& f, Doubles x) {
  constexpr double kStep = 1e-5;
  Doubles out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + kStep;
    const double above = f(x);
    x[i] = at - kStep;
    out[i] = (above - f(x)) / (2.0 * kStep);
    x[i] = at;
  }
  return out;
}

double dot(const Doubles& a, const Doubles& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void expect_near(std::span<const float> actual, const Doubles& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  double size = 0.1;  // inputs are of size 1: where a gradient vanishes, that is the measure
  for (const double value : expected) size = std::max(size, std::abs(value));
  for (std::size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance * size) << "value " << i;
}

// A matrix in the compute type under test, and back.
struct Typed {
  std::vector<std::uint32_t> memory;
  TypedRows rows;
  Typed(std::size_t n, std::size_t width, DType type)
      : memory(n * width), rows(memory.data(), type, n, width) {}
  Typed(const Matrix& values, DType type) : Typed(values.rows(), values.cols(), type) {
    rows.take(values.view());
  }
  Matrix floats() const {
    Matrix out(rows.rows, rows.cols);
    std::vector<float> scratch(rows.cols);
    for (std::size_t i = 0; i < rows.rows; ++i)
      std::copy_n(rows.read(i, scratch.data()), rows.cols, out.data() + i * rows.cols);
    return out;
  }
};

class Ops : public testing::TestWithParam<DType> {
 protected:
  DType type_ = GetParam();
  // What rounding to the type may cost, relative to the largest value.
  double rounding_ = type_ == DType::kBF16 ? 8e-3 : 2e-6;
};

// Norms.

Doubles norm(const Doubles& x, const Doubles& gain, const Doubles& bias, std::size_t width,
             bool centred, double eps) {
  Doubles out(x.size());
  for (std::size_t t = 0; t < x.size() / width; ++t) {
    double mean = 0.0, square = 0.0;
    for (std::size_t i = 0; i < width && centred; ++i) mean += x[t * width + i] / double(width);
    for (std::size_t i = 0; i < width; ++i)
      square += std::pow(x[t * width + i] - mean, 2) / double(width);
    for (std::size_t i = 0; i < width; ++i)
      out[t * width + i] = (x[t * width + i] - mean) / std::sqrt(square + eps) * gain[i] + bias[i];
  }
  return out;
}

TEST_P(Ops, NormsAndTheirGradientsEqualThePlainOnes) {
  constexpr std::size_t kRows = 3, kWidth = 37;
  for (const bool centred : {false, true}) {
    const Matrix x = drawn(kRows, kWidth, 1), dy = drawn(kRows, kWidth, 2);
    const Matrix gain = drawn(1, kWidth, 3), bias = drawn(1, kWidth, 4);
    const Matrix residual = drawn(kRows, kWidth, 5);
    const NormWeights weights{.gain = gain.values(),
                              .bias = centred ? bias.values() : std::span<const float>{},
                              .eps = 1e-3f,
                              .centred = centred};
    const Doubles shift = centred ? doubles(bias) : Doubles(kWidth, 0.0);
    std::vector<float> rstd(kRows), mean(kRows), scratch(kWidth);
    const NormStats stats{rstd, mean};
    Typed y(kRows, kWidth, type_), again(kRows, kWidth, type_);
    norm_forward(y.rows, stats, x.view(), weights, scratch.data());
    norm_apply(again.rows, stats, x.view(), weights, scratch.data());
    const double eps = static_cast<double>(1e-3f);
    expect_near(y.floats().values(), norm(doubles(x), doubles(gain), shift, kWidth, centred, eps),
                rounding_);
    EXPECT_EQ(y.floats(), again.floats());

    Matrix dx = residual;
    norm_backward(dx.view(), dx.view(), dy.view(), x.view(), stats, weights);
    Doubles expected = differences(
        [&](const Doubles& at) {
          return dot(norm(at, doubles(gain), shift, kWidth, centred, eps), doubles(dy));
        },
        doubles(x));
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += residual.values()[i];
    expect_near(dx.values(), expected, 1e-5);

    Matrix dgain(1, kWidth), dbias(1, kWidth);
    norm_weights_backward(dgain.values(), centred ? dbias.values() : std::span<float>{}, dy.view(),
                          x.view(), stats, weights);
    expect_near(dgain.values(),
                differences(
                    [&](const Doubles& at) {
                      return dot(norm(doubles(x), at, shift, kWidth, centred, eps), doubles(dy));
                    },
                    doubles(gain)),
                1e-5);
  }
}

// Activations.

double silu(double z) { return z / (1.0 + std::exp(-z)); }
double gelu(double z) {
  return 0.5 * z * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (z + 0.044715 * z * z * z)));
}

TEST_P(Ops, SwiGluAndItsGradientEqualThePlainOnes) {
  constexpr std::size_t kRows = 2, kWidth = 53;
  const Matrix gate = drawn(kRows, kWidth, 6), up = drawn(kRows, kWidth, 7);
  const Matrix dact = drawn(kRows, kWidth, 8);
  std::vector<float> scratch(kActivationScratch * kWidth);
  Typed act(kRows, kWidth, type_), again(kRows, kWidth, type_), dgate(kRows, kWidth, type_),
      dup(kRows, kWidth, type_), same(kRows, kWidth, type_);
  const Typed kept_gate(gate, type_), kept_up(up, type_);
  const Doubles g = doubles(kept_gate.floats()), u = doubles(kept_up.floats()), d = doubles(dact);
  const auto value = [&](const Doubles& gates, const Doubles& ups) {
    Doubles out(gates.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = silu(gates[i]) * ups[i];
    return out;
  };
  swiglu_forward(act.rows, gate.view(), up.view(), scratch.data());
  expect_near(act.floats().values(), value(doubles(gate), doubles(up)), rounding_);
  swiglu_backward(again.rows, dgate.rows, dup.rows, dact.view(), kept_gate.rows, kept_up.rows,
                  scratch.data());
  swiglu_again(same.rows, kept_gate.rows, kept_up.rows, scratch.data());
  EXPECT_EQ(again.floats(), same.floats());
  expect_near(again.floats().values(), value(g, u), rounding_);
  expect_near(dgate.floats().values(),
              differences([&](const Doubles& at) { return dot(value(at, u), d); }, g),
              rounding_ + 1e-5);
  expect_near(dup.floats().values(),
              differences([&](const Doubles& at) { return dot(value(g, at), d); }, u),
              rounding_ + 1e-5);
}

TEST_P(Ops, GeluAndItsGradientEqualThePlainOnes) {
  for (const Gelu form : {Gelu::kTanh, Gelu::kErf}) {
    constexpr std::size_t kRows = 2, kWidth = 41;
    const Matrix up = drawn(kRows, kWidth, 9), dact = drawn(kRows, kWidth, 10);
    std::vector<float> scratch(kActivationScratch * kWidth);
    Typed act(kRows, kWidth, type_), again(kRows, kWidth, type_), dup(kRows, kWidth, type_);
    const Typed kept(up, type_);
    const auto value = [&](const Doubles& ups) {
      Doubles out(ups.size());
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] =
            form == Gelu::kErf ? ups[i] * 0.5 * std::erfc(-ups[i] / std::sqrt(2.0)) : gelu(ups[i]);
      return out;
    };
    gelu_forward(form, act.rows, up.view(), scratch.data());
    expect_near(act.floats().values(), value(doubles(up)), rounding_);
    gelu_backward(form, again.rows, dup.rows, dact.view(), kept.rows, scratch.data());
    expect_near(dup.floats().values(),
                differences([&](const Doubles& at) { return dot(value(at), doubles(dact)); },
                            doubles(kept.floats())),
                rounding_ + 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Ops, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& type) {
                           return type.param == DType::kF32 ? "f32" : "bf16";
                         });

// Rotation.

TEST(Rope, TurnsBackWhatItTurned) {
  DecoderConfig config;
  config.head_dim = 8;
  RopeTable table(config);
  table.ensure(40);
  const Matrix x = drawn(4, 24, 11);
  Matrix turned = x;
  const std::vector<std::uint32_t> positions{0, 3, 17, 39};
  rope_apply(turned.view(), 8, positions, table, false);
  EXPECT_TRUE(std::equal(x.data(), x.data() + 24, turned.data())) << "position 0 turns by nothing";
  EXPECT_NE(x, turned);
  rope_apply(turned.view(), 8, positions, table, true);
  expect_near(turned.values(), doubles(x), 1e-6);
}

// Attention.

struct Case {
  std::size_t heads, kv_heads, head_dim, window;
  std::vector<std::size_t> lengths;
};

// The plain one: softmax over the keys a query sees, one query and head at a time.
Doubles attention(const Doubles& q, const Doubles& k, const Doubles& v, const Case& c) {
  const std::size_t d = c.head_dim, qw = c.heads * d, kw = c.kv_heads * d;
  Doubles out(q.size(), 0.0);
  std::size_t first = 0;
  for (const std::size_t length : c.lengths) {
    for (std::size_t i = 0; i < length; ++i) {
      for (std::size_t h = 0; h < c.heads; ++h) {
        const std::size_t kv = h / (c.heads / c.kv_heads);
        const std::size_t low = c.window > 0 && i + 1 > c.window ? i + 1 - c.window : 0;
        Doubles p;
        double sum = 0.0;
        for (std::size_t j = low; j <= i; ++j) {
          double score = 0.0;
          for (std::size_t e = 0; e < d; ++e)
            score += q[(first + i) * qw + h * d + e] * k[(first + j) * kw + kv * d + e];
          p.push_back(std::exp(score / std::sqrt(double(d))));
          sum += p.back();
        }
        for (std::size_t j = low; j <= i; ++j) {
          for (std::size_t e = 0; e < d; ++e)
            out[(first + i) * qw + h * d + e] +=
                p[j - low] / sum * v[(first + j) * kw + kv * d + e];
        }
      }
    }
    first += length;
  }
  return out;
}

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, EqualsThePlainOneForwardAndBackward) {
  const Case& c = GetParam();
  const AttentionShape shape{c.heads, c.kv_heads, c.head_dim, c.window};
  std::vector<AttentionSegment> segments;
  std::size_t rows = 0;
  for (const std::size_t length : c.lengths) {
    segments.push_back({rows, length, rows, length});
    rows += length;
  }
  const std::size_t qw = c.heads * c.head_dim, kw = c.kv_heads * c.head_dim;
  const Matrix q = drawn(rows, qw, 12), k = drawn(rows, kw, 13), v = drawn(rows, kw, 14);
  const Matrix d_o = drawn(rows, qw, 15);
  Matrix o(rows, qw), lse(rows, c.heads), dots(rows, c.heads);
  Matrix dq(rows, qw), dk(rows, kw), dv(rows, kw);
  const AttentionInput in{q.view(), k.view(), v.view(), lse.view()};
  tensor::Gemm gemm;
  std::vector<float> scratch;
  const AttentionTools tools{gemm, scratch};
  for (const auto& task : attention_tasks(segments, shape, 5))
    attention_forward(o.view(), in, segments[task.segment], task, shape, tools);
  expect_near(o.values(), attention(doubles(q), doubles(k), doubles(v), c), 3e-6);

  for (std::size_t t = 0; t < rows; ++t)
    attention_dots(dots.data() + t * c.heads, d_o.data() + t * qw, o.data() + t * qw, shape);
  for (const auto& s : segments) {
    for (std::size_t h = 0; h < c.kv_heads; ++h)
      attention_backward(dq.view(), dk.view(), dv.view(), d_o.view(), dots.view(), in, s, h, shape,
                         tools);
  }
  const auto value = [&](const Doubles& a, const Doubles& b, const Doubles& e) {
    return dot(attention(a, b, e, c), doubles(d_o));
  };
  const Doubles qs = doubles(q), ks = doubles(k), vs = doubles(v);
  expect_near(dq.values(), differences([&](const Doubles& at) { return value(at, ks, vs); }, qs),
              1e-5);
  expect_near(dk.values(), differences([&](const Doubles& at) { return value(qs, at, vs); }, ks),
              1e-5);
  expect_near(dv.values(), differences([&](const Doubles& at) { return value(qs, ks, at); }, vs),
              1e-5);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attention,
                         testing::Values(Case{1, 1, 4, 0, {7}}, Case{4, 2, 6, 0, {5, 1, 9}},
                                         Case{3, 1, 4, 3, {8, 4}}, Case{2, 2, 2, 1, {3}}));

TEST(AttentionOfLongRecords, EqualsThePlainOneAcrossBlocks) {
  // More queries than one block holds, with and without a window that starts inside a block.
  for (const std::size_t window : {std::size_t{0}, std::size_t{70}}) {
    const Case c{2, 1, 8, window, {150, 67}};
    const AttentionShape shape{2, 1, 8, window};
    const std::vector<AttentionSegment> segments{{0, 150, 0, 150}, {150, 67, 150, 67}};
    const Matrix q = drawn(217, 16, 16), k = drawn(217, 8, 17), v = drawn(217, 8, 18);
    Matrix o(217, 16), lse(217, 2);
    tensor::Gemm gemm;
    std::vector<float> scratch;
    for (const auto& task : attention_tasks(segments, shape, 100))
      attention_forward(o.view(), {q.view(), k.view(), v.view(), lse.view()},
                        segments[task.segment], task, shape, {gemm, scratch});
    expect_near(o.values(), attention(doubles(q), doubles(k), doubles(v), c), 3e-6);
  }
}

// What a pass over records of these lengths leaves, with the products in a type.
struct AttentionResult {
  Matrix o, dq, dk, dv;
};

AttentionResult attention_in(tensor::DType products, const Case& c) {
  const AttentionShape shape{c.heads, c.kv_heads, c.head_dim, c.window};
  std::vector<AttentionSegment> segments;
  std::size_t rows = 0;
  for (const std::size_t length : c.lengths) {
    segments.push_back({rows, length, rows, length});
    rows += length;
  }
  const std::size_t qw = c.heads * c.head_dim, kw = c.kv_heads * c.head_dim;
  const Matrix q = drawn(rows, qw, 21), k = drawn(rows, kw, 22), v = drawn(rows, kw, 23);
  const Matrix d_o = drawn(rows, qw, 24);
  Matrix lse(rows, c.heads), dots(rows, c.heads);
  AttentionResult out{Matrix(rows, qw), Matrix(rows, qw), Matrix(rows, kw), Matrix(rows, kw)};
  const AttentionInput in{q.view(), k.view(), v.view(), lse.view()};
  tensor::Gemm gemm;
  std::vector<float> scratch;
  std::size_t room = 0;
  for (const auto& s : segments) room = std::max(room, attention_scratch(s, shape, products, true));
  scratch.assign(room, std::numeric_limits<float>::quiet_NaN());  // nothing is read unwritten
  const AttentionTools tools{gemm, scratch, products};
  for (const auto& task : attention_tasks(segments, shape, 256))
    attention_forward(out.o.view(), in, segments[task.segment], task, shape, tools);
  for (std::size_t t = 0; t < rows; ++t)
    attention_dots(dots.data() + t * c.heads, d_o.data() + t * qw, out.o.data() + t * qw, shape);
  for (const auto& s : segments) {
    std::fill(scratch.begin(), scratch.end(), std::numeric_limits<float>::quiet_NaN());
    for (std::size_t h = 0; h < c.kv_heads; ++h)
      attention_backward(out.dq.view(), out.dk.view(), out.dv.view(), d_o.view(), dots.view(), in,
                         s, h, shape, tools);
  }
  EXPECT_EQ(scratch.size(), room) << "more memory than planned";
  return out;
}

double apart(const Matrix& a, const Matrix& b) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double(a.data()[i]) - double(b.data()[i]), 2);
    size += std::pow(double(b.data()[i]), 2);
  }
  return std::sqrt(difference / size);
}

TEST(AttentionOfRoundedProducts, IsThatOfFloatsToThePrecisionOfBf16) {
  if (!tensor::has_fast_bf16()) GTEST_SKIP() << "this CPU has no bf16 products";
  // Lengths beside whole blocks and whole 32s, few tokens, groups of heads, windows.
  for (const Case& c :
       {Case{2, 1, 8, 0, {150, 67, 3}}, Case{3, 3, 16, 0, {64, 65}}, Case{6, 2, 64, 0, {300, 31}},
        Case{2, 1, 8, 70, {150, 67}}, Case{4, 2, 16, 17, {40, 129}}, Case{3, 1, 8, 0, {1100}},
        Case{2, 2, 8, 300, {700}}}) {
    const AttentionResult exact = attention_in(tensor::DType::kF32, c);
    const AttentionResult rounded = attention_in(tensor::DType::kBF16, c);
    const auto where = testing::Message() << c.heads << "/" << c.kv_heads << " heads, window "
                                          << c.window << ", first record " << c.lengths.front();
    EXPECT_LT(apart(rounded.o, exact.o), 6e-3) << where;
    EXPECT_LT(apart(rounded.dq, exact.dq), 1e-2) << where;
    EXPECT_LT(apart(rounded.dk, exact.dk), 1e-2) << where;
    EXPECT_LT(apart(rounded.dv, exact.dv), 6e-3) << where;
  }
}

TEST(AttentionOfRoundedProducts, SeesTheKeysOfACache) {
  if (!tensor::has_fast_bf16()) GTEST_SKIP() << "this CPU has no bf16 products";
  // The last 40 queries of a record whose 130 keys are known: as when all are asked at once.
  const AttentionShape shape{4, 2, 16, 0};
  const Matrix q = drawn(130, 64, 25), k = drawn(130, 32, 26), v = drawn(130, 32, 27);
  Matrix whole(130, 64), part(40, 64);
  tensor::Gemm gemm;
  std::vector<float> scratch;
  const AttentionTools tools{gemm, scratch, tensor::DType::kBF16};
  const auto run = [&](MatrixView o, ConstMatrixView queries, const AttentionSegment& s) {
    for (const auto& task : attention_tasks(std::span(&s, 1), shape, 256))
      attention_forward(o, {queries, k.view(), v.view(), {}}, s, task, shape, tools);
  };
  run(whole.view(), q.view(), {0, 130, 0, 130});
  run(part.view(), q.view().rows_from(90, 40), {0, 40, 0, 130});
  Matrix tail(40, 64);
  std::copy_n(whole.data() + std::ptrdiff_t{90} * 64, tail.size(), tail.data());
  EXPECT_LT(apart(part, tail), 6e-3);
}

// Cross-entropy.

TEST(CrossEntropy, EqualsThePlainOneAndItsGradient) {
  const Matrix logits = drawn(3, 50, 19);
  const std::vector<std::int32_t> targets{4, 49, 0};
  const std::vector<float> weights{0.5f, 2.0f, 0.0f};
  const auto loss_of = [&](const Doubles& z, std::size_t n) {
    double sum = 0.0;
    for (std::size_t i = 0; i < 50; ++i) sum += std::exp(z[n * 50 + i]);
    return std::log(sum) - z[n * 50 + static_cast<std::size_t>(targets[n])];
  };
  Matrix z = logits;
  std::vector<float> loss(3), alone(3);
  std::vector<std::uint8_t> correct(3);
  cross_entropy(loss, z.view(), targets, weights, correct);
  Matrix untouched = logits;
  cross_entropy(alone, untouched.view(), targets, {}, {});
  EXPECT_EQ(untouched, logits);
  EXPECT_EQ(loss, alone);
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_NEAR(loss[n], loss_of(doubles(logits), n), 2e-6);
    const float* row = logits.data() + n * 50;
    EXPECT_EQ(correct[n] != 0, std::max_element(row, row + 50) - row == targets[n]);
  }
  expect_near(z.values(),
              differences(
                  [&](const Doubles& at) {
                    double sum = 0.0;
                    for (std::size_t n = 0; n < 3; ++n) sum += double(weights[n]) * loss_of(at, n);
                    return sum;
                  },
                  doubles(logits)),
              1e-5);
}

}  // namespace
}  // namespace strata::model
