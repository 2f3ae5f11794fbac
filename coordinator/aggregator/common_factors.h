#pragma once
// Updates as vectors that may be added up. All clients of a round begin with the same factors, and
// what counts of an update is what it changed of them:
//   B_k - B_0  where A is the same for all (frozen or drawn by every party; A is not looked at),
//   B_k - B_0 and A_k - A_0  where both are trained, the whole change of a tensor without factors
// A client of smaller rank changes the first columns of B and rows of A. A tensor that a client
// does not adapt is not changed by it.
#include <map>
#include <span>
#include <string>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

struct CommonTensor {
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  tensor::Matrix b, a;  // d_out x R with the scale inside, and R x d_in, R the largest client's;
                        // empty: changed as a whole
  bool trains_a = false;

  [[nodiscard]] std::size_t rank() const { return a.rows(); }
  [[nodiscard]] std::size_t values() const;
};

/// What a round begins with, by tensor.
using CommonFactors = std::map<std::string, CommonTensor, std::less<>>;

/// Numbers of a round's vectors.
[[nodiscard]] std::size_t values_of(const CommonFactors& common);

/// What the update changed, into `out` of values_of(common) numbers. kIncompatibleUpdate naming
/// client and tensor for one that does not begin with `common`, kIo when it cannot be read.
[[nodiscard]] Result<void> read_change(const CommonFactors& common, const KeptUpdate& update,
                                       std::span<float> out);

/// `common` with `change` added: factors beside the base when the method `averages` them, else the
/// change of the base. Weights are left empty.
[[nodiscard]] Aggregate apply_change(const CommonFactors& common, std::span<const float> change,
                                     bool averages);

}  // namespace strata::coordinator
