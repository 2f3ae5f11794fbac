#pragma once
// Plain text as records of equal length, as language models are pre-trained on: documents one
// behind another, cut wherever a record is full.
#include <cstddef>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "text/model_text.h"
#include "text/record.h"

namespace strata::text {

/// The documents of `input`, a text file or a folder (corpus.h), each with the start tokens of the
/// tokenizer's own post-processor before it and its end tokens and the model's behind it, all in
/// the order of the files, as records of `max_length` ids (at least 2), everything trained. The
/// last record may be shorter; a single id that is left over is dropped. A document longer than 1
/// MiB is tokenised in pieces that end at line breaks. Errors as corpus.h has them.
[[nodiscard]] Result<std::vector<Record>> read_windows(const sys::Disk& disk,
                                                       const std::filesystem::path& input,
                                                       const ModelText& model,
                                                       std::size_t max_length);

}  // namespace strata::text
