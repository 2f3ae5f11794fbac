#include "text/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/json_depth.h"
#include "config/strict_json.h"
#include "text/added_tokens.h"
#include "text/text_stage.h"
#include "text/unicode.h"

namespace strata::text {

using nlohmann::json;

struct Tokenizer::Impl {
  Bpe model;
  Normalize normalize;  // empty: none
  PreTokenize pretokenize;
  Decode decode;
  Surround surround;
  std::vector<AddedToken> added;
  std::vector<std::string> added_text;  // what each decodes to: its normalised form when it is
                                        // searched in normalised text
  std::unordered_map<Id, std::size_t> added_by_id;
  std::unordered_set<std::string> special_texts;  // by these, not by ids, decoding leaves them out
  // Ids come from a file and may lie far apart; the texts are the vocabulary's own.
  std::unordered_map<Id, const std::string*> tokens;
  std::size_t vocab_size = 0;  // highest id + 1, added tokens included
  std::vector<AddedTokenFinder> raw_finder,
      normalized_finder;  // one each; vectors, because they are made last

  const std::string* token(Id id) const {
    if (const auto found = added_by_id.find(id); found != added_by_id.end())
      return &added_text[found->second];
    const auto found = tokens.find(id);
    return found == tokens.end() ? nullptr : found->second;
  }

  // One stretch of text without added tokens: words, then ids.
  void encode_text(std::string text, bool at_start, std::vector<Id>& out) const {
    std::vector<TextPart> parts{{std::move(text), at_start}};
    if (pretokenize) pretokenize(parts);
    for (const TextPart& part : parts) model.encode(part.text, out);
  }
};

namespace {

Error damaged(const std::string& where, std::string what) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = where,
          .remedy = "fetch the tokenizer again"};
}

bool is_id(const json& value) {
  return value.is_number_unsigned() && value.get<std::uint64_t>() <= 0x7ffffffeu;
}

Result<Vocabulary> read_vocabulary(const json& model, const std::string& where) {
  const auto vocab = model.find("vocab");
  if (vocab == model.end() || !vocab->is_object())
    return fail(damaged(where, "model.vocab is not an object"));
  Vocabulary out;
  out.reserve(vocab->size());
  for (const auto& [token, id] : vocab->items()) {
    if (!is_id(id)) {
      return fail(damaged(where, "the id of token \"" + printable(token, 60) + "\" is " +
                                     printable(id.dump(), 30)));
    }
    out.emplace(token, id.get<Id>());
  }
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> read_merges(const json& model,
                                                                     const std::string& where) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array())
    return fail(damaged(where, "model.merges is not a list"));
  std::vector<std::pair<std::string, std::string>> out;
  out.reserve(merges->size());
  for (const auto& merge : *merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      out.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : std::string();
    const auto space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return fail(damaged(where, "merge " + std::to_string(out.size()) + " is not a pair"));
    }
    out.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return out;
}

bool set(const json& object, const char* key) {
  return object.contains(key) && !object[key].is_null();
}

Result<Bpe> read_model(const json& root, const std::string& where) {
  const auto model = root.find("model");
  if (model == root.end() || !model->is_object()) return fail(damaged(where, "has no model"));
  // Files of older versions leave the type out.
  const std::string type = model->value("type", std::string(set(*model, "merges") ? "BPE" : "?"));
  if (type != "BPE") {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "is of type \"" + printable(type, 40) + "\"",
                 .where = where + ": model",
                 .rule = "supported: BPE (byte-level, or SentencePiece-style with byte fallback)"});
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    // NOLINTNEXTLINE(readability-container-size-empty): the JSON text "" is not empty()
    if (set(*model, key) && (*model)[key] != "") {
      return fail({.code = ErrorCode::kUnsupported,
                   .what = "is " + printable((*model)[key].dump(), 40),
                   .where = where + ": model." + key,
                   .rule = "only models without it are supported"});
    }
  }
  auto vocabulary = read_vocabulary(*model, where);
  if (!vocabulary) return fail(std::move(vocabulary).error());
  auto merges = read_merges(*model, where);
  if (!merges) return fail(std::move(merges).error());
  BpeOptions options;
  if (set(*model, "unk_token") && (*model)["unk_token"].is_string())
    options.unknown = (*model)["unk_token"].get<std::string>();
  options.fuse_unknown = model->value("fuse_unk", false);
  options.byte_fallback = model->value("byte_fallback", false);
  options.ignore_merges = model->value("ignore_merges", false);
  return Bpe::make(std::move(*vocabulary), *merges, std::move(options), where);
}

