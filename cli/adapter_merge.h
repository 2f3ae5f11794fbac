#pragma once
// Stacking of existing adapters outside a federation:  dW = sum_i w_i s_i B_i A_i, weights as given
// (PEFT's add_weighted_adapter with combination_type "cat"), by the same stacking that rounds use.
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "adapter/delta_terms.h"
#include "base/result.h"
#include "export/peft.h"

namespace strata::cli {

struct WeightedAdapter {
  std::filesystem::path folder;  // for messages
  double weight = 1.0;           // any finite number but 0
  exporting::PeftAdapter adapter;
};

/// The weighted sum, in the order given. kIncompatibleUpdate naming the folder when layer shapes
/// disagree.
[[nodiscard]] Result<adapter::DeltaTerms> merge_adapters(std::span<const WeightedAdapter> adapters);

/// Every tensor by the smallest rank that loses at most `tolerance` of its Frobenius norm (two QRs
/// and an SVD); returns the largest relative loss. Tensors hold one low-rank term each.
[[nodiscard]] double recompress(adapter::DeltaTerms& delta, double tolerance);

/// How the result is written: the base's name when all agree on one, the union of target names,
/// gpt2's storage order. Bases that disagree are told in `warnings`.
[[nodiscard]] exporting::PeftOptions merged_options(std::span<const WeightedAdapter> adapters,
                                                    std::vector<std::string>& warnings);

}  // namespace strata::cli
