#pragma once
// Text to learn from as documents: plain text files, folders of them, and files of records.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "text/record_reader.h"

namespace strata::text {

struct CorpusFile {
  std::filesystem::path path;
  bool records = false;  // by its ending: .jsonl, .ndjson, .json; any other is plain text
};

/// Whether `path` is read as a file of records: by its ending, and no folder.
[[nodiscard]] bool holds_records(const sys::Disk& disk, const std::filesystem::path& path);

/// The files among `inputs` in the order given; a folder stands for all files in it and below,
/// sorted by name within each folder, without those whose name begins with a dot. kFileMissing;
/// kIo; kData: a folder without a file, or folders nested deeper than 32 (a link to a folder
/// above).
[[nodiscard]] Result<std::vector<CorpusFile>> find_corpus(
    const sys::Disk& disk, std::span<const std::filesystem::path> inputs);

struct CorpusReport {
  std::size_t files = 0;
  std::size_t documents = 0;  // those without text are not counted
  std::uint64_t bytes = 0;    // of their text
};

/// Told each document, not empty and in UTF-8; what it refuses ends the reading. The text is valid
/// during the call only.
using TakeDocument = std::function<Result<void>(std::string_view text)>;

/// A text file is one document, a byte order mark at its beginning left out. A record gives its
/// text; or its prompt and completion, its instruction's parts, what each message says: each one a
/// document. Files are mapped, not held. kData names file and line: bytes that are no UTF-8, a
/// record that is refused (see RecordReader) or has ids instead of text; kFileMissing, kIo.
[[nodiscard]] Result<CorpusReport> read_corpus(const sys::Disk& disk,
                                               std::span<const CorpusFile> files,
                                               const FieldMap& fields, const TakeDocument& take);

}  // namespace strata::text
