#include "privacy/accountant/methods.h"
#include "privacy/accountant/pld.h"

namespace strata::privacy {
namespace {

Statement statement_of(const PldBound& bound) {
  Statement out{.epsilon = bound.epsilon, .delta = bound.delta};
  if (bound.mesh > 0.0) out.mesh = bound.mesh;
  return out;
}

class PldAccountant final : public Accountant {
 public:
  explicit PldAccountant(PldOptions options) : options_(options) {}

  [[nodiscard]] Result<Statement> epsilon(std::span<const Phase> phases, Adjacency adjacency,
                                          Delta delta) const override {
    auto composition = compose(phases, adjacency);
    if (!composition) return fail(std::move(composition).error());
    return pld_epsilon(*composition, delta, options_).map(statement_of);
  }
  [[nodiscard]] Result<Statement> delta(std::span<const Phase> phases, Adjacency adjacency,
                                        Epsilon epsilon) const override {
    auto composition = compose(phases, adjacency);
    if (!composition) return fail(std::move(composition).error());
    return pld_delta(*composition, epsilon, options_).map(statement_of);
  }

 private:
  PldOptions options_;
};

}  // namespace

std::unique_ptr<Accountant> make_pld_accountant(const AccountantConfig& config) {
  return std::make_unique<PldAccountant>(PldOptions{.tolerance = config.eps_tolerance});
}

}  // namespace strata::privacy
