#pragma once
// How N heads share an optimizer step: each has the same number of neighbouring records and learns
// from their mean token loss alone; what is trained beside the heads learns from the mean of
// theirs. The loss that is differentiated is (1/N) sum_h loss_h, of which head h's gradient is 1/N.
#include <cstdint>
#include <span>
#include <vector>

#include "client/trainable.h"
#include "text/example.h"

namespace strata::client {

class Heads {
 public:
  /// `records` (indices into `examples`), a multiple of the heads, in the order of the heads.
  Heads(const Trainable& trainable, std::span<const text::Example> examples,
        std::span<const std::size_t> records);
  /// The same by how many records each head has.
  Heads(const Trainable& trainable, std::vector<std::size_t> records_by_head);

  [[nodiscard]] std::size_t count() const { return ends_.size(); }
  /// Trained tokens of the head that the i-th record is of.
  [[nodiscard]] std::size_t trained_tokens(std::size_t i) const { return tokens_[head_of(i)]; }
  /// Rows of a pass whose first record is the `first`-th of the step, by head; empty for one head.
  [[nodiscard]] std::vector<std::uint32_t> rows(std::size_t first,
                                                std::span<const std::uint32_t> offsets) const;
  /// Makes each head's gradient that of its own loss.
  void scale(std::span<const adapter::ParamRef> params, tensor::Team& team) const;
  /// That; then clips the joint norm of each head, and of what is beside them, to `max_norm` (0:
  /// none). Returns the largest norm before.
  double clip(std::span<const adapter::ParamRef> params, double max_norm, tensor::Team& team) const;

 private:
  [[nodiscard]] std::size_t head_of(std::size_t record) const;
  std::vector<std::size_t> ends_;    // of each head: behind its last record
  std::vector<std::size_t> tokens_;  // trained ones, of each head
};

}  // namespace strata::client
