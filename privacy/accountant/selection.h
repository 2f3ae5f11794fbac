#pragma once
// Searching for good settings is not free: K training runs, of which the best is published, cost
// more than one. With K drawn from a truncated negative binomial the bill is the following
// (Papernot and Steinke 2022, theorem 2); with a K that is fixed it is K runs.
#include "privacy/accountant/rdp.h"

namespace strata::privacy {

/// The curve of drawing K, making K runs of the curve `one_run` each, and releasing the best.
/// `shape` eta > -1: 1 is geometric, 0 logarithmic; `mean_runs` = E[K] > 1. At each order
///   rho(a) + (1+eta) min_b [ (1 - 1/b) rho(b) + ln(1/gamma) / b ] + ln(E[K]) / (a - 1)
/// with the gamma that gives the mean. kConfig for values out of range.
[[nodiscard]] Result<RdpCurve> repeat_and_select(const RdpCurve& one_run, double mean_runs,
                                                 double shape);

}  // namespace strata::privacy
