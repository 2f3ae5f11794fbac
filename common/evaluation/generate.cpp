#include "evaluation/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace strata::evaluation {
namespace {

std::int32_t pick(std::span<const float> logits, const GenerateOptions& options,
                  sys::Stream& draws) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options.temperature <= 0.0) return static_cast<std::int32_t>(best - logits.begin());
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  std::vector<double> weight(order.size());
  double total = 0.0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    weight[i] = std::exp((static_cast<double>(logits[order[i]]) - static_cast<double>(*best)) /
                         options.temperature);
    total += weight[i];
  }
  std::size_t kept = 0;
  double mass = 0.0;
  while (kept < order.size() && (kept == 0 || mass < options.top_p * total)) mass += weight[kept++];
  double left = draws.uniform() * mass;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight[i];
    if (left < 0.0) return static_cast<std::int32_t>(order[i]);
  }
  return static_cast<std::int32_t>(order[kept - 1]);
}

}  // namespace

Result<void> check_prompt(const model::Model& model, std::span<const std::int32_t> tokens,
                          const std::string& where) {
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kData,
                 .what = std::move(what),
                 .where = where,
                 .rule = std::move(rule)});
  };
  const auto& config = model.config();
  if (tokens.empty()) return refuse("is empty", "a prompt has at least one token");
  if (tokens.size() >= config.max_positions) {
    return refuse("has " + std::to_string(tokens.size()) + " prompt tokens",
                  "the model has " + std::to_string(config.max_positions) + " positions");
  }
  for (const auto token : tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= config.vocab) {
      return refuse("has the token id " + std::to_string(token),
                    "the model has ids below " + std::to_string(config.vocab));
    }
  }
  return {};
}

Result<std::vector<std::vector<std::int32_t>>> generate(
    const model::Model& model, const adapter::AdapterSet* adapters,
    std::span<const std::vector<std::int32_t>> prompts, const GenerateOptions& options,
    model::Workspace& workspace) {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (auto ok = check_prompt(model, prompts[i], "prompt " + std::to_string(i + 1)); !ok)
      return fail(std::move(ok).error());
  }
  std::vector<std::vector<std::int32_t>> out(prompts.size());
  model::Decoder decoder(model, workspace);
  for (std::size_t first = 0; first < prompts.size(); first += options.batch) {
    const std::size_t count = std::min(options.batch, prompts.size() - first);
    std::size_t longest = 0;
    for (std::size_t i = 0; i < count; ++i) longest = std::max(longest, prompts[first + i].size());
    model::KvCache cache(model, count,
                         std::min(longest + options.max_new_tokens, model.config().max_positions));
    std::vector<sys::Stream> draws;
    std::vector<std::size_t> live(count);
    std::iota(live.begin(), live.end(), std::size_t{0});
    for (std::size_t i = 0; i < count; ++i)
      draws.push_back(options.stream.at({.purpose = "generate", .item = first + i}));
    for (std::size_t n = 0; n < options.max_new_tokens && !live.empty(); ++n) {
      if (options.stopped())
        return fail({.code = ErrorCode::kInterrupted, .what = "stopped by a signal"});
      std::vector<model::CacheStep> steps;
      for (const std::size_t i : live) {
        const auto& prompt = prompts[first + i];
        steps.push_back({i, n == 0 ? std::span<const std::int32_t>(prompt)
                                   : std::span<const std::int32_t>(&out[first + i].back(), 1)});
      }
      const tensor::Matrix logits = decoder.extend(cache, steps, adapters);
      std::vector<std::size_t> still;
      for (std::size_t s = 0; s < live.size(); ++s) {
        const std::size_t i = live[s];
        const auto token =
            pick(std::span(logits.values()).subspan(s * logits.cols(), logits.cols()), options,
                 draws[i]);
        if (std::find(options.stops.begin(), options.stops.end(), token) != options.stops.end())
          continue;
        out[first + i].push_back(token);
        if (options.on_token) options.on_token(first + i, token);
        if (cache.length(i) < cache.capacity()) still.push_back(i);
      }
      live = std::move(still);
    }
  }
  return out;
}

}  // namespace strata::evaluation
