#include "text/record_layout.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "config/section.h"

namespace strata::text {

namespace {

using nlohmann::json;

constexpr std::int64_t kUntrainedLabel = -100;  // the label torch's cross entropy ignores

// In order of precedence: the first kind whose required names are all there is the file's.
struct KindKeys {
  RecordKind kind;
  std::vector<std::string> required;
  std::vector<std::string> optional;
};

const std::vector<KindKeys>& kinds() {
  static const std::vector<KindKeys> kAll{
      {RecordKind::kTokens, {"input_ids"}, {"labels"}},
      {RecordKind::kMessages, {"messages"}, {}},
      {RecordKind::kConversations, {"conversations"}, {"system"}},
      {RecordKind::kPair, {"prompt", "completion"}, {}},
      {RecordKind::kInstruction, {"instruction", "output"}, {"input", "system"}},
      {RecordKind::kText, {"text"}, {}},
  };
  return kAll;
}

std::string join(const std::vector<std::string>& words, std::string_view between) {
  std::string out;
  for (const auto& word : words) out.append(out.empty() ? "" : between).append(word);
  return out;
}

std::string known_kinds() {
  std::string out;
  for (const auto& entry : kinds())
    out += (out.empty() ? "" : "; ") + join(entry.required, " and ");
  return out;
}

Error bad(const std::string& where, std::string what, std::string rule) {
  return {
      .code = ErrorCode::kData, .what = std::move(what), .where = where, .rule = std::move(rule)};
}

// The library's reason without its own prefix: "[json.exception.parse_error.101] parse error at
// ...: <reason>".
std::string reason(const json::exception& error) {
  const std::string_view text = error.what();
  const auto begin = text.find(error.id == 101 ? ": " : "] ");
  return printable(begin == std::string_view::npos ? text : text.substr(begin + 2));
}

Result<json> parse_object(std::string_view text, const std::string& where) {
  json value;
  try {
    value = json::parse(text);
  } catch (const json::exception& error) {  // malformed text, or a number too large for a double
    auto problem =
        bad(where, reason(error),
            "each line holds one whole JSON object, or the file one JSON array of objects");
    return fail(std::move(problem));
  }
  if (!value.is_object()) {
    return fail(bad(where, "found " + std::string(value.type_name()) + " " + printable(text, 40),
                    "a record is a JSON object"));
  }
  return value;
}

std::string describe_value(const json& value) {
  return value.is_structured() ? std::string("a value of type ") + value.type_name()
                               : printable(value.dump(), 40);
}

// One record being read: knows where it is and what its keys are called.
class Reading {
 public:
  Reading(const json& object, const RecordLayout& layout, const std::string& where)
      : object_(object), layout_(layout), where_(where) {}

  // The value under a name of the layout; null when absent.
  [[nodiscard]] const json* find(std::string_view name) const {
    const auto key = layout_.key_of.find(name);
    if (key == layout_.key_of.end()) return nullptr;
    const auto value = object_.find(key->second);
    return value == object_.end() || value->is_null() ? nullptr : &*value;
  }

  [[nodiscard]] std::string key(std::string_view name) const {
    return layout_.key_of.find(name)->second;
  }

  [[nodiscard]] Result<const json*> require(std::string_view name) const {
    if (const json* value = find(name)) return value;
    const bool is_null = object_.contains(key(name));
    return fail(bad(where_,
                    is_null ? key(name) + " is null" : "there is no key \"" + key(name) + "\"",
                    "every record of this file has it, as the first one does"));
  }

  [[nodiscard]] Result<std::string> text(std::string_view name) const {
    auto value = require(name);
    if (!value) return fail(std::move(value).error());
    return string_of(**value, key(name));
  }

  [[nodiscard]] Result<std::string> optional_text(std::string_view name) const {
    const json* value = find(name);
    return value == nullptr ? Result<std::string>{std::string{}} : string_of(*value, key(name));
  }

