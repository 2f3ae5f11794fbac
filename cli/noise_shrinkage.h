#pragma once
// The whole change of a private run with its noise taken out as far as its size tells
// (tensor/shrinkage.h). What goes straight into W - W_0 of a layer is
//   sum over rounds t and clients k:  p_k s_k N_k A_t,    N_k of independent N(0, variance)
// (cli/direct_noise.h): linear, on public A, so its covariance along d_in is known exactly. All of
// it is worked out from the run's folder; records and the base model are not needed. Free of
// privacy cost: it touches nothing but what was released.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "export/peft.h"
#include "sys/disk.h"

namespace strata::cli {

struct Shrinkage {
  std::size_t layers = 0;
  std::size_t layers_left = 0;  // with any direction
  std::size_t directions = 0;   // of the frames, whitened
  std::size_t directions_left = 0;
  double norm_before = 0.0;  // ||W - W_0||_F over all layers
  double norm_after = 0.0;
  double noise_norm = 0.0;   // root of the expected ||noise||_F^2 in W - W_0
  double mean_square = 0.0;  // of the whitened values: 1 where there is noise alone
};

/// `folder`: RUN/adapter of a private run, whose config.json, privacy.json, manifest.json and
/// rounds/NNNN/strata.json lie beside it. Replaces the factors of `peft`, read from it; a layer of
/// which nothing is left keeps a pair of zeros.
/// kFileMissing without those files; kFormat when the adapter is not the one that the run left, or
/// its noise is elsewhere or larger than it could be; kUnsupported with the reason where the size
/// of the noise is not known (check_direct_noise, and runs that were not private).
[[nodiscard]] Result<Shrinkage> shrink_adapter(const sys::Disk& disk,
                                               const std::filesystem::path& folder,
                                               exporting::PeftAdapter& peft);

/// Of --shrink without --adapter.
[[nodiscard]] Error nothing_to_shrink();

/// "kept 3 of 896 directions, in 1 of 28 layers; ..." and the same as JSON.
[[nodiscard]] std::string shrinkage_text(const Shrinkage& shrinkage);
[[nodiscard]] nlohmann::ordered_json shrinkage_json(const Shrinkage& shrinkage);

}  // namespace strata::cli
