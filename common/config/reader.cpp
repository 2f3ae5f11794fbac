// Reading: a strict visitor over parsed JSON. The first broken rule is kept and ends the reading.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/document.h"
#include "config/section.h"

namespace strata::config {
namespace {

using json = nlohmann::ordered_json;

std::string number_text(double value) {
  std::string text = json(value).dump();
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

// What a number must satisfy, in words.
std::string rule_of(const Range& range, std::string_view kind) {
  std::string rule = "must be " + std::string(kind);
  std::string joint = " ";
  const auto bound = [&](std::string_view words, double limit) {
    rule += joint + std::string(words) + " " + number_text(limit);
    joint = " and ";
  };
  if (range.above) {
    bound("above", *range.above);
  } else if (std::isfinite(range.min)) {
    bound("at least", range.min);
  }
  if (range.below) {
    bound("below", *range.below);
  } else if (std::isfinite(range.max)) {
    bound("at most", range.max);
  }
  return rule;
}

bool inside(const Range& range, double value) {
  return std::isfinite(value) && value >= range.min && value <= range.max &&
         !(range.above && value <= *range.above) && !(range.below && value >= *range.below);
}

class Reader final : public Fields {
 public:
  Reader(Document& document, const json& object, std::string path)
      : document_(document), object_(object), path_(std::move(path)) {
    if (!object_.is_object())
      document_.refuse(path_, "is " + text_of(object_), "must be an object {...}");
  }

  void integer(std::string_view key, std::int64_t& value, Range range, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    std::int64_t read = 0;
    if (read_integer(*found, range, at(key), read)) value = read;
  }

  void number(std::string_view key, double& value, Range range, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    double read = 0.0;
    if (read_number(*found, range, at(key), read)) value = read;
  }

  void number_or(std::string_view key, std::optional<double>& value, std::string_view word,
                 Range range, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    if (!word.empty() && found->is_string() && found->get<std::string>() == word) {
      value.reset();
      return;
    }
    if (found->is_number() && inside(range, found->get<double>())) {
      value = found->get<double>();
      return;
    }
    refuse(key, *found,
           rule_of(range, "a number") + (word.empty() ? "" : ", or \"" + std::string(word) + "\""));
  }

  void boolean(std::string_view key, bool& value, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) return refuse(key, *found, "must be true or false");
    value = found->get<bool>();
  }

  void text(std::string_view key, std::string& value, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    if (!found->is_string()) return refuse(key, *found, "must be a string");
    value = found->get<std::string>();
  }

  void path(std::string_view key, std::string& value, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    if (!found->is_string()) return refuse(key, *found, "must be a path");
    value = found->get<std::string>();
    // A path typed on the command line starts where the user stands, as the shell completes it.
    if (!value.empty() && std::filesystem::path(value).is_relative() &&
        !document_.is_set(at(key))) {
      value = (document_.folder / value).lexically_normal().string();
    }
  }

  void choice(std::string_view key, std::string& value, std::span<const std::string_view> names,
              std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    std::string rule = "must be one of:";
    for (const auto name : names) rule += " " + std::string(name);
    if (!found->is_string()) return refuse(key, *found, rule);
    const auto word = found->get<std::string>();
    if (std::find(names.begin(), names.end(), word) == names.end()) {
      const auto near = nearest(word, std::vector<std::string>(names.begin(), names.end()));
      return document_.refuse(at(key), "is " + text_of(*found), rule,
                              near ? "did you mean \"" + *near + "\"?" : "");
    }
    value = word;
  }

  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    // One string stands for a list of one, or several separated by commas, as users of other tools
    // write it.
    const std::string rule = "must be a string or a list of strings";
    std::vector<std::string> read;
    if (found->is_string()) {
      std::string rest = found->get<std::string>();
      for (std::size_t comma = 0; comma != std::string::npos;) {
        comma = rest.find(',');
        read.push_back(rest.substr(0, comma));
        if (comma != std::string::npos) rest.erase(0, comma + 1);
      }
    } else if (found->is_array()) {
      for (const auto& item : *found) {
        if (!item.is_string()) return refuse(key, item, rule);
        read.push_back(item.get<std::string>());
      }
    } else {
      return refuse(key, *found, rule);
    }
    value = std::move(read);
  }

  void integer_map(std::string_view key, Entries<std::int64_t>& value, Range range,
                   std::string_view) override {
    read_map(key, value, [&](const json& item, const std::string& where, std::int64_t& out) {
      return read_integer(item, range, where, out);
    });
  }

