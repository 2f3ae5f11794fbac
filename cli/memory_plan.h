#pragma once
// --memory-limit: what a run will need, worked out before it starts, and the largest pass that
// would fit.
#include <cstddef>
#include <optional>
#include <string>

#include "base/result.h"
#include "client/local_trainer.h"
#include "model/model.h"

namespace strata::cli {

/// "800M", "2.5G", "3000000": bytes (M and G are 10^6 and 10^9). kUsage for anything else.
[[nodiscard]] Result<std::size_t> parse_bytes(const std::string& text);

/// The same of a flag's value; 0 when it was not given.
[[nodiscard]] Result<std::size_t> memory_limit_of(const std::string& text);

/// What trains at the same time.
struct MemoryPlan {
  const model::Model& model;
  std::size_t trainable = 0;  // values of the largest adapter set; each with gradient and moments
  std::size_t kept = 0;       // bytes all clients keep between rounds
  std::size_t copied = 0;     // bytes of each worker's own copy of the model, where it has one
  std::size_t folded = 0;     // bytes of master copies and packets that rounds will add
  int workers = 1;            // clients side by side, of `threads` threads each
  int threads = 1;
  std::size_t longest = 0;      // tokens of the longest record
  std::size_t step_tokens = 0;  // most tokens of one optimizer step
  std::size_t pass_tokens = 0;  // allowed at once
  bool recompute = false;
  bool full = false;
  const adapter::AdapterSet* adapters = nullptr;  // the largest set; null for full training
};

[[nodiscard]] std::size_t memory_needed(const MemoryPlan& plan);

/// kConfig when it does not fit into `limit`: says what is needed, and the largest pass_tokens that
/// would fit, or that none does.
[[nodiscard]] Result<void> check_memory(const MemoryPlan& plan, std::size_t limit);

}  // namespace strata::cli
