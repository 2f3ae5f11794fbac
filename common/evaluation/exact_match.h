#pragma once
// Exact match: the model answers each record's prompt greedily; an answer counts when it equals the
// reference after white space at both ends is cut (the first line of the answer, when the reference
// is one line).
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "base/result.h"
#include "model/model.h"
#include "text/example_builder.h"
#include "text/model_text.h"

namespace strata::evaluation {

struct ExactMatchOptions {
  std::size_t max_new_tokens = 32;
  int workers = 1;
  int threads_per_worker = 1;
  std::function<bool()> stopped = [] { return false; };
};

struct ExactMatchReport {
  std::vector<std::string> answers;  // by record
  std::vector<std::uint8_t> matched;
  [[nodiscard]] double share() const;  // NaN without records
};

/// Whether every record has a prompt and a reference: kUnsupported naming the one that has not.
[[nodiscard]] Result<void> check_references(const text::ExampleBuilder& builder,
                                            std::span<const text::Record> records);

/// Records that check_references refuses are refused here too.
[[nodiscard]] Result<ExactMatchReport> exact_match(const model::Model& model,
                                                   const adapter::AdapterSet* adapters,
                                                   const text::ModelText& text,
                                                   const text::ExampleBuilder& builder,
                                                   std::span<const text::Record> records,
                                                   const ExactMatchOptions& options);

/// Whether `answer` counts as `reference`.
[[nodiscard]] bool matches(std::string_view answer, std::string_view reference);

}  // namespace strata::evaluation
