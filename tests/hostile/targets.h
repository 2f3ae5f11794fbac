#pragma once
// Bytes from outside, given to the code that reads them: for a corpus with the exact answer to each
// file, and for fuzzing, where the answer does not matter but must come.
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace strata::hostile {

struct Target {
  std::string_view name;
  /// "" when the bytes are taken, else the line that says why not. Throws std::logic_error when
  /// what was taken breaks a promise: what is read is written the same again, and the like.
  std::string (*feed)(ByteSpan bytes);
};

/// first_frame, frame, journal, safetensors, tokenizer, update, seeded_update; and `job`, apart
/// because it needs most of the program.
[[nodiscard]] std::span<const Target> targets();
[[nodiscard]] const Target& job_target();

}  // namespace strata::hostile