  void number_map(std::string_view key, Entries<double>& value, Range range,
                  std::string_view) override {
    read_map(key, value, [&](const json& item, const std::string& where, double& out) {
      return read_number(item, range, where, out);
    });
  }

  void object(std::string_view key, const std::function<void(Fields&)>& inner,
              std::string_view) override {
    const json* found = take(key);
    const json nothing = json::object();
    Reader reader(document_, found != nullptr ? *found : nothing, at(key));
    reader.absent_ = found == nullptr;
    inner(reader);
    reader.finish();
  }

  void objects(std::string_view key, std::size_t, const std::function<void(std::size_t)>& resize,
               const std::function<void(std::size_t, Fields&)>& element,
               std::string_view) override {
    const json* found = take(key);
    if (found == nullptr) return;
    if (!found->is_array()) return refuse(key, *found, "must be a list [...]");
    resize(found->size());
    for (std::size_t i = 0; i < found->size(); ++i) {
      Reader reader(document_, (*found)[i], at(key) + "[" + std::to_string(i) + "]");
      element(i, reader);
      reader.finish();
    }
  }

  void required(std::initializer_list<std::string_view> keys) override {
    required_.assign(keys.begin(), keys.end());
  }

  /// Refuses keys that nobody described, then asks for those that must be there: a misspelt one is
  /// named as what it is.
  void finish() {
    if (!object_.is_object()) return;
    for (const auto& [key, value] : object_.items()) {
      if (path_.empty() && (key == "$schema" || key == "version")) continue;
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const auto near = nearest(key, known_);
      std::string rule = "known keys:";
      for (const auto& name : known_) rule += " " + name;
      document_.refuse(path_.empty() ? printable(key, 80) : path_ + "." + printable(key, 80),
                       "is not a known key", rule, near ? "did you mean \"" + *near + "\"?" : "");
    }
    for (const auto& key : required_) {
      if (!absent_ && !object_.contains(key))
        document_.refuse(at(key), "is missing", "this key is required");
    }
  }

 private:
  std::string at(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  const json* take(std::string_view key) {
    known_.emplace_back(key);
    if (!object_.is_object() || document_.error) return nullptr;
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  void refuse(std::string_view key, const json& value, std::string rule) {
    document_.refuse(at(key), "is " + text_of(value), std::move(rule));
  }

  bool read_integer(const json& value, const Range& range, const std::string& where,
                    std::int64_t& out) {
    const std::string rule = rule_of(range, "a whole number");
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
    if (!fits || !inside(range, static_cast<double>(value.get<std::int64_t>()))) {
      document_.refuse(where, "is " + text_of(value), rule);
      return false;
    }
    out = value.get<std::int64_t>();
    return true;
  }

  bool read_number(const json& value, const Range& range, const std::string& where, double& out) {
    if (!value.is_number() || !inside(range, value.get<double>())) {
      document_.refuse(where, "is " + text_of(value), rule_of(range, "a number"));
      return false;
    }
    out = value.get<double>();
    return true;
  }

  template <class T, class Read>
  void read_map(std::string_view key, Entries<T>& value, const Read& read) {
    const json* found = take(key);
    if (found == nullptr) return;
    if (!found->is_object()) return refuse(key, *found, "must be an object {\"name\": number}");
    Entries<T> out;
    for (const auto& [name, item] : found->items()) {
      out.emplace_back(name, T{});
      if (!read(item, at(key) + "." + printable(name, 80), out.back().second)) return;
    }
    value = std::move(out);
  }

  Document& document_;
  const json& object_;
  std::string path_;
  std::vector<std::string> known_;
  std::vector<std::string> required_;
  bool absent_ = false;  // the whole section is left out: its required keys are not asked for
};

}  // namespace

Result<void> read(std::string_view text, const std::string& file,
                  std::span<const std::string> overrides, const Describe& describe) {
  Document document = parse_document(text, file, overrides);
  if (!document.error) {
    const json root = std::move(document.root);
    Reader reader(document, root, "");
    if (const auto version = root.find("version");
        root.is_object() && version != root.end() && *version != 1) {
      document.refuse("version", "is " + text_of(*version),
                      "this strata reads version 1 of job files");
    }
    describe(reader);
    reader.finish();
  }
  if (document.error) return tl::unexpected<Error>(*document.error);
  return {};
}

}  // namespace strata::config
