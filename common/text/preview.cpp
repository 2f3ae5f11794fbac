#include "text/preview.h"

#include <span>
#include <string_view>

namespace strata::text {

namespace {

constexpr std::string_view kGreen = "\x1b[32m";
constexpr std::string_view kReset = "\x1b[0m";

std::string shown(std::string_view text, bool escape_brackets) {
  std::string out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto end = rest.find_first_of("\n[]");
    const auto plain = rest.substr(0, end);
    out += printable(plain, plain.size());
    if (end == std::string_view::npos) break;
    if (rest[end] != '\n' && escape_brackets) out += '\\';
    out += rest[end];
    rest.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace

std::vector<PreviewRun> preview_runs(const Example& example, const Tokenizer& tokenizer) {
  std::vector<PreviewRun> out;
  for (std::size_t begin = 0; begin < example.tokens.size();) {
    std::size_t end = begin + 1;
    while (end < example.tokens.size() && example.trained[end] == example.trained[begin]) ++end;
    // Decoders may treat the start of a text specially (SentencePiece drops its first space), so a
    // run is what it adds.
    const std::span<const TokenId> all(example.tokens);
    const std::string before = tokenizer.decode(all.first(begin), false);
    const std::string through = tokenizer.decode(all.first(end), false);
    const bool extends = through.starts_with(before);
    out.push_back({extends ? through.substr(before.size())
                           : tokenizer.decode(all.subspan(begin, end - begin), false),
                   end - begin, example.trained[begin] != 0});
    begin = end;
  }
  return out;
}

std::string preview_text(const std::vector<PreviewRun>& runs, PreviewMarks marks) {
  std::string out;
  for (const PreviewRun& run : runs) {
    const bool brackets = marks == PreviewMarks::kBrackets;
    const std::string text = shown(run.text, brackets);
    if (!run.trained) {
      out += text;
    } else if (brackets) {
      out += "[" + text + "]";
    } else {
      out.append(kGreen).append(text).append(kReset);
    }
  }
  return out;
}

}  // namespace strata::text
