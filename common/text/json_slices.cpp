#include "text/json_slices.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace strata::text {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::string at_line(const std::string& file, std::size_t line) {
  return file + ":" + std::to_string(line);
}

Error bad(std::string where, std::string what, std::string rule) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = std::move(where),
          .rule = std::move(rule)};
}

// Walks JSON text bracket by bracket, ignoring what is inside strings.
struct BracketWalk {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  bool in_string = false;
  bool escaped = false;

  // True after the bracket that closes the outermost one.
  bool feed(char c) {
    if (in_string) {
      if (escaped) {
        escaped = false;
      } else if (c == '\\') {
        escaped = true;
      } else if (c == '"') {
        in_string = false;
      }
      return false;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
    return (c == '}' || c == ']') && depth > 0 && --depth == 0;
  }
};

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    if (data[at] < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t code_point = -1;
    const auto used =
        utf8proc_iterate(data + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code_point);
    if (used <= 0) return at;
    at += static_cast<std::size_t>(used);
  }
  return std::nullopt;
}

JsonSlices::JsonSlices(std::string_view bytes, std::string file, std::size_t depth_max)
    : bytes_(bytes), file_(std::move(file)), depth_max_(depth_max) {
  if (bytes_.starts_with(kByteOrderMark)) bytes_.remove_prefix(kByteOrderMark.size());
  skip_space();
  if (at_ < bytes_.size() && bytes_[at_] == '[') {
    is_array_ = true;
    ++at_;
  } else {
    at_ = 0;
    line_ = 1;
  }
}

Result<std::optional<JsonSlices::Slice>> JsonSlices::next() {
  return is_array_ ? next_element() : next_line();
}

Result<std::optional<JsonSlices::Slice>> JsonSlices::next_line() {
  while (at_ < bytes_.size()) {
    const std::size_t end = std::min(bytes_.find('\n', at_), bytes_.size());
    std::string_view text = bytes_.substr(at_, end - at_);
    const std::size_t line = line_++;
    at_ = end + 1;
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (text.empty()) continue;
    auto slice = checked(text, line);
    if (!slice) return fail(std::move(slice).error());
    return *slice;
  }
  return std::optional<Slice>{};
}

Result<std::optional<JsonSlices::Slice>> JsonSlices::next_element() {
  skip_space();
  if (ended_) return std::optional<Slice>{};
  if (at_ < bytes_.size() && bytes_[at_] == ']') return end_of_array();
  if (elements_ > 0) {
    if (at_ >= bytes_.size())
      return fail(bad(at_line(file_, line_), "the JSON array is not closed", "it ends with \"]\""));
    if (bytes_[at_] != ',') {
      return fail(
          bad(at_line(file_, line_),
              "found \"" + printable(bytes_.substr(at_, 1)) + "\" after an element of the array",
              "elements are separated by commas"));
    }
    ++at_;
    skip_space();
  }
  if (at_ >= bytes_.size() || bytes_[at_] != '{') {
    const std::string found = at_ < bytes_.size() ? "\"" + printable(bytes_.substr(at_, 16)) + "\""
                                                  : "the end of the file";
    return fail(bad(at_line(file_, line_),
                    "found " + found + " where an element of the array should begin",
                    "each element is a JSON object, one a record"));
  }
  const std::size_t begin = at_;
  const std::size_t line = line_;
  BracketWalk walk;
  while (at_ < bytes_.size()) {
    const char c = bytes_[at_++];
    if (c == '\n') ++line_;
    if (!walk.feed(c)) continue;
    ++elements_;
    auto slice = checked(bytes_.substr(begin, at_ - begin), line);
    if (!slice) return fail(std::move(slice).error());
    return *slice;
  }
  return fail(bad(at_line(file_, line), "the record that begins here is not closed",
                  "each element is a whole JSON object"));
}

Result<std::optional<JsonSlices::Slice>> JsonSlices::end_of_array() {
  ++at_;
  skip_space();
  if (at_ < bytes_.size()) {
    return fail(bad(at_line(file_, line_),
                    "found \"" + printable(bytes_.substr(at_, 16)) + "\" after the JSON array",
                    "a file holds one array, or one object a line"));
  }
  ended_ = true;
  return std::optional<Slice>{};
}

Result<JsonSlices::Slice> JsonSlices::checked(std::string_view json, std::size_t line) const {
  if (const auto invalid = find_invalid_utf8(json)) {
    const auto breaks =
        std::count(json.begin(), json.begin() + static_cast<std::ptrdiff_t>(*invalid), '\n');
    char byte[8];
    std::snprintf(byte, sizeof byte, "0x%02X", static_cast<unsigned char>(json[*invalid]));
    auto error =
        bad(at_line(file_, line + static_cast<std::size_t>(breaks)),
            "byte " + std::to_string(*invalid + 1) + " of the record, " + byte + ", is not UTF-8",
            "data files are UTF-8");
    error.remedy = "convert the file, for example with iconv -t UTF-8";
    return fail(std::move(error));
  }
  BracketWalk walk;
  for (const char c : json) walk.feed(c);
  if (walk.deepest > depth_max_) {
    return fail(bad(at_line(file_, line),
                    "the record is nested " + std::to_string(walk.deepest) + " levels deep",
                    "at most " + std::to_string(depth_max_) + " are read"));
  }
  return Slice{json, line};
}

void JsonSlices::skip_space() {
  for (; at_ < bytes_.size() && is_space(bytes_[at_]); ++at_) {
    if (bytes_[at_] == '\n') ++line_;
  }
}

}  // namespace strata::text
