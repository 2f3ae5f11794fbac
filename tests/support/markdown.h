#pragma once
// Markdown as the tests of documents read it: what is fenced, what is marked as code, what is
// linked.
#include <string>
#include <string_view>
#include <vector>

namespace strata::support {

/// A stretch between two ``` lines.
struct Fence {
  std::string language;  // "sh", "json", ...; empty when none is named
  std::string text;
};

/// A heading and everything up to the next one of the same or a higher level.
struct Section {
  int level = 1;
  std::string title;
  std::string text;  // without the heading
};

class Markdown {
 public:
  explicit Markdown(std::string_view text);

  [[nodiscard]] const std::vector<Fence>& fences() const { return fences_; }
  /// What stands between single backquotes outside fences.
  [[nodiscard]] const std::vector<std::string>& code_spans() const { return spans_; }
  /// Targets of [text](target) outside fences, as written.
  [[nodiscard]] const std::vector<std::string>& links() const { return links_; }
  [[nodiscard]] const std::vector<Section>& sections() const { return sections_; }
  /// The section with this title; throws std::runtime_error when there is none.
  [[nodiscard]] const Section& section(std::string_view title) const;

 private:
  std::vector<Fence> fences_;
  std::vector<std::string> spans_;
  std::vector<std::string> links_;
  std::vector<Section> sections_;
};

/// The cells of the rows of all tables in a text, header and ruler left out.
[[nodiscard]] std::vector<std::vector<std::string>> table_rows(std::string_view text);

/// A cell or word without the backquotes around it.
[[nodiscard]] std::string without_quotes(std::string_view text);

}  // namespace strata::support
