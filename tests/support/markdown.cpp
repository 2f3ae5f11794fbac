#include "support/markdown.h"

#include <algorithm>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace strata::support {
namespace {

void find_all(const std::string& text, const std::regex& pattern, std::vector<std::string>& out) {
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match)
    out.push_back((*match)[1].str());
}

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

}  // namespace

Markdown::Markdown(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::string prose;  // everything outside fences; spans and links may go over a line break
  std::vector<std::size_t> open;
  bool fenced = false;
  for (std::string line; std::getline(in, line);) {
    for (const std::size_t i : open) sections_[i].text += line + "\n";
    if (line.starts_with("```")) {
      if (!fenced) fences_.push_back({trimmed(line.substr(3)), {}});
      fenced = !fenced;
      prose += "\n";
      continue;
    }
    if (fenced) {
      fences_.back().text += line + "\n";
      continue;
    }
    const std::size_t level = line.find_first_not_of('#');
    if (line.starts_with("#") && level != std::string::npos && line[level] == ' ') {
      std::erase_if(open, [&](std::size_t i) {
        if (sections_[i].level < static_cast<int>(level)) return false;
        sections_[i].text.resize(sections_[i].text.size() - line.size() - 1);  // its own end
        return true;
      });
      open.push_back(sections_.size());
      sections_.push_back({static_cast<int>(level), trimmed(line.substr(level)), {}});
    }
    prose += line.starts_with("    ") ? "\n" : line + "\n";
  }
  find_all(prose, std::regex("`([^`\n]+)`"), spans_);
  find_all(std::regex_replace(prose, std::regex("`[^`\n]*`"), "`"),
           std::regex(R"(\]\(([^)\s]+)\))"), links_);
}

const Section& Markdown::section(std::string_view title) const {
  const auto found = std::find_if(sections_.begin(), sections_.end(),
                                  [&](const Section& s) { return s.title == title; });
  if (found == sections_.end())
    throw std::runtime_error("no section \"" + std::string(title) + "\"");
  return *found;
}

std::vector<std::vector<std::string>> table_rows(std::string_view text) {
  std::vector<std::vector<std::string>> out;
  std::istringstream in{std::string(text)};
  bool body = false;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("|")) {
      body = false;
    } else if (line.find_first_not_of("|-: ") == std::string::npos) {
      body = true;
    } else if (body) {
      std::vector<std::string> cells;
      for (std::size_t at = 1; at < line.size();) {
        std::size_t end = at;
        while (end < line.size() && (line[end] != '|' || line[end - 1] == '\\')) ++end;
        cells.push_back(trimmed(std::string_view(line).substr(at, end - at)));
        at = end + 1;
      }
      out.push_back(std::move(cells));
    }
  }
  return out;
}

std::string without_quotes(std::string_view text) {
  if (text.size() >= 2 && text.front() == '`' && text.back() == '`')
    return std::string(text.substr(1, text.size() - 2));
  return std::string(text);
}

}  // namespace strata::support
