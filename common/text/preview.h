#pragma once
// An example as people read it: its text, with what is trained marked.
#include <string>
#include <vector>

#include "text/example.h"
#include "text/tokenizer.h"

namespace strata::text {

/// A run of neighbouring tokens with the same mark, decoded.
struct PreviewRun {
  std::string text;
  std::size_t tokens = 0;
  bool trained = false;
};

[[nodiscard]] std::vector<PreviewRun> preview_runs(const Example& example,
                                                   const Tokenizer& tokenizer);

enum class PreviewMarks {
  kBrackets,  // [trained], for files and pipes; brackets in the text are written \[ and \]
  kColours,   // trained in green, for terminals
};

/// The runs as one text. Line breaks stay; other control bytes are escaped, as data may come from
/// anywhere.
[[nodiscard]] std::string preview_text(const std::vector<PreviewRun>& runs, PreviewMarks marks);

}  // namespace strata::text
