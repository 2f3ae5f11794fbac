#include "adapter/delta_terms.h"

#include <algorithm>
#include <cmath>

namespace strata::adapter {
namespace {

template <class... F>
struct Overload : F... {
  using F::operator()...;
};
template <class... F>
Overload(F...) -> Overload<F...>;

std::string shape(std::size_t rows, std::size_t cols) {
  return std::to_string(rows) + " x " + std::to_string(cols);
}

tl::unexpected<Error> misfit(const std::string& name, const tensor::Matrix& m,
                             std::string_view role, std::size_t rows, std::size_t cols) {
  return fail({.code = ErrorCode::kIncompatibleUpdate,
               .what = std::string(role) + " is " + shape(m.rows(), m.cols()),
               .where = name,
               .rule = "it must be " + shape(rows, cols)});
}

Result<void> finite(const std::string& name, const tensor::Matrix& m, std::string_view role) {
  const auto values = m.values();
  const auto bad =
      std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad == values.end()) return {};
  return fail({.code = ErrorCode::kIncompatibleUpdate,
               .what = std::string(role) + " has NaN or infinity at value " +
                       std::to_string(bad - values.begin()),
               .where = name,
               .rule = "updates are finite",
               .remedy = "lower the client's learning rate"});
}

Result<void> validate_term(const std::string& name, const TensorDelta& delta, const LowRank& term) {
  const std::size_t r = term.a.rows();
  if (r == 0) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = "has rank 0",
                 .where = name,
                 .rule = "a rank is at least 1"});
  }
  if (term.a.cols() != delta.d_in) return misfit(name, term.a, "A", r, delta.d_in);
  if (term.b.rows() != delta.d_out || term.b.cols() != r)
    return misfit(name, term.b, "B", delta.d_out, r);
  if (auto ok = finite(name, term.a, "A"); !ok) return ok;
  return finite(name, term.b, "B");
}

Result<void> validate_term(const std::string& name, const TensorDelta& delta, const Dense& term) {
  if (term.values.rows() != delta.d_out || term.values.cols() != delta.d_in) {
    return misfit(name, term.values, "the dense change", delta.d_out, delta.d_in);
  }
  return finite(name, term.values, "the dense change");
}

}  // namespace

std::size_t TensorDelta::rank_bound() const {
  std::size_t rank = 0;
  for (const auto& term : terms) {
    rank += std::visit(Overload{[](const LowRank& t) { return t.a.rows(); },
                                [&](const Dense&) { return std::min(d_out, d_in); }},
                       term);
  }
  return rank;
}

std::size_t TensorDelta::value_count() const {
  std::size_t n = 0;
  for (const auto& term : terms) {
    n += std::visit(
        Overload{[](const LowRank& t) { return (t.seeded_a ? 0 : t.a.size()) + t.b.size(); },
                 [](const Dense& t) { return t.values.size(); }},
        term);
  }
  return n;
}

Result<void> validate(const std::string& name, const TensorDelta& delta) {
  for (const auto& term : delta.terms) {
    auto ok = std::visit([&](const auto& t) { return validate_term(name, delta, t); }, term);
    if (!ok) return ok;
  }
  return {};
}

Result<void> validate(const DeltaTerms& delta) {
  for (const auto& [name, tensor] : delta) {
    if (auto ok = validate(name, tensor); !ok) return ok;
  }
  return {};
}

namespace {

// LowRank::lasting_a of factors one below another, from their names and order.
std::uint64_t joint_name(const std::vector<LowRank>& pairs) {
  std::uint64_t out = 0;
  for (const auto& pair : pairs) {
    if (pair.lasting_a == 0) return 0;
    // The finaliser of SplitMix64 (Steele et al. 2014) between one and the next.
    out = (out ^ pair.lasting_a) + 0x9e3779b97f4a7c15u;
    out = (out ^ (out >> 30)) * 0xbf58476d1ce4e5b9u;
    out = (out ^ (out >> 27)) * 0x94d049bb133111ebu;
    out ^= out >> 31;
  }
  return out | std::uint64_t{out == 0};
}

}  // namespace

LowRank stacked(const std::vector<LowRank>& pairs) {
  if (pairs.size() == 1) return pairs.front();
  std::size_t rank = 0;
  for (const auto& pair : pairs) rank += pair.a.rows();
  const std::size_t d_out = pairs.front().b.rows(), d_in = pairs.front().a.cols();
  LowRank out{.b = tensor::Matrix(d_out, rank),
              .a = tensor::Matrix(rank, d_in),
              .lasting_a = joint_name(pairs)};
  std::size_t at = 0;
  for (const auto& pair : pairs) {
    const std::size_t r = pair.a.rows();
    for (std::size_t i = 0; i < d_out; ++i)
      std::copy_n(pair.b.data() + i * r, r, out.b.data() + i * rank + at);
    std::copy_n(pair.a.data(), pair.a.size(), out.a.data() + at * d_in);
    at += r;
  }
  return out;
}

void scale(DeltaTerms& delta, float factor) {
  for (auto& [name, tensor] : delta) {
    for (auto& term : tensor.terms) {
      std::visit(Overload{[&](LowRank& t) {
                            for (float& v : t.b.values()) v *= factor;
                          },
                          [&](Dense& t) {
                            for (float& v : t.values.values()) v *= factor;
                          }},
                 term);
    }
  }
}

Result<void> add(DeltaTerms& into, const DeltaTerms& other) {
  for (const auto& [name, tensor] : other) {
    const auto [at, inserted] = into.try_emplace(name, TensorDelta{tensor.d_out, tensor.d_in, {}});
    if (!inserted && (at->second.d_out != tensor.d_out || at->second.d_in != tensor.d_in)) {
      return fail({.code = ErrorCode::kIncompatibleUpdate,
                   .what = "is " + shape(tensor.d_out, tensor.d_in),
                   .where = name,
                   .rule = "it must be " + shape(at->second.d_out, at->second.d_in)});
    }
    at->second.terms.insert(at->second.terms.end(), tensor.terms.begin(), tensor.terms.end());
  }
  return {};
}

void add_dense(const TensorDelta& delta, double weight, std::vector<double>& out) {
  out.resize(delta.d_out * delta.d_in, 0.0);
  const auto low_rank = [&](const LowRank& t) {
    for (std::size_t i = 0; i < delta.d_out; ++i) {
      for (std::size_t r = 0; r < t.a.rows(); ++r) {
        const double b = weight * static_cast<double>(t.b(i, r));
        for (std::size_t j = 0; j < delta.d_in; ++j)
          out[i * delta.d_in + j] += b * static_cast<double>(t.a(r, j));
      }
    }
  };
  const auto dense = [&](const Dense& t) {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] += weight * static_cast<double>(t.values.values()[i]);
  };
  for (const auto& term : delta.terms) std::visit(Overload{low_rank, dense}, term);
}

}  // namespace strata::adapter