  // Content of a message: a string, or the list of text parts some tools write.
  [[nodiscard]] Result<std::string> string_of(const json& value, const std::string& path) const {
    if (value.is_string()) return value.get<std::string>();
    if (!value.is_array())
      return fail(bad(where_, path + " is " + describe_value(value), "it is a string"));
    std::string out;
    for (const json& part : value) {
      const auto text = part.is_object() ? part.find("text") : part.end();
      if (!part.is_object() || text == part.end() || !text->is_string()) {
        return fail(bad(where_, path + " holds a part that is not text",
                        "it is a string, or a list of {\"type\": \"text\", \"text\"}"));
      }
      out += text->get<std::string>();
    }
    return out;
  }

  [[nodiscard]] Result<std::vector<Message>> messages(const json& value, const std::string& path,
                                                      const char* role_key,
                                                      const char* content_key) const {
    if (!value.is_array())
      return fail(bad(where_, path + " is " + describe_value(value), "it is a list of messages"));
    std::vector<Message> out;
    for (const json& entry : value) {
      const std::string at = path + "[" + std::to_string(out.size()) + "]";
      const bool whole =
          entry.is_object() && entry.contains(role_key) && entry.contains(content_key);
      if (!whole || !entry[role_key].is_string()) {
        return fail(bad(where_, at + " is not a message",
                        std::string("a message is {\"") + role_key + "\": who, \"" + content_key +
                            "\": what}"));
      }
      auto role = known_role(entry[role_key].get<std::string>(), at + "." + role_key);
      if (!role) return fail(std::move(role).error());
      auto content = string_of(entry[content_key], at + "." + content_key);
      if (!content) return fail(std::move(content).error());
      out.push_back({std::move(*role), std::move(*content)});
    }
    if (out.empty())
      return fail(bad(where_, path + " is empty", "a dialogue has at least one message"));
    return out;
  }

  [[nodiscard]] Result<std::string> known_role(const std::string& role,
                                               const std::string& path) const {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kOtherSpellings{
        {{"human", "user"},
         {"gpt", "assistant"},
         {"chatgpt", "assistant"},
         {"model", "assistant"},
         {"observation", "tool"}}};
    for (const auto& [other, ours] : kOtherSpellings) {
      if (role == other) return std::string(ours);
    }
    if (std::ranges::find(kRoles, role) != kRoles.end()) return role;
    return fail(bad(where_, path + " is \"" + printable(role, 40) + "\"",
                    "roles are system, user (human), assistant (gpt), tool"));
  }

  [[nodiscard]] Result<Dialogue> dialogue(std::string_view name, const char* role_key,
                                          const char* content_key) const {
    auto value = require(name);
    if (!value) return fail(std::move(value).error());
    auto read = messages(**value, key(name), role_key, content_key);
    if (!read) return fail(std::move(read).error());
    auto system = optional_text("system");
    if (!system) return fail(std::move(system).error());
    if (!system->empty() && read->front().role != "system")
      read->insert(read->begin(), Message{"system", std::move(*system)});
    return Dialogue{std::move(*read), 0};
  }

  [[nodiscard]] Result<Content> pair() const;
  [[nodiscard]] Result<Instruction> instruction() const;
  [[nodiscard]] Result<Tokens> tokens() const;
  [[nodiscard]] Result<std::vector<std::int64_t>> integers(const json& value,
                                                           const std::string& path) const;