Result<std::vector<AddedToken>> read_added(const json& root, const std::string& where) {
  std::vector<AddedToken> out;
  for (const auto& entry : root.value("added_tokens", json::array())) {
    if (!entry.is_object() || !entry.value("content", json()).is_string() ||
        !is_id(entry.value("id", json()))) {
      return fail(damaged(where, "added_tokens[" + std::to_string(out.size()) +
                                     "] lacks a content or an id below 2^31"));
    }
    out.push_back({.id = entry["id"].get<Id>(),
                   .content = entry["content"].get<std::string>(),
                   .single_word = entry.value("single_word", false),
                   .lstrip = entry.value("lstrip", false),
                   .rstrip = entry.value("rstrip", false),
                   .normalized = entry.value("normalized", true),
                   .special = entry.value("special", false)});
  }
  return out;
}

AddedTokenFinder finder(const std::vector<AddedToken>& all, bool normalized,
                        const Normalize& normalize) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  for (const auto& token : all) {
    if (token.normalized != normalized) continue;
    tokens.push_back(token);
    patterns.push_back(normalized && normalize ? normalize(token.content) : token.content);
  }
  return AddedTokenFinder(std::move(tokens), patterns);
}

/// The stages of a file on their way into a tokenizer.
struct Stages {
  Normalize normalize;
  PreTokenize pretokenize;
  Decode decode;
  Surround surround;
};

Result<void> read_stages(const json& root, const std::string& where, Stages& stages,
                         const std::function<Id(std::string_view)>& id_of) {
  if (set(root, "normalizer")) {
    auto made = make_normalizer({root["normalizer"], where + ": normalizer"});
    if (!made) return fail(std::move(made).error());
    stages.normalize = std::move(*made);
  }
  if (set(root, "pre_tokenizer")) {
    auto made = make_pretokenizer({root["pre_tokenizer"], where + ": pre_tokenizer"});
    if (!made) return fail(std::move(made).error());
    stages.pretokenize = std::move(*made);
  }
  if (set(root, "decoder")) {
    auto made = make_decoder({root["decoder"], where + ": decoder"});
    if (!made) return fail(std::move(made).error());
    stages.decode = std::move(*made);
  }
  if (set(root, "post_processor")) {
    auto made = make_post_processor({root["post_processor"], where + ": post_processor"}, id_of);
    if (!made) return fail(std::move(made).error());
    stages.surround = std::move(*made);
  }
  return {};
}

}  // namespace

