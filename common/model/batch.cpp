#include "model/batch.h"

#include "base/result.h"

namespace strata::model {

void PackedBatch::clear() {
  tokens.clear();
  offsets.assign(1, 0);
  target_rows.clear();
  targets.clear();
  target_offsets.assign(1, 0);
  pixels.clear();
}

void PackedBatch::add_image(std::size_t rows, std::span<const std::uint8_t> values,
                            std::int32_t label) {
  target_rows.push_back(static_cast<std::uint32_t>(tokens.size()));
  targets.push_back(label);
  tokens.resize(tokens.size() + rows, 0);
  pixels.insert(pixels.end(), values.begin(), values.end());
  offsets.push_back(static_cast<std::uint32_t>(tokens.size()));
  target_offsets.push_back(static_cast<std::uint32_t>(targets.size()));
}

void PackedBatch::add(std::span<const std::int32_t> record_tokens,
                      std::span<const std::uint8_t> trained) {
  check(record_tokens.size() == trained.size(), "a record needs one mark per token");
  const auto first = static_cast<std::uint32_t>(tokens.size());
  tokens.insert(tokens.end(), record_tokens.begin(), record_tokens.end());
  for (std::size_t t = 1; t < trained.size(); ++t) {
    if (trained[t] == 0) continue;
    target_rows.push_back(first + static_cast<std::uint32_t>(t) - 1);
    targets.push_back(record_tokens[t]);
  }
  offsets.push_back(static_cast<std::uint32_t>(tokens.size()));
  target_offsets.push_back(static_cast<std::uint32_t>(targets.size()));
}

}  // namespace strata::model
