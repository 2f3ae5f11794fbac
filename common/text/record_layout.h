#pragma once
// What the keys of an object mean, and objects turned into records by it. Internal to the record
// reader.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/record.h"

namespace strata::text {

struct RecordLayout {
  RecordKind kind = RecordKind::kText;
  std::map<std::string, std::string, std::less<>>
      key_of;                         // name the reader knows -> key in the file
  std::vector<std::string> required;  // the keys every record must have
};

/// The names a layout may use: "messages", "prompt", "completion", ...
[[nodiscard]] const std::vector<std::string>& layout_names();

/// The layout a user's map asks for. kConfig: a name not known, or names that make no kind.
[[nodiscard]] Result<RecordLayout> layout_from_map(const std::map<std::string, std::string>& map);

/// The layout of the JSON object `text` by its keys. kData: no JSON object, or keys of no known
/// kind.
[[nodiscard]] Result<RecordLayout> detect_layout(std::string_view text, const std::string& where);

/// Every error is kData at `where`.
[[nodiscard]] Result<Record> parse_record(std::string_view text, const RecordLayout& layout,
                                          std::string where);

}  // namespace strata::text
