#pragma once
// Loss of a model on records: mean over trained tokens, per record and in total. Records are packed
// into passes of at most `pass_tokens` tokens; passes are shared out over threads. The sum runs
// over records in their order, in double, so that neither packing order nor thread count changes it
// beyond the bits of one pass.
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "adapter/adapter_set.h"
#include "base/result.h"
#include "model/decoder.h"
#include "text/example.h"

namespace strata::evaluation {

struct RecordLoss {
  double loss_sum = 0.0;
  std::uint32_t trained = 0;
  std::uint32_t correct = 0;
};

struct LossReport {
  std::vector<RecordLoss> records;
  double loss_sum = 0.0;
  std::uint64_t trained_tokens = 0;
  std::uint64_t correct = 0;

  /// Mean over trained tokens; NaN when there are none.
  [[nodiscard]] double loss() const;
  [[nodiscard]] double perplexity() const;
  [[nodiscard]] double accuracy() const;
};

struct EvaluationOptions {
  std::size_t pass_tokens = 1024;
  int workers = 1;  // passes computed side by side
  int threads_per_worker = 1;
  std::function<bool()> stopped = [] {
    return false;
  };  // asked between passes; true ends with kInterrupted
};

/// `adapters` may be null; they must be prepared and are only read. kData when a token id is beyond
/// the model's vocabulary or a record longer than its positions.
[[nodiscard]] Result<LossReport> evaluate(const model::Model& model,
                                          const adapter::AdapterSet* adapters,
                                          std::span<const text::Example> examples,
                                          const EvaluationOptions& options);

/// Names the record unless its ids (kData) and its length (kConfig) fit the model.
[[nodiscard]] Result<void> check_examples(const model::Model& model,
                                          std::span<const text::Example> examples);

}  // namespace strata::evaluation
