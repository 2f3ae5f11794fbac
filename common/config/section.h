#pragma once
// Job files, read and described from one source. A module describes its own section once, as a
// function
//     void describe(config::Fields& f, TrainingConfig& c) { f.number("learning_rate",
//     c.learning_rate, {.above = 0}, "..."); }
// and gets from it: a strict reader (type, range, unknown keys with the nearest known name, key
// path in every error), the JSON schema for editors, and the resolved copy with every default
// filled in. Knows no section's meaning. Not thread-safe; used once at start-up.
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace strata::config {

/// Inclusive bounds unless `above`/`below` (exclusive) are set. NaN and infinity are always
/// refused.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::optional<double> above;
  std::optional<double> below;
};

/// An object of names and values whose order counts.
template <class T>
using Entries = std::vector<std::pair<std::string, T>>;

/// Visitor over the fields of one JSON object. Every call names a key, the variable behind it
/// (holding the default), the rule, and one line of help. A key is optional unless listed by
/// required().
class Fields {
 public:
  virtual ~Fields() = default;
  virtual void integer(std::string_view key, std::int64_t& value, Range range,
                       std::string_view help) = 0;
  virtual void number(std::string_view key, double& value, Range range, std::string_view help) = 0;
  /// A number that may be left out, or given as `word` instead (empty: there is no such word).
  virtual void number_or(std::string_view key, std::optional<double>& value, std::string_view word,
                         Range range, std::string_view help) = 0;
  virtual void boolean(std::string_view key, bool& value, std::string_view help) = 0;
  virtual void text(std::string_view key, std::string& value, std::string_view help) = 0;
  /// A path: relative ones are resolved against the folder of the job file; those given by an
  /// override stay as typed, that is relative to the current folder.
  virtual void path(std::string_view key, std::string& value, std::string_view help) = 0;
  /// One of `names`; unknown ones are refused with the nearest.
  virtual void choice(std::string_view key, std::string& value,
                      std::span<const std::string_view> names, std::string_view help) = 0;
  virtual void texts(std::string_view key, std::vector<std::string>& value,
                     std::string_view help) = 0;
  /// {"pattern": integer}, in the order of the file: rank and alpha patterns.
  virtual void integer_map(std::string_view key, Entries<std::int64_t>& value, Range range,
                           std::string_view help) = 0;
  virtual void number_map(std::string_view key, Entries<double>& value, Range range,
                          std::string_view help) = 0;
  virtual void object(std::string_view key, const std::function<void(Fields&)>& inner,
                      std::string_view help) = 0;
  /// A list of objects. `resize(n)` prepares n elements when reading; `element(i, fields)`
  /// describes the i-th.
  virtual void objects(std::string_view key, std::size_t size,
                       const std::function<void(std::size_t)>& resize,
                       const std::function<void(std::size_t, Fields&)>& element,
                       std::string_view help) = 0;
  /// The keys among those described that must be present.
  virtual void required(std::initializer_list<std::string_view> keys) = 0;
};

using Describe = std::function<void(Fields&)>;

/// Parses `text` as JSON (comments allowed, duplicate keys refused) and applies `overrides`
/// ("training.max_steps=5"; the value is JSON, or a bare string) before reading it into the
/// described variables. `file` names the source in errors and resolves relative paths. kConfig on
/// the first broken rule.
[[nodiscard]] Result<void> read(std::string_view text, const std::string& file,
                                std::span<const std::string> overrides, const Describe& describe);

/// The resolved values as indented JSON.
[[nodiscard]] std::string resolved_json(const Describe& describe);

/// JSON Schema (draft 2020-12) of what read() accepts.
[[nodiscard]] std::string schema_json(std::string_view title, const Describe& describe);

/// The candidate nearest to `word` by edit distance, or nothing when none is near. For "did you
/// mean".
[[nodiscard]] std::optional<std::string> nearest(std::string_view word,
                                                 std::span<const std::string> candidates);

}  // namespace strata::config
