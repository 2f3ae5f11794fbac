#pragma once
// Cuts a mapped JSONL file or JSON array into the texts of its elements without parsing them: line
// by line, or by matching brackets. Internal to the record reader.
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace strata::text {

/// Where the first byte that is not UTF-8 lies, or nothing.
[[nodiscard]] std::optional<std::size_t> find_invalid_utf8(std::string_view text);

class JsonSlices {
 public:
  struct Slice {
    std::string_view json;  // into the bytes given
    std::size_t line;       // of its first character, from 1
  };

  /// `file` names the bytes in errors; `depth_max` bounds nesting inside an element. `bytes` must
  /// outlive the slices.
  JsonSlices(std::string_view bytes, std::string file, std::size_t depth_max);

  /// The next element: never blank, valid UTF-8, nested no deeper than allowed; whether it is JSON
  /// is the caller's to say.
  [[nodiscard]] Result<std::optional<Slice>> next();
  /// The file is one JSON array rather than lines.
  [[nodiscard]] bool is_array() const { return is_array_; }

 private:
  Result<std::optional<Slice>> next_line();
  Result<std::optional<Slice>> next_element();
  Result<std::optional<Slice>> end_of_array();
  Result<Slice> checked(std::string_view json, std::size_t line) const;
  void skip_space();

  std::string_view bytes_;
  std::string file_;
  std::size_t depth_max_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t elements_ = 0;
  bool is_array_ = false;
  bool ended_ = false;
};

}  // namespace strata::text
