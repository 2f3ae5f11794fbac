#include "text/windows.h"

#include <algorithm>
#include <array>
#include <string>

#include "text/corpus.h"
#include "text/example_builder.h"

namespace strata::text {

namespace {

// Tokenising takes some thirty bytes for each byte of text, so long documents are cut.
constexpr std::size_t kPiece = std::size_t{1} << 20;

/// Ids on their way into records.
class Windows {
 public:
  Windows(std::string source, std::size_t length) : source_(std::move(source)), length_(length) {}

  void add(std::span<const TokenId> ids) {
    while (!ids.empty()) {
      const std::size_t count = std::min(length_ - current_.size(), ids.size());
      current_.insert(current_.end(), ids.begin(),
                      ids.begin() + static_cast<std::ptrdiff_t>(count));
      ids = ids.subspan(count);
      if (current_.size() == length_) close();
    }
  }

  std::vector<Record> finish() && {
    if (current_.size() > 1) close();
    return std::move(records_);
  }

 private:
  void close() {
    Tokens tokens{.ids = std::move(current_), .trained = {}};
    tokens.trained.assign(tokens.ids.size(), 1);
    const std::size_t first = closed_ + 1;
    closed_ += tokens.ids.size();
    records_.push_back({.content = std::move(tokens),
                        .fields = {},
                        .source = source_ + ": tokens " + std::to_string(first) + " to " +
                                  std::to_string(closed_)});
    current_ = {};
  }

  std::string source_;
  std::size_t length_;
  std::size_t closed_ = 0;  // ids in records_
  std::vector<TokenId> current_;
  std::vector<Record> records_;
};

// The first part of `text` to be tokenised at once.
std::string_view next_piece(std::string_view text) {
  if (text.size() <= kPiece) return text;
  auto line_end = text.rfind('\n', kPiece - 1);
  if (line_end == std::string_view::npos) line_end = text.find('\n', kPiece);
  return text.substr(0, line_end == std::string_view::npos ? text.size() : line_end + 1);
}

}  // namespace

Result<std::vector<Record>> read_windows(const sys::Disk& disk, const std::filesystem::path& input,
                                         const ModelText& model, std::size_t max_length) {
  const auto files = find_corpus(disk, std::array{input});
  if (!files) return fail(files.error());
  const ExampleBuilder ends(model, {});
  const bool ended = !ends.end().empty() && ends.end().back() == model.eos;
  Windows windows(input.string(), max_length);
  const auto read = read_corpus(disk, *files, {}, [&](std::string_view document) -> Result<void> {
    windows.add(ends.start());
    while (!document.empty()) {
      const std::string_view piece = next_piece(document);
      const auto ids = model.tokenizer.encode(piece, false);
      if (!ids) return fail(ids.error());
      windows.add(*ids);
      document.remove_prefix(piece.size());
    }
    windows.add(ends.end());
    if (model.eos && !ended) windows.add(std::array{*model.eos});
    return {};
  });
  if (!read) return fail(read.error());
  return std::move(windows).finish();
}

}  // namespace strata::text
