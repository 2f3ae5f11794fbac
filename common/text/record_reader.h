#pragma once
// Records from a JSONL file or a JSON array, one at a time over the mapped file, so that a file
// larger than memory can be read. Accepted besides plain JSONL: a byte order mark, CRLF, blank
// lines. Refused with kData, always naming file:line, what was found and what was expected: bytes
// that are not UTF-8, malformed JSON, nesting deeper than kDepthMax, a record that lacks the keys
// of the file's kind, values of the wrong type.
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "text/record.h"

namespace strata::text {

inline constexpr std::size_t kDepthMax = 64;

/// Name the reader knows -> key in the file: {"prompt": "question", "completion": "answer"}. Empty:
/// the keys are the names, and the first record decides the kind. Otherwise the map alone decides
/// it.
using FieldMap = std::map<std::string, std::string>;

/// The names a FieldMap may use.
[[nodiscard]] const std::vector<std::string>& field_names();

/// What kind of file this is and which keys made it so.
struct Detection {
  RecordKind kind = RecordKind::kText;
  std::vector<std::string> used;   // the keys every record must have
  std::vector<std::string> extra;  // scalar keys of the first record kept for splitting
  /// "prompt/completion (keys input, target; also category)"
  [[nodiscard]] std::string describe() const;
};

/// Calls: open, then next() until it gives nothing or an error (after an error the reader is
/// spent). One thread.
class RecordReader {
 public:
  /// Maps the file and looks at its first record. kFileMissing, kIo, kConfig (the map names no
  /// kind), kData (no record, or keys of no known kind).
  [[nodiscard]] static Result<RecordReader> open(const sys::Disk& disk,
                                                 const std::filesystem::path& path,
                                                 const FieldMap& map);
  RecordReader(RecordReader&&) noexcept;
  RecordReader& operator=(RecordReader&&) noexcept;
  ~RecordReader();

  [[nodiscard]] const Detection& detection() const;
  [[nodiscard]] Result<std::optional<Record>> next();

 private:
  struct State;
  explicit RecordReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct RecordFile {
  std::string path;
  Detection detection;
  std::vector<Record> records;  // at least one
};

/// The whole file.
[[nodiscard]] Result<RecordFile> read_records(const sys::Disk& disk,
                                              const std::filesystem::path& path,
                                              const FieldMap& map = {});

}  // namespace strata::text
