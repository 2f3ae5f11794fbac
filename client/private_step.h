#pragma once
// One optimizer step of a private client: draw the units, their noisy gradient, update. To be read
// beside Abadi et al. 2016, Algorithm 1.
#include <span>
#include <vector>

#include "client/optimizer/optimizer.h"
#include "client/planted_units.h"
#include "client/private_gradient.h"
#include "client/trainable.h"
#include "client/training_config.h"
#include "client/training_step.h"
#include "text/example.h"

namespace strata::client {

/// The records of each unit, as indices into a client's examples.
using Units = std::vector<std::vector<std::size_t>>;

/// Draws units, each by itself with the configured probability, and steps. Neither loss nor counts
/// come back: they depend on the records. A step that no unit is in releases noise like any other,
/// and no value of a record, however odd, makes it fail. `planted`: an audit's units, or null.
[[nodiscard]] Result<void> private_step(model::Decoder& decoder, StepMemory& memory,
                                        Trainable& trainable, Optimizer& optimizer,
                                        std::span<const text::Example> examples, const Units& units,
                                        const DpSgdConfig& config, PrivateGradient& gradient,
                                        noise::NoiseSupply& supply, const TrainingConfig& training,
                                        double learning_rate, const sys::Stream& dropout,
                                        PlantedUnits* planted = nullptr);

}  // namespace strata::client
