// The other two readings of one description: the resolved values, and the JSON schema.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "config/section.h"

namespace strata::config {
namespace {

using json = nlohmann::ordered_json;

class Resolver final : public Fields {
 public:
  explicit Resolver(json& out) : out_(out) { out_ = json::object(); }

  void integer(std::string_view key, std::int64_t& value, Range, std::string_view) override {
    set(key, value);
  }
  void number(std::string_view key, double& value, Range, std::string_view) override {
    set(key, value);
  }
  void number_or(std::string_view key, std::optional<double>& value, std::string_view word, Range,
                 std::string_view) override {
    if (value) {
      set(key, *value);
    } else if (!word.empty()) {
      set(key, std::string(word));
    }
  }
  void boolean(std::string_view key, bool& value, std::string_view) override { set(key, value); }
  void text(std::string_view key, std::string& value, std::string_view) override {
    set(key, value);
  }
  // Whole, so that the copy says the same from wherever it is read.
  void path(std::string_view key, std::string& value, std::string_view) override {
    set(key, value.empty() ? value : std::filesystem::absolute(value).lexically_normal().string());
  }
  void choice(std::string_view key, std::string& value, std::span<const std::string_view>,
              std::string_view) override {
    set(key, value);
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    set(key, value);
  }
  void integer_map(std::string_view key, Entries<std::int64_t>& value, Range,
                   std::string_view) override {
    set_entries(key, value);
  }
  void number_map(std::string_view key, Entries<double>& value, Range, std::string_view) override {
    set_entries(key, value);
  }
  void object(std::string_view key, const std::function<void(Fields&)>& inner,
              std::string_view) override {
    Resolver resolver(out_[std::string(key)]);
    inner(resolver);
  }
  void objects(std::string_view key, std::size_t size, const std::function<void(std::size_t)>&,
               const std::function<void(std::size_t, Fields&)>& element,
               std::string_view) override {
    json& list = out_[std::string(key)];
    list = json::array();
    for (std::size_t i = 0; i < size; ++i) {
      list.emplace_back();
      Resolver resolver(list.back());
      element(i, resolver);
    }
  }
  void required(std::initializer_list<std::string_view>) override {}

 private:
  template <class T>
  void set(std::string_view key, const T& value) {
    out_[std::string(key)] = value;
  }
  template <class T>
  void set_entries(std::string_view key, const Entries<T>& value) {
    json& object = out_[std::string(key)] = json::object();
    for (const auto& [name, item] : value) object[name] = item;
  }
  json& out_;
};

class SchemaWriter final : public Fields {
 public:
  explicit SchemaWriter(json& out) : out_(out) {
    out_["type"] = "object";
    out_["additionalProperties"] = false;
    out_["properties"] = json::object();
  }

  void integer(std::string_view key, std::int64_t& value, Range range,
               std::string_view help) override {
    bounds(field(key, "integer", help, value), range);
  }
  void number(std::string_view key, double& value, Range range, std::string_view help) override {
    bounds(field(key, "number", help, value), range);
  }
  void number_or(std::string_view key, std::optional<double>&, std::string_view word, Range range,
                 std::string_view help) override {
    json& entry = property(key, help);
    if (word.empty()) {
      entry["type"] = "number";
      bounds(entry, range);
      return;
    }
    json number{{"type", "number"}};
    bounds(number, range);
    entry["oneOf"] = {number, {{"const", std::string(word)}}};
    entry["default"] = std::string(word);
  }
  void boolean(std::string_view key, bool& value, std::string_view help) override {
    field(key, "boolean", help, value);
  }
  void text(std::string_view key, std::string& value, std::string_view help) override {
    field(key, "string", help, value);
  }
  void path(std::string_view key, std::string& value, std::string_view help) override {
    field(key, "string", help, value);
  }
  void choice(std::string_view key, std::string& value, std::span<const std::string_view> names,
              std::string_view help) override {
    json& entry = field(key, "string", help, value);
    entry["enum"] = json::array();
    for (const auto name : names) entry["enum"].push_back(std::string(name));
  }
  void texts(std::string_view key, std::vector<std::string>& value,
             std::string_view help) override {
    json& entry = property(key, help);
    entry["type"] = {"array", "string"};
    entry["items"] = {{"type", "string"}};
    entry["default"] = value;
  }
  void integer_map(std::string_view key, Entries<std::int64_t>&, Range range,
                   std::string_view help) override {
    map(key, "integer", range, help);
  }
  void number_map(std::string_view key, Entries<double>&, Range range,
                  std::string_view help) override {
    map(key, "number", range, help);
  }
  void object(std::string_view key, const std::function<void(Fields&)>& inner,
              std::string_view help) override {
    SchemaWriter writer(property(key, help));
    inner(writer);
  }
  void objects(std::string_view key, std::size_t, const std::function<void(std::size_t)>&,
               const std::function<void(std::size_t, Fields&)>& element,
               std::string_view help) override {
    json& entry = property(key, help);
    entry["type"] = "array";
    SchemaWriter writer(entry["items"]);
    element(0, writer);
  }
  void required(std::initializer_list<std::string_view> keys) override {
    out_["required"] = json::array();
    for (const auto key : keys) out_["required"].push_back(std::string(key));
  }

 private:
  json& property(std::string_view key, std::string_view help) {
    json& entry = out_["properties"][std::string(key)];
    entry["description"] = std::string(help);
    return entry;
  }
  template <class T>
  json& field(std::string_view key, std::string_view type, std::string_view help, const T& value) {
    json& entry = property(key, help);
    entry["type"] = std::string(type);
    entry["default"] = value;
    return entry;
  }
  static void bounds(json& entry, const Range& range) {
    if (range.above)
      entry["exclusiveMinimum"] = *range.above;
    else if (std::isfinite(range.min))
      entry["minimum"] = range.min;
    if (range.below)
      entry["exclusiveMaximum"] = *range.below;
    else if (std::isfinite(range.max))
      entry["maximum"] = range.max;
  }
  void map(std::string_view key, std::string_view type, const Range& range, std::string_view help) {
    json& entry = property(key, help);
    entry["type"] = "object";
    entry["additionalProperties"] = {{"type", std::string(type)}};
    bounds(entry["additionalProperties"], range);
  }
  json& out_;
};

}  // namespace

std::string resolved_json(const Describe& describe) {
  json out;
  Resolver resolver(out);
  describe(resolver);
  // File names need not be UTF-8; they must not end the run that is being recorded.
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string schema_json(std::string_view title, const Describe& describe) {
  json out;
  out["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  out["title"] = std::string(title);
  SchemaWriter writer(out);
  describe(writer);
  out["properties"]["$schema"] = {{"type", "string"}};
  out["properties"]["version"] = {{"const", 1}};
  return out.dump(2) + "\n";
}

}  // namespace strata::config
