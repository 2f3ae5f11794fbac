#pragma once
// The accountant by Renyi differential privacy (Mironov 2017): a curve order -> divergence per
// release, added over releases, converted at the best order. Looser than pld.h and independent of
// it: each checks the other. Every value is an upper bound up to rounding.
// Threads: pure functions.
#include <span>
#include <vector>

#include "privacy/accountant/event.h"

namespace strata::privacy {

/// The orders that are tried: 2..256, some up to 1024, and twelve fractions below 6, increasing.
[[nodiscard]] std::span<const double> default_orders();
/// The whole numbers among them: there the discrete Gaussian has exactly this divergence
/// (discrete_slack.h).
[[nodiscard]] std::span<const double> integer_orders();

/// D_a((1-q) N(0) + q N(1) || N(0)), deviation z, which is the larger direction (Mironov, Talwar,
/// Zhang 2019): a finite sum at whole orders, quadrature at others. order > 1, 0 <= q <= 1, z > 0.
[[nodiscard]] double sampled_gaussian_rdp(double q, double z, double order);
/// Laplace of scale b, sensitivity 1 (Mironov 2017, proposition 6).
[[nodiscard]] double laplace_rdp(double scale, double order);
/// A batch of fixed size drawn without replacement, neighbours by swapping a record: q = batch / n,
/// z = std / C as everywhere. An upper bound (Wang, Balle, Kasiviswanathan 2019, theorems 9 and
/// 27), far above the Poisson-sampled divergence. Whole orders >= 2.
[[nodiscard]] double without_replacement_rdp(double q, double z, int order);

/// A curve: rho[i] bounds the divergence of order orders[i].
struct RdpCurve {
  std::vector<double> orders;
  std::vector<double> rho;
};

/// The sum over a composition. kUnsupported where records are swapped and batches Poisson-sampled:
/// no bound of use is known there (the error names the pld accountant).
[[nodiscard]] Result<RdpCurve> rdp_curve(const Composition& composition,
                                         std::span<const double> orders = default_orders());

struct RdpBound {
  Epsilon epsilon;
  Delta delta;
  double order = 0.0;    // where the bound was best; 0: no order was needed
  bool at_edge = false;  // the best order is the first or last tried: others might do better
};

/// min_a rho(a) + ln(1 - 1/a) - ln(delta a) / (a - 1) over a > 1.01 (Canonne, Kamath, Steinke 2020,
/// proposition 12), at least 0; 0 where some rho is so small that the total variation sqrt(1 -
/// e^-rho) is below delta (Bretagnolle, Huber 1979).
[[nodiscard]] RdpBound rdp_epsilon(const RdpCurve& curve, Delta delta);
/// min_a exp((a-1)(rho - eps + ln(1 - 1/a)) - ln a), the same the other way, at most 1.
[[nodiscard]] RdpBound rdp_delta(const RdpCurve& curve, Epsilon epsilon);

/// rho-zCDP, that is rho(a) = rho a: the best real order, not one of a grid.
[[nodiscard]] RdpBound zcdp_epsilon(double rho, Delta delta);

}  // namespace strata::privacy
