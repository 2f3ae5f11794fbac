#include "text/model_text.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json_depth.h"

namespace strata::text {

namespace {

using nlohmann::json;
using Path = std::filesystem::path;

// An optional JSON object: empty when the file is not there.
Result<json> read_object(const sys::Disk& disk, const Path& path) {
  if (!disk.exists(path)) return json::object();
  auto text = disk.read_text(path);
  if (!text) return fail(std::move(text).error());
  json value;
  if (json_depth(*text) <= kJsonDepthMax)
    value = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "the file is not a JSON object",
                 .where = path.string(),
                 .rule = "it is one in every Hugging Face model directory",
                 .remedy = "fetch the file again"});
  }
  return value;
}

// A token is written as its text or as an object that describes it.
std::string token_text(const json& config, const char* key) {
  const auto entry = config.find(key);
  if (entry == config.end()) return {};
  if (entry->is_string()) return entry->get<std::string>();
  if (!entry->is_object()) return {};
  const auto content = entry->find("content");
  return content != entry->end() && content->is_string() ? content->get<std::string>()
                                                         : std::string{};
}

// An id, or the list of ids newer configurations have.
std::vector<TokenId> token_ids(const json& config, const char* key) {
  std::vector<TokenId> out;
  const auto entry = config.find(key);
  if (entry == config.end()) return out;
  const json list = entry->is_array() ? *entry : json::array({*entry});
  for (const json& id : list) {
    if (id.is_number_unsigned() && id.get<std::uint64_t>() < (1u << 31))
      out.push_back(id.get<TokenId>());
  }
  return out;
}

struct Configs {
  json tokenizer;
  json special_tokens;
  json model;
  json generation;
};

Result<Configs> read_configs(const sys::Disk& disk, const Path& dir) {
  Configs out;
  const std::array<std::pair<const char*, json*>, 4> files{
      {{"tokenizer_config.json", &out.tokenizer},
       {"special_tokens_map.json", &out.special_tokens},
       {"config.json", &out.model},
       {"generation_config.json", &out.generation}}};
  for (const auto& [name, target] : files) {
    auto read = read_object(disk, dir / name);
    if (!read) return fail(std::move(read).error());
    *target = std::move(*read);
  }
  return out;
}

struct Marker {
  std::string text;
  std::optional<TokenId> id;
};

// The tokenizer's own word first; a model without one still has ids.
Marker find_marker(const Configs& configs, const Tokenizer& tokenizer, const char* text_key,
                   const char* id_key) {
  for (const json* source : {&configs.tokenizer, &configs.special_tokens}) {
    const std::string text = token_text(*source, text_key);
    if (const auto id = tokenizer.token_to_id(text); id && !text.empty()) return {text, id};
    if (source->contains(text_key) && (*source)[text_key].is_null())
      return {};  // said to have none
  }
  for (const json* source : {&configs.model, &configs.generation}) {
    for (const TokenId id : token_ids(*source, id_key)) {
      if (const auto text = tokenizer.id_to_token(id)) return {*text, id};
    }
  }
  return {};
}

struct Jinja {
  std::string text;  // empty: the model has none
  Path file;
};

Result<Jinja> find_jinja(const sys::Disk& disk, const Path& dir, const json& tokenizer_config) {
  const Path file = dir / "chat_template.jinja";
  if (disk.exists(file)) {
    auto text = disk.read_text(file);
    if (!text) return fail(std::move(text).error());
    return Jinja{std::move(*text), file};
  }
  Jinja out{{}, dir / "tokenizer_config.json"};
  const auto entry = tokenizer_config.find("chat_template");
  if (entry == tokenizer_config.end()) return out;
  if (entry->is_string()) out.text = entry->get<std::string>();
  if (!entry->is_array()) return out;
  for (const json& item : *entry) {  // several named templates: the default one is for chat
    if (item.is_object() && item.value("name", json()) == "default" &&
        item.value("template", json()).is_string()) {
      out.text = item["template"].get<std::string>();
    }
  }
  return out;
}

struct Chosen {
  ChatTemplate chat;
  std::string note;
};

Result<Chosen> choose_template(const sys::Disk& disk, const Path& dir, const json& tokenizer_config,
                               Markers markers, std::string_view name) {
  if (name != "auto") {
    auto chat = ChatTemplate::named(name, std::move(markers));
    if (!chat) return fail(std::move(chat).error());
    return Chosen{*chat, chat->describe() + " (as asked)"};
  }
  auto jinja = find_jinja(disk, dir, tokenizer_config);
  if (!jinja) return fail(std::move(jinja).error());
  if (jinja->text.empty()) {
    auto chat = ChatTemplate::named("plain", std::move(markers));
    if (!chat) return fail(std::move(chat).error());
    return Chosen{*chat, "plain (the model has no chat template)"};
  }
  auto chat = ChatTemplate::recognise(jinja->text, std::move(markers), jinja->file.string());
  if (!chat) return fail(std::move(chat).error());
  return Chosen{*chat, chat->describe() + " (from " + jinja->file.filename().string() + ")"};
}

std::vector<TokenId> find_stops(const Configs& configs, const Tokenizer& tokenizer,
                                std::optional<TokenId> eos, TemplateName chat) {
  std::vector<TokenId> out;
  const auto add = [&](std::optional<TokenId> id) {
    if (id && std::ranges::find(out, *id) == out.end()) out.push_back(*id);
  };
  add(eos);
  for (const TokenId id : token_ids(configs.generation, "eos_token_id")) add(id);
  if (chat == TemplateName::kChatMl) add(tokenizer.token_to_id("<|im_end|>"));
  if (chat == TemplateName::kLlama3) add(tokenizer.token_to_id("<|eot_id|>"));
  return out;
}

}  // namespace

Result<ModelText> load_model_text(const sys::Disk& disk, const Path& model_dir,
                                  std::string_view template_name) {
  auto tokenizer = Tokenizer::load(disk, model_dir);
  if (!tokenizer) return fail(std::move(tokenizer).error());
  auto configs = read_configs(disk, model_dir);
  if (!configs) return fail(std::move(configs).error());
  const Marker bos = find_marker(*configs, *tokenizer, "bos_token", "bos_token_id");
  const Marker eos = find_marker(*configs, *tokenizer, "eos_token", "eos_token_id");
  auto chosen =
      choose_template(disk, model_dir, configs->tokenizer, {bos.text, eos.text}, template_name);
  if (!chosen) return fail(std::move(chosen).error());
  auto stops = find_stops(*configs, *tokenizer, eos.id, chosen->chat.name());
  return ModelText{std::move(*tokenizer), std::move(chosen->chat), bos.id, eos.id,
                   std::move(stops),      std::move(chosen->note)};
}

}  // namespace strata::text
