#include "support/source_tree.h"

#include <algorithm>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "support/process.h"

namespace strata::support {
namespace {

namespace fs = std::filesystem;

bool ends_with_one(const std::string& name, std::span<const std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

// Reads C++ text a token at a time: only comments and literals need to be told from the rest.
class Stripper {
 public:
  Stripper(std::string_view text, bool literals) : text_(text), literals_(literals) {}

  std::string run() {
    while (at_ < text_.size()) {
      if (starts("//")) {
        blank(text_.find('\n', at_), false);
      } else if (starts("/*")) {
        blank(past(text_.find("*/", at_ + 2), 2), false);
      } else if (starts("R\"") && !after_word()) {
        raw_literal();
      } else if (text_[at_] == '"' || (text_[at_] == '\'' && !after_word())) {
        literal(text_[at_]);
      } else {
        out_ += text_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool starts(std::string_view word) const {
    return text_.substr(at_).starts_with(word);
  }
  // Behind a letter or digit: 1'000, or the R of a longer name.
  [[nodiscard]] bool after_word() const {
    return at_ > 0 && (std::isalnum(static_cast<unsigned char>(text_[at_ - 1])) != 0);
  }
  static std::size_t past(std::size_t found, std::size_t length) {
    return found == std::string_view::npos ? found : found + length;
  }
  void blank(std::size_t end, bool keep) {
    for (end = std::min(end, text_.size()); at_ < end; ++at_) {
      if (keep || text_[at_] == '\n') out_ += text_[at_];
    }
  }
  void literal(char quote) {
    out_ += text_[at_++];
    std::size_t end = at_;
    while (end < text_.size() && text_[end] != quote && text_[end] != '\n')
      end += text_[end] == '\\' ? 2 : 1;
    blank(end, literals_);
    if (at_ < text_.size() && text_[at_] == quote) out_ += text_[at_++];
  }
  void raw_literal() {
    const std::size_t open = text_.find('(', at_);
    if (open == std::string_view::npos) return blank(open, literals_);
    const std::string close = ")" + std::string(text_.substr(at_ + 2, open - at_ - 2)) + "\"";
    out_ += "\"";
    at_ += 2;
    const std::size_t end = text_.find(close, open);
    blank(end, literals_);
    at_ = std::min(past(end, close.size()), text_.size());
    out_ += "\"";
  }

  std::string_view text_;
  bool literals_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

fs::path source_root() { return STRATA_SOURCE_DIR; }

std::vector<TextFile> read_tree(const fs::path& root, std::span<const std::string_view> folders,
                                std::span<const std::string_view> endings) {
  std::vector<TextFile> out;
  for (const std::string_view folder : folders) {
    if (!fs::is_directory(root / folder))
      throw std::runtime_error("no folder " + (root / folder).string());
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !ends_with_one(entry.path().filename().string(), endings))
        continue;
      out.push_back({fs::relative(entry.path(), root).generic_string(), read_file(entry.path())});
    }
  }
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.path < b.path; });
  return out;
}

std::string bare_code(std::string_view text, bool literals) {
  return Stripper(text, literals).run();
}

std::optional<Room> room_of(std::string_view folder, std::string_view cmake_text) {
  const std::string text = std::regex_replace(std::string(cmake_text), std::regex("#[^\n]*"), "");
  std::smatch call;
  if (!std::regex_search(text, call, std::regex(R"(strata_library\s*\(([^()]*)\))")))
    return std::nullopt;
  std::istringstream words(call[1].str());
  Room out{.name = {}, .folder = std::string(folder), .deps = {}, .libs = {}};
  words >> out.name;
  std::vector<std::string>* list = nullptr;
  for (std::string word; words >> word;) {
    if (word == "DEPS") {
      list = &out.deps;
    } else if (word == "LIBS" || word == "PRIVATE_LIBS") {
      list = &out.libs;
    } else if (list != nullptr) {
      list->push_back(word);
    }
  }
  return out;
}

std::map<std::string, Room> rooms_of(std::span<const TextFile> cmake_files) {
  std::map<std::string, Room> out;
  for (const auto& file : cmake_files) {
    const std::string folder = fs::path(file.path).parent_path().generic_string();
    if (auto room = room_of(folder, file.text)) out.emplace(folder, std::move(*room));
  }
  return out;
}

const Room* room_holding(const std::map<std::string, Room>& rooms, std::string_view path) {
  const Room* best = nullptr;
  for (const auto& [folder, room] : rooms) {
    const bool inside = path.starts_with(folder + "/");
    if (inside && (best == nullptr || folder.size() > best->folder.size())) best = &room;
  }
  return best;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> out;
  std::istringstream in{std::string(text)};
  for (std::string line; std::getline(in, line);) out.push_back(std::move(line));
  return out;
}

std::string listed(const std::vector<std::string>& problems) {
  std::string out;
  for (const auto& problem : problems) out += "\n  " + problem;
  return out;
}

}  // namespace strata::support
