#pragma once
// Continues token sequences with a model: greedy, or sampled by temperature and nucleus (Holtzman
// et al. 2020). Several prompts go through the model together, each with its own keys and values.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "base/result.h"
#include "model/decoder.h"
#include "sys/random.h"

namespace strata::evaluation {

struct GenerateOptions {
  std::size_t max_new_tokens = 64;
  double temperature = 0.0;  // 0: the most likely token
  double top_p = 1.0;        // smallest set of tokens with this much probability
  std::vector<std::int32_t> stops;
  std::size_t batch = 8;  // prompts at a time
  sys::Stream stream{0};  // draws; prompt i uses item i
  /// Called with (prompt, token) as each comes; may be empty.
  std::function<void(std::size_t, std::int32_t)> on_token;
  std::function<bool()> stopped = [] { return false; };
};

/// New tokens per prompt, without the stop token. kData for an empty prompt, one beyond the model's
/// positions or with unknown ids; kInterrupted when stopped.
[[nodiscard]] Result<std::vector<std::vector<std::int32_t>>> generate(
    const model::Model& model, const adapter::AdapterSet* adapters,
    std::span<const std::vector<std::int32_t>> prompts, const GenerateOptions& options,
    model::Workspace& workspace);

/// kData naming `where` when `tokens` cannot be continued: empty, no position left after them, or
/// an unknown id.
[[nodiscard]] Result<void> check_prompt(const model::Model& model,
                                        std::span<const std::int32_t> tokens,
                                        const std::string& where);

}  // namespace strata::evaluation
