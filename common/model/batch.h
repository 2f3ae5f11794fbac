#pragma once
// Records laid one behind another without padding: what a pass of the decoder works on.
#include <cstdint>
#include <span>
#include <vector>

namespace strata::model {

/// `tokens` of record i are rows offsets[i] .. offsets[i+1]; attention never crosses records and
/// positions restart at each. Row target_rows[n] predicts targets[n]; record i owns targets
/// target_offsets[i] .. target_offsets[i+1]. Reused from step to step: clear() keeps the memory.
struct PackedBatch {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint32_t> offsets{0};
  std::vector<std::uint32_t> target_rows;
  std::vector<std::int32_t> targets;
  std::vector<std::uint32_t> target_offsets{0};
  std::vector<std::uint8_t> pixels;  // of images, one behind another; their tokens are all 0

  void clear();
  /// Appends a record. `trained[t]` (same length as tokens) says whether the prediction OF token t
  /// counts; the first token has nothing before it and never counts.
  void add(std::span<const std::int32_t> record_tokens, std::span<const std::uint8_t> trained);
  /// Appends an image, patch by patch (model::PatchGrid), of `rows` rows with that of its class,
  /// which is what its first row predicts.
  void add_image(std::size_t rows, std::span<const std::uint8_t> values, std::int32_t label);
  [[nodiscard]] std::size_t records() const { return offsets.size() - 1; }
};

}  // namespace strata::model