 private:
  const json& object_;
  const RecordLayout& layout_;
  const std::string& where_;
};

Result<Content> Reading::pair() const {
  auto prompt = require("prompt");
  if (!prompt) return fail(std::move(prompt).error());
  auto completion = require("completion");
  if (!completion) return fail(std::move(completion).error());
  const bool lists = (*prompt)->is_array();
  if (lists != (*completion)->is_array()) {
    return fail(bad(where_,
                    key("prompt") + " and " + key("completion") + " are a string and a list",
                    "both are strings, or both are lists of messages"));
  }
  if (lists) {
    auto before = messages(**prompt, key("prompt"), "role", "content");
    if (!before) return fail(std::move(before).error());
    auto after = messages(**completion, key("completion"), "role", "content");
    if (!after) return fail(std::move(after).error());
    Dialogue out{std::move(*before), 0};
    out.first_trained = out.messages.size();
    out.messages.insert(out.messages.end(), after->begin(), after->end());
    return out;
  }
  auto first = text("prompt");
  if (!first) return fail(std::move(first).error());
  auto second = text("completion");
  if (!second) return fail(std::move(second).error());
  return Pair{std::move(*first), std::move(*second)};
}

Result<Instruction> Reading::instruction() const {
  Instruction out;
  const std::array<std::pair<std::string_view, std::string*>, 4> parts{
      {{"instruction", &out.instruction},
       {"output", &out.output},
       {"input", &out.input},
       {"system", &out.system}}};
  for (const auto& [part, target] : parts) {
    auto read = part == "instruction" || part == "output" ? text(part) : optional_text(part);
    if (!read) return fail(std::move(read).error());
    *target = std::move(*read);
  }
  return out;
}

Result<std::vector<std::int64_t>> Reading::integers(const json& value,
                                                    const std::string& path) const {
  if (!value.is_array())
    return fail(
        bad(where_, path + " is " + describe_value(value), "it is a list of whole numbers"));
  std::vector<std::int64_t> out;
  out.reserve(value.size());
  for (const json& entry : value) {
    const std::int64_t number = entry.is_number_integer()
                                    ? entry.get<std::int64_t>()
                                    : std::numeric_limits<std::int64_t>::min();
    if (number < std::numeric_limits<std::int32_t>::min() ||
        number > std::numeric_limits<std::int32_t>::max()) {
      return fail(bad(where_,
                      path + "[" + std::to_string(out.size()) + "] is " + describe_value(entry),
                      "it is a whole number of 32 bits"));
    }
    out.push_back(number);
  }
  return out;
}

Result<Tokens> Reading::tokens() const {
  auto value = require("input_ids");
  if (!value) return fail(std::move(value).error());
  auto ids = integers(**value, key("input_ids"));
  if (!ids) return fail(std::move(ids).error());
  Tokens out{{ids->begin(), ids->end()}, std::vector<std::uint8_t>(ids->size(), 1)};
  const auto negative = std::ranges::find_if(*ids, [](std::int64_t id) { return id < 0; });
  if (negative != ids->end()) {
    return fail(bad(where_, key("input_ids") + " holds " + std::to_string(*negative),
                    "token ids are not negative"));
  }
  const json* given = find("labels");
  if (given == nullptr) return out;
  auto labels = integers(*given, key("labels"));
  if (!labels) return fail(std::move(labels).error());
  if (labels->size() != ids->size()) {
    return fail(
        bad(where_,
            std::to_string(labels->size()) + " labels for " + std::to_string(ids->size()) + " ids",
            "there is one label an id"));
  }
  for (std::size_t t = 0; t < ids->size(); ++t) {
    out.trained[t] = (*labels)[t] != kUntrainedLabel;
    if (out.trained[t] != 0 && (*labels)[t] != (*ids)[t]) {
      return fail(
          bad(where_,
              key("labels") + "[" + std::to_string(t) + "] is " + std::to_string((*labels)[t]) +
                  " where the id is " + std::to_string((*ids)[t]),
              "a label is its own id, or -100 where nothing is trained; labels are not shifted"));
    }
  }
  return out;
}

template <class T>
Result<void> put(Record& record, Result<T> content) {
  if (!content) return fail(std::move(content).error());
  record.content = std::move(*content);
  return {};
}

Result<void> read_content(Record& record, const Reading& reading, RecordKind kind) {
  switch (kind) {
    case RecordKind::kMessages:
      return put(record, reading.dialogue("messages", "role", "content"));
    case RecordKind::kConversations:
      return put(record, reading.dialogue("conversations", "from", "value"));
    case RecordKind::kPair:
      return put(record, reading.pair());
    case RecordKind::kInstruction:
      return put(record, reading.instruction());
    case RecordKind::kTokens:
      return put(record, reading.tokens());
    case RecordKind::kText:
      break;
  }
  auto text = reading.text("text");
  if (!text) return fail(std::move(text).error());
  record.content = PlainText{std::move(*text)};
  return {};
}

}  // namespace

std::string_view name(RecordKind kind) {
  switch (kind) {
    case RecordKind::kMessages:
      return "messages";
    case RecordKind::kConversations:
      return "conversations";
    case RecordKind::kPair:
      return "prompt/completion";
    case RecordKind::kInstruction:
      return "instruction/output";
    case RecordKind::kText:
      return "text";
    case RecordKind::kTokens:
      return "input_ids";
  }
  return "unknown";
}

std::optional<std::string_view> Record::field(std::string_view key) const {
  for (const auto& [field_key, value] : fields) {
    if (field_key == key) return value;
  }
  return std::nullopt;
}

const std::vector<std::string>& layout_names() {
  static const std::vector<std::string> kNames{
      "messages", "conversations", "prompt",    "completion", "instruction", "input",
      "output",   "system",        "input_ids", "labels",     "text"};
  return kNames;
}

Result<RecordLayout> layout_from_map(const std::map<std::string, std::string>& map) {
  Error error{.code = ErrorCode::kConfig, .what = {}, .where = "data.fields"};
  for (const auto& [name, key] : map) {
    if (std::ranges::find(layout_names(), name) != layout_names().end()) continue;
    const auto near = config::nearest(name, layout_names());
    error.what = "there is no field \"" + printable(name, 40) + "\"";
    error.rule = "fields are " + join(layout_names(), ", ");
    if (near) error.remedy = "did you mean \"" + *near + "\"?";
    return fail(std::move(error));
  }
  for (const auto& entry : kinds()) {
    if (!std::ranges::all_of(entry.required, [&](const auto& name) { return map.contains(name); }))
      continue;
    RecordLayout layout{entry.kind, {map.begin(), map.end()}, {}};
    for (const auto& name : entry.required) layout.required.push_back(map.at(name));
    return layout;
  }
  error.what = "the fields given make no kind of record";
  error.rule = "one of these is named in full: " + known_kinds();
  return fail(std::move(error));
}

Result<RecordLayout> detect_layout(std::string_view text, const std::string& where) {
  auto object = parse_object(text, where);
  if (!object) return fail(std::move(object).error());
  for (const auto& entry : kinds()) {
    if (!std::ranges::all_of(entry.required,
                             [&](const auto& name) { return object->contains(name); }))
      continue;
    RecordLayout layout{entry.kind, {}, entry.required};
    for (const auto& name : entry.required) layout.key_of.emplace(name, name);
    for (const auto& name : entry.optional) layout.key_of.emplace(name, name);
    return layout;
  }
  std::vector<std::string> found;
  for (const auto& item : object->items()) found.push_back(printable(item.key(), 40));
  auto error = bad(where,
                   "the record has " +
                       (found.empty() ? std::string("no keys") : "the keys " + join(found, ", ")),
                   "a record has the keys of one kind: " + known_kinds());
  error.remedy =
      R"(name the keys in data.fields, for example {"prompt": "question", "completion": "answer"})";
  return fail(std::move(error));
}

Result<Record> parse_record(std::string_view text, const RecordLayout& layout, std::string where) {
  auto object = parse_object(text, where);
  if (!object) return fail(std::move(object).error());
  Record record;
  const Reading reading(*object, layout, where);
  if (auto read = read_content(record, reading, layout.kind); !read)
    return fail(std::move(read).error());
  for (const auto& [key, value] : object->items()) {
    const bool used = std::ranges::any_of(
        layout.key_of, [&, &name = key](const auto& pair) { return pair.second == name; });
    if (used || value.is_structured() || value.is_null()) continue;
    record.fields.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  record.source = std::move(where);
  return record;
}

}  // namespace strata::text
