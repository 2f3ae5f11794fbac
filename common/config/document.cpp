#include "config/document.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace strata::config {
namespace {

using json = nlohmann::ordered_json;

constexpr int kDepthMax = 32;
constexpr std::size_t kValuesMax = 1'000'000;  // ten thousand clients with every key
constexpr std::size_t kTextMax = 65536;

/// Where the parser stands: one entry per open object or list.
struct Open {
  bool is_list = false;
  std::string key;
  std::size_t index = 0;
  std::set<std::string> keys;
};

std::string path_of(const std::vector<Open>& open) {
  std::string path;
  for (const auto& level : open) {
    if (level.is_list) {
      path += "[" + std::to_string(level.index) + "]";
    } else if (!level.key.empty()) {
      path += (path.empty() ? "" : ".") + printable(level.key, 80);
    }
  }
  return path;
}

/// Sees every event of the parser; false once a rule is broken, which discards the rest.
class Watch {
 public:
  explicit Watch(Document& document) : document_(document) {}

  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    using Event = json::parse_event_t;
    if (document_.error) return false;
    if (depth > kDepthMax)
      document_.refuse(path_of(open_), "is nested too deeply",
                       "at most " + std::to_string(kDepthMax) + " levels");
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        count(parsed);
        open_.push_back({.is_list = event == Event::array_start});
        break;
      case Event::object_end:
      case Event::array_end:
        open_.pop_back();
        element_done();
        break;
      case Event::value:
        count(parsed);
        element_done();
        break;
      case Event::key:
        count(parsed);
        open_.back().key = parsed.get<std::string>();
        if (!open_.back().keys.insert(open_.back().key).second) {
          document_.refuse(path_of(open_), "is given twice", "a key stands once in an object");
        }
        break;
    }
    return !document_.error;
  }

 private:
  void count(const json& parsed) {
    if (++values_ > kValuesMax) {
      document_.refuse(path_of(open_), "is one value too many",
                       "at most " + std::to_string(kValuesMax) + " keys and values");
    } else if (parsed.is_string() && parsed.get_ref<const std::string&>().size() > kTextMax) {
      document_.refuse(
          path_of(open_),
          "is a text of " + std::to_string(parsed.get_ref<const std::string&>().size()) + " bytes",
          "at most " + std::to_string(kTextMax));
    }
  }
  void element_done() {
    if (!open_.empty() && open_.back().is_list) ++open_.back().index;
  }

  Document& document_;
  std::vector<Open> open_;
  std::size_t values_ = 0;
};

// "[json.exception.parse_error.101] parse error at line 3, column 7: syntax error ...": the place
// goes to where a reader of compilers expects it, the library's own number goes.
void refuse_syntax(Document& document, std::string what) {
  if (const auto end = what.find("] "); end != std::string::npos) what.erase(0, end + 2);
  std::string place;
  constexpr std::string_view kLine = "parse error at line ";
  constexpr std::string_view kColumn = ", column ";
  const auto column = what.find(kColumn);
  const auto colon = what.find(": ");
  if (what.starts_with(kLine) && column != std::string::npos && colon != std::string::npos &&
      column < colon) {
    const auto after = column + kColumn.size();
    place = ":" + what.substr(kLine.size(), column - kLine.size()) + ":" +
            what.substr(after, colon - after);
    what.erase(0, colon + 2);
  }
  document.error = Error{.code = ErrorCode::kConfig,
                         .what = "is not valid JSON: " + printable(what, 200),
                         .where = document.file + place,
                         .rule = "a job is one JSON object; comments are allowed"};
}

void parse(std::string_view text, Document& document) {
  try {
    document.root = json::parse(text, Watch(document), true, /*ignore_comments=*/true);
  } catch (const json::exception& problem) {
    refuse_syntax(document, problem.what());
  }
}

std::vector<std::string> words_of(std::string_view path) {
  std::vector<std::string> words(1);
  for (const char c : path) {
    if (c == '.' || c == '[') {
      words.emplace_back();
    } else if (c != ']') {
      words.back() += c;
    }
  }
  return words;
}

/// Sets "a.b[2].c=value". Missing sections are made; list elements must exist, since a list's
/// length is the file's to say.
class Override {
 public:
  Override(Document& document, const std::string& setting)
      : document_(document), setting_(setting) {}

  void apply() {
    const auto equals = setting_.find('=');
    if (equals == std::string::npos || equals == 0) return refuse("has no value");
    const std::string word = setting_.substr(equals + 1);
    json value = json::parse(word, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) value = word;
    std::string path;
    json* place = &document_.root;
    for (const auto& key : words_of(std::string_view(setting_).substr(0, equals))) {
      place = step(*place, key, path);
      if (place == nullptr) return;
    }
    *place = std::move(value);
    document_.overridden.insert(path);
  }

 private:
  json* step(json& at, const std::string& key, std::string& path) {
    if (key.empty()) return refuse("has an empty key"), nullptr;
    if (at.is_null()) at = json::object();
    if (at.is_object()) {
      path += (path.empty() ? "" : ".") + key;
      return &at[key];
    }
    if (!at.is_array()) return refuse(path + " is " + text_of(at) + " and holds no keys"), nullptr;
    std::size_t index = 0;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), index);
    if (problem != std::errc() || end != key.data() + key.size() || index >= at.size()) {
      return refuse(path + " is a list of " + std::to_string(at.size()) + ", it has no element " +
                    printable(key, 40)),
             nullptr;
    }
    path += "[" + std::to_string(index) + "]";
    return &at[index];
  }

  void refuse(std::string what) {
    document_.error = Error{.code = ErrorCode::kConfig,
                            .what = std::move(what),
                            .where = "--set " + printable(setting_, 120),
                            .rule = "write --set section.key=value, in lists clients[0].weight=2"};
  }

  Document& document_;
  const std::string& setting_;
};

// A setting covers what lies below it too.
bool covers(const std::string& setting, const std::string& path) {
  return path.starts_with(setting) && (path.size() == setting.size() ||
                                       path[setting.size()] == '.' || path[setting.size()] == '[');
}

// Bytes that are no UTF-8 would only fail when the resolved copy is written.
bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(json(text).dump());
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

}  // namespace

bool Document::is_set(const std::string& path) const {
  return std::any_of(overridden.begin(), overridden.end(),
                     [&](const auto& setting) { return covers(setting, path); });
}

void Document::refuse(const std::string& path, std::string what, std::string rule,
                      std::string remedy) {
  if (error) return;
  error = Error{.code = ErrorCode::kConfig,
                .what = std::move(what),
                .where = is_set(path)   ? "--set " + path
                         : path.empty() ? file
                                        : file + ": " + path,
                .rule = std::move(rule),
                .remedy = std::move(remedy)};
}

std::string text_of(const json& value) {
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace), 80);
}

Document parse_document(std::string_view text, const std::string& file,
                        std::span<const std::string> overrides) {
  Document document;
  document.file = file;
  document.folder = std::filesystem::path(file).parent_path();
  parse(text, document);
  for (const auto& setting : overrides) {
    if (document.error) break;
    if (!is_utf8(setting)) {
      document.refuse("", "the setting " + printable(setting, 120) + " is not UTF-8",
                      "settings are UTF-8");
    } else {
      Override(document, setting).apply();
    }
  }
  return document;
}

}  // namespace strata::config
