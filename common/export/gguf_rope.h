#pragma once
// The rotary scaling behind `rope_freqs.weight`: GGUF files of Llama 3.1 and later hold the factor
// by which each frequency is divided, Hugging Face folders the parameters of the formula that gives
// those factors.
#include <optional>
#include <span>

#include "model/decoder_config.h"

namespace strata::exporting {

/// The parameters whose formula gives every one of `factors` to float precision; `factors` has one
/// value per pair of a head's dimensions, `theta` is the rotary base. Nothing when no parameters
/// do. Parameters that cannot be told apart (the formula only knows ratios of the context length
/// and the two frequency factors) are those that Meta publishes where those fit, else the ones with
/// low_freq_factor 1.
[[nodiscard]] std::optional<model::Llama3Scaling> llama3_scaling(std::span<const float> factors,
                                                                 double theta);

}  // namespace strata::exporting