Result<Tokenizer> Tokenizer::parse(std::string_view text, const std::string& where) {
  if (json_depth(text) > kJsonDepthMax) return fail(damaged(where, "is nested too deeply"));
  std::string wrong;
  const json root = config::parse_strict(text, kJsonDepthMax, wrong);
  if (!wrong.empty()) return fail(damaged(where, wrong));
  try {
    auto model = read_model(root, where);
    if (!model) return fail(std::move(model).error());
    auto added = read_added(root, where);
    if (!added) return fail(std::move(added).error());
    const auto id_of = [&](std::string_view token) -> Id {
      for (const auto& entry : *added) {
        if (entry.content == token) return entry.id;
      }
      const auto found = model->vocabulary().find(token);
      return found == model->vocabulary().end() ? -1 : found->second;
    };
    Stages stages;
    if (auto read = read_stages(root, where, stages, id_of); !read)
      return fail(std::move(read).error());
    auto impl = std::make_unique<Impl>(Impl{.model = std::move(*model),
                                            .normalize = std::move(stages.normalize),
                                            .pretokenize = std::move(stages.pretokenize),
                                            .decode = std::move(stages.decode),
                                            .surround = std::move(stages.surround),
                                            .added = std::move(*added)});
    const auto count = [&](Id id) {
      impl->vocab_size = std::max(impl->vocab_size, static_cast<std::size_t>(id) + 1);
    };
    impl->tokens.reserve(impl->model.vocabulary().size());
    for (const auto& [token, id] : impl->model.vocabulary()) {
      impl->tokens[id] = &token;
      count(id);
    }
    for (std::size_t i = 0; i < impl->added.size(); ++i) {
      const AddedToken& token = impl->added[i];
      impl->added_by_id[token.id] = i;
      if (token.special) impl->special_texts.insert(token.content);
      count(token.id);
      impl->added_text.push_back(
          token.normalized && impl->normalize ? impl->normalize(token.content) : token.content);
    }
    impl->raw_finder.push_back(finder(impl->added, false, impl->normalize));
    impl->normalized_finder.push_back(finder(impl->added, true, impl->normalize));
    return Tokenizer(std::move(impl));
  } catch (const json::exception& problem) {
    return fail(damaged(where, std::string("has a value of the wrong type: ") + problem.what()));
  }
}

Result<Tokenizer> Tokenizer::load(const sys::Disk& disk, const std::filesystem::path& model_dir) {
  const auto path = model_dir / "tokenizer.json";
  auto text = disk.read_text(path);
  if (!text) return fail(std::move(text).error());
  return parse(*text, path.string());
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, bool add_special) const {
  if (const auto bad = first_invalid(text)) {
    return fail({.code = ErrorCode::kData,
                 .what = "byte " + std::to_string(*bad) + " of the text is not valid UTF-8",
                 .rule = "text is UTF-8"});
  }
  std::vector<TokenId> out;
  if (add_special) out = impl_->surround.before;
  for (const Found& part : impl_->raw_finder.front().cut(text)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    std::string piece(text.substr(part.begin, part.end - part.begin));
    if (impl_->normalize) piece = impl_->normalize(std::move(piece));
    for (const Found& inner : impl_->normalized_finder.front().cut(piece)) {
      if (inner.id >= 0) {
        out.push_back(inner.id);
      } else {
        impl_->encode_text(piece.substr(inner.begin, inner.end - inner.begin),
                           part.begin == 0 && inner.begin == 0, out);
      }
    }
  }
  if (add_special)
    out.insert(out.end(), impl_->surround.after.begin(), impl_->surround.after.end());
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  for (const TokenId id : ids) {
    const std::string* token = impl_->token(id);
    if (token == nullptr || (skip_special && impl_->special_texts.contains(*token))) continue;
    tokens.push_back(*token);
  }
  std::string out;
  if (impl_->decode) {
    impl_->decode(tokens);
    for (const auto& token : tokens) out += token;
    return out;
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) out += (i > 0 ? " " : "") + tokens[i];
  return out;
}

std::size_t Tokenizer::vocab_size() const { return impl_->vocab_size; }

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  for (const auto& entry : impl_->added) {
    if (entry.content == token) return entry.id;
  }
  const auto found = impl_->model.vocabulary().find(token);
  return found == impl_->model.vocabulary().end() ? std::nullopt
                                                  : std::optional<TokenId>(found->second);
}

std::optional<std::string> Tokenizer::id_to_token(TokenId id) const {
  const std::string* token = impl_->token(id);
  return token == nullptr ? std::nullopt : std::optional<std::string>(*token);
}

bool Tokenizer::is_special(TokenId id) const {
  const auto found = impl_->added_by_id.find(id);
  return found != impl_->added_by_id.end() && impl_->added[found->second].special;
}

}  // namespace strata::text
