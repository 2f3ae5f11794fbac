#pragma once
// DeltaTerms: what a client's training did to the base, as a sum of terms that is closed under
// weighted sums. Every adapter exports itself as terms, so every method aggregates exactly. Shapes:
// W is d_out x d_in (the mathematical orientation, also for layers stored transposed); a vector
// (norm gain, bias) is n x 1.
//   LowRank   dW = B A          B: d_out x r, A: r x d_in; the adapter's scale is folded into B.
//   `id_a` names a factor that
//                               several clients share (frozen A): of two with one non-zero id the
//                               smaller is, bit for bit, the first rows of the larger.
//   Dense     dW = values       d_out x d_in
// Value types; no thread rules.
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "tensor/matrix.h"

namespace strata::adapter {

struct LowRank {
  tensor::Matrix b;
  tensor::Matrix a;
  std::uint64_t id_a = 0;  // 0: this client's own
  std::uint64_t id_b = 0;
  bool seeded_a = false;  // A is drawn by every party (seeded_factors.h) and does not travel
  /// Names the values of an A that the client's next rounds have as well; 0: it is trained, or
  /// drawn anew. Stays with the client.
  std::uint64_t lasting_a = 0;
};

struct Dense {
  tensor::Matrix values;
};

using Term = std::variant<LowRank, Dense>;

/// The change of one tensor: the sum of `terms`, all of shape d_out x d_in.
struct TensorDelta {
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  std::vector<Term> terms;

  /// Sum of ranks of the low-rank terms; min(d_out, d_in) is added for each dense one.
  [[nodiscard]] std::size_t rank_bound() const;
  /// Payload values (floats) a transport carries.
  [[nodiscard]] std::size_t value_count() const;
};

/// Name of the base tensor ("model.layers.0.self_attn.q_proj.weight") -> its change. Ordered:
/// iteration is canonical.
using DeltaTerms = std::map<std::string, TensorDelta, std::less<>>;

/// kIncompatibleUpdate naming tensor and index unless every value is finite and all shapes fit
/// d_out x d_in.
[[nodiscard]] Result<void> validate(const DeltaTerms& delta);
/// The same of one tensor's change.
[[nodiscard]] Result<void> validate(const std::string& name, const TensorDelta& delta);

/// delta * factor; the factor goes into B (or the dense values).
void scale(DeltaTerms& delta, float factor);

/// [B_1 ... B_n] [A_1; ...; A_n]: the sum of the pairs as one, of the sum of their ranks. A single
/// pair is itself; of several the result is nobody's shared factor, and lasts if all of them do.
[[nodiscard]] LowRank stacked(const std::vector<LowRank>& pairs);

/// Appends the terms of `other`. Shapes must agree (kIncompatibleUpdate).
[[nodiscard]] Result<void> add(DeltaTerms& into, const DeltaTerms& other);

/// out (d_out x d_in, double, row-major) += weight * delta. For tests, reports and small layers.
void add_dense(const TensorDelta& delta, double weight, std::vector<double>& out);

}  // namespace strata::adapter
