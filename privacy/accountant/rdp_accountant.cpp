#include <limits>

#include "privacy/accountant/methods.h"
#include "privacy/accountant/rdp.h"

namespace strata::privacy {
namespace {

Statement statement_of(const RdpBound& bound) {
  Statement out{.epsilon = bound.epsilon, .delta = bound.delta, .order_at_edge = bound.at_edge};
  if (bound.order > 0.0) out.order = bound.order;
  return out;
}

class RdpAccountant final : public Accountant {
 public:
  [[nodiscard]] Result<Statement> epsilon(std::span<const Phase> phases, Adjacency adjacency,
                                          Delta delta) const override {
    if (auto valid = check_delta(delta); !valid) return fail(std::move(valid).error());
    auto composition = compose(phases, adjacency);
    if (!composition) return fail(std::move(composition).error());
    if (composition->unbounded)
      return Statement{.epsilon = {std::numeric_limits<double>::infinity()}, .delta = delta};
    if (composition->empty()) return Statement{.epsilon = {0.0}, .delta = delta};
    auto curve = rdp_curve(*composition);
    if (!curve) return fail(std::move(curve).error());
    return statement_of(rdp_epsilon(*curve, delta));
  }
  [[nodiscard]] Result<Statement> delta(std::span<const Phase> phases, Adjacency adjacency,
                                        Epsilon epsilon) const override {
    if (auto valid = check_epsilon(epsilon); !valid) return fail(std::move(valid).error());
    auto composition = compose(phases, adjacency);
    if (!composition) return fail(std::move(composition).error());
    if (composition->unbounded) return Statement{.epsilon = epsilon, .delta = {1.0}};
    if (composition->empty()) return Statement{.epsilon = epsilon, .delta = {0.0}};
    auto curve = rdp_curve(*composition);
    if (!curve) return fail(std::move(curve).error());
    return statement_of(rdp_delta(*curve, epsilon));
  }
};

}  // namespace

std::unique_ptr<Accountant> make_rdp_accountant(const AccountantConfig& /*config*/) {
  return std::make_unique<RdpAccountant>();
}

}  // namespace strata::privacy
