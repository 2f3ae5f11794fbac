#include "cli/memory_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/table.h"

namespace strata::cli {
namespace {

// The program itself with its libraries, and what small things come to.
constexpr std::size_t kProgram = 40u << 20;

std::size_t pass_of(const MemoryPlan& plan, std::size_t pass_tokens) {
  return std::max(plan.longest, std::min(plan.step_tokens, pass_tokens));
}

std::size_t needed_with(const MemoryPlan& plan, std::size_t pass_tokens) {
  std::size_t base = 0;
  for (const auto& parameter : plan.model.parameters())
    base += parameter.size() *
            tensor::size_of(parameter.is_vector() ? tensor::DType::kF32 : plan.model.compute());
  const std::size_t tokens = pass_of(plan, pass_tokens);
  const std::size_t pass =
      model::pass_bytes(plan.model, plan.threads, {.recompute = plan.recompute},
                        {.tokens = tokens,
                         .targets = tokens,
                         .longest = plan.longest,
                         .adapters = plan.adapters,
                         .full = plan.full});
  // Value, gradient, two moments; and the copy that products read when they are not in float.
  const std::size_t trained = plan.trainable * (4 * sizeof(float) + sizeof(tensor::BFloat16));
  return kProgram + base + plan.folded + plan.kept +
         static_cast<std::size_t>(plan.workers) * (pass + trained + plan.copied);
}

}  // namespace

Result<std::size_t> parse_bytes(const std::string& text) {
  double value = 0.0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  const std::string_view unit(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
  const double factor = unit.empty() ? 1.0 : unit == "M" ? 1e6 : unit == "G" ? 1e9 : 0.0;
  if (parsed.ec != std::errc() || factor == 0.0 || !(value > 0.0) ||
      !std::isfinite(value * factor) || value * factor > 1e18) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "--memory-limit " + printable(text, 40),
                 .rule = "a size is a number of bytes, or of M (10^6) or G (10^9)",
                 .remedy = "for example --memory-limit 2.5G"});
  }
  return static_cast<std::size_t>(value * factor);
}

Result<std::size_t> memory_limit_of(const std::string& text) {
  if (text.empty()) return std::size_t{0};
  return parse_bytes(text);
}

std::size_t memory_needed(const MemoryPlan& plan) { return needed_with(plan, plan.pass_tokens); }

Result<void> check_memory(const MemoryPlan& plan, std::size_t limit) {
  const std::size_t needed = memory_needed(plan);
  if (needed <= limit) return {};
  Error error{.code = ErrorCode::kConfig,
              .what = "needs about " + bytes_text(static_cast<double>(needed)),
              .where = "memory",
              .rule = "--memory-limit allows " + bytes_text(static_cast<double>(limit))};
  // The largest pass that fits, in whole 16s of tokens.
  std::size_t low = 0, high = pass_of(plan, plan.pass_tokens) / 16;
  while (low < high) {
    const std::size_t middle = (low + high + 1) / 2;
    if (needed_with(plan, middle * 16) <= limit) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  if (low * 16 >= plan.longest && low > 0) {
    error.remedy = "set training.pass_tokens to at most " + std::to_string(low * 16);
  } else {
    error.remedy = "the longest record alone (" + std::to_string(plan.longest) + " tokens) needs " +
                   bytes_text(static_cast<double>(needed_with(plan, 1))) +
                   ": lower data.max_length, the ranks or --threads, or set training.recompute";
  }
  return fail(std::move(error));
}

}  // namespace strata::cli
