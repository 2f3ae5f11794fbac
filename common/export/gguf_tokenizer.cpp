#include "export/gguf_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace strata::exporting {
namespace {

using json = nlohmann::ordered_json;

// Token types of llama.cpp: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte.
constexpr std::int64_t kControl = 3;
constexpr std::int64_t kUserDefined = 4;
constexpr std::size_t kTokenBytesMax = 4096;  // the longest published ones are runs of spaces

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Error no_such(const formats::GgufFile& file, const std::string& key, const std::string& value,
              const std::string& supported) {
  return {.code = ErrorCode::kUnsupported,
          .what = "is \"" + printable(value, 60) + "\"",
          .where = file.where() + ": " + key,
          .rule = "supported: " + supported};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json by_regex(std::string_view pattern) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern", {{"Regex", std::string(pattern)}}},
             {"behavior", "Isolated"},
             {"invert", false}},
            byte_level(false)}}};
}

struct Pipeline {
  json normalizer = nullptr;
  json pretokenizer;
  bool ignore_merges = false;
  bool add_bos = false;  // unless the file says otherwise
};

// What llama.cpp calls the pre-tokenizer decides how text is cut before merging.
Result<Pipeline> pipeline_of(const formats::GgufFile& file) {
  const std::string pre = file.text("tokenizer.ggml.pre").value_or("default");
  if (pre == "smollm") {
    return Pipeline{
        .pretokenizer = {{"type", "Sequence"},
                         {"pretokenizers",
                          {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}}}};
  }
  if (pre == "gpt-2" || pre == "default") return Pipeline{.pretokenizer = byte_level(true)};
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3")
    return Pipeline{.pretokenizer = by_regex(kLlama3), .ignore_merges = true, .add_bos = true};
  if (pre == "qwen2")
    return Pipeline{.normalizer = {{"type", "NFC"}}, .pretokenizer = by_regex(kQwen2)};
  return fail(no_such(file, "tokenizer.ggml.pre", pre, "smollm gpt-2 default llama-bpe qwen2"));
}

json added_tokens(const std::vector<std::string>& tokens, const formats::GgufFile& file) {
  json out = json::array();
  const auto found = file.values().find("tokenizer.ggml.token_type");
  const auto* types = found == file.values().end()
                          ? nullptr
                          : std::get_if<std::vector<std::int64_t>>(&found->second);
  for (std::size_t id = 0; types != nullptr && id < std::min(tokens.size(), types->size()); ++id) {
    const std::int64_t type = (*types)[id];
    if (type != kControl && type != kUserDefined && type != 2) continue;
    out.push_back({{"id", id},
                   {"content", tokens[id]},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", type != kUserDefined}});
  }
  return out;
}

// SentencePiece keeps scores instead of merges: a merge is any cut of a token into two tokens,
// better scores first, then (as the converters of transformers do) by the ids of the parts.
json merges_from_scores(const std::vector<std::string>& tokens, const std::vector<double>& scores) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], id);
  struct Cut {
    std::size_t left, right, made;
  };
  std::vector<Cut> cuts;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    for (std::size_t at = 1; at < token.size(); ++at) {
      const auto left = ids.find(token.substr(0, at));
      const auto right = ids.find(token.substr(at));
      if (left != ids.end() && right != ids.end())
        cuts.push_back({left->second, right->second, id});
    }
  }
  std::sort(cuts.begin(), cuts.end(), [&](const Cut& a, const Cut& b) {
    if (scores[a.made] != scores[b.made]) return scores[a.made] > scores[b.made];
    return std::tie(a.left, a.right) < std::tie(b.left, b.right);
  });
  json out = json::array();
  for (const auto& cut : cuts) out.push_back({tokens[cut.left], tokens[cut.right]});
  return out;
}

// Texts by id. Appended without a search for equal keys, which would take the square of their
// number; check_tokens has seen that there are none.
json vocabulary(const std::vector<std::string>& tokens) {
  json::object_t out;
  out.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) out.emplace_back(tokens[id], id);
  return out;
}

// The start and end tokens that the tokenizer itself puts around a text.
json post_processor(const formats::GgufFile& file, const std::vector<std::string>& tokens,
                    bool bos_by_default) {
  json single = json::array(), pair = json::array(), special = json::object();
  const auto add = [&](const char* id_key, bool wanted) {
    const auto id = file.whole(id_key);
    if (!wanted || !id || *id >= tokens.size()) return;
    const std::string& word = tokens[*id];
    single.push_back({{"SpecialToken", {{"id", word}, {"type_id", 0}}}});
    special[word] = {{"id", word}, {"ids", {*id}}, {"tokens", {word}}};
  };
  const auto sequence = [](const char* name, int type) {
    return json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  add("tokenizer.ggml.bos_token_id",
      file.flag("tokenizer.ggml.add_bos_token").value_or(bos_by_default));
  single.push_back(sequence("A", 0));
  add("tokenizer.ggml.eos_token_id", file.flag("tokenizer.ggml.add_eos_token").value_or(false));
  if (special.empty()) return nullptr;
  for (const int type : {0, 1}) {  // both texts dressed alike
    for (json item : single) {
      if (item.contains("SpecialToken")) {
        item["SpecialToken"]["type_id"] = type;
        pair.push_back(std::move(item));
      } else {
        pair.push_back(sequence(type == 0 ? "A" : "B", type));
      }
    }
  }
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

Result<void> check_tokens(const formats::GgufFile& file, const std::vector<std::string>& tokens,
                          std::size_t vocab) {
  const auto refuse = [&](std::size_t id, std::string what, std::string rule) {
    return fail({.code = ErrorCode::kFormat,
                 .what = std::move(what),
                 .where = file.where() + ": tokenizer.ggml.tokens[" + std::to_string(id) + "]",
                 .rule = std::move(rule)});
  };
  if (tokens.empty() || tokens.size() > vocab) {
    return refuse(tokens.size(), std::to_string(tokens.size()) + " tokens",
                  "the model has embeddings for 1 to " + std::to_string(vocab));
  }
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].size() > kTokenBytesMax)
      return refuse(id, std::to_string(tokens[id].size()) + " bytes",
                    "tokens are shorter than " + std::to_string(kTokenBytesMax));
    if (text::first_invalid(tokens[id])) return refuse(id, "is not UTF-8", "tokens are texts");
    const auto [first, is_new] = seen.emplace(tokens[id], id);
    if (!is_new)
      return refuse(id,
                    "\"" + printable(tokens[id], 60) + "\" is token " +
                        std::to_string(first->second) + " too",
                    "tokens are unique");
  }
  return {};
}

Result<json> byte_level_tokenizer(const formats::GgufFile& file,
                                  const std::vector<std::string>& tokens) {
  auto pipeline = pipeline_of(file);
  if (!pipeline) return fail(std::move(pipeline).error());
  const auto* merges = file.texts("tokenizer.ggml.merges");
  if (merges == nullptr) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "is missing",
                 .where = file.where() + ": tokenizer.ggml.merges"});
  }
  json pairs = json::array();
  for (const auto& merge : *merges) {
    const auto space =
        merge.find(' ', 1);  // a part may itself begin with a space stand-in, never with a space
    pairs.push_back(
        {merge.substr(0, space), space == std::string::npos ? "" : merge.substr(space + 1)});
  }
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(tokens, file)},
              {"normalizer", pipeline->normalizer},
              {"pre_tokenizer", pipeline->pretokenizer},
              {"post_processor", post_processor(file, tokens, pipeline->add_bos)},
              {"decoder",
               {{"type", "ByteLevel"},
                {"add_prefix_space", true},
                {"trim_offsets", true},
                {"use_regex", true}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", pipeline->ignore_merges},
                {"vocab", vocabulary(tokens)},
                {"merges", pairs}}}};
}

Result<json> sentencepiece_tokenizer(const formats::GgufFile& file,
                                     const std::vector<std::string>& tokens) {
  const auto found = file.values().find("tokenizer.ggml.scores");
  const auto* scores =
      found == file.values().end() ? nullptr : std::get_if<std::vector<double>>(&found->second);
  const bool whole = scores != nullptr && scores->size() == tokens.size() &&
                     std::all_of(scores->begin(), scores->end(),
                                 [](double score) { return std::isfinite(score); });
  if (!whole) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "does not give one finite score per token",
                 .where = file.where() + ": tokenizer.ggml.scores"});
  }
  const std::string mark = "\xe2\x96\x81";
  const bool add_prefix = file.flag("tokenizer.ggml.add_space_prefix").value_or(true);
  json normalizers = json::array();
  if (add_prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", mark}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}});
  json decoders = {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}};
  if (add_prefix)
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  const auto unknown = file.whole("tokenizer.ggml.unknown_token_id").value_or(0);
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(tokens, file)},
              {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
              {"pre_tokenizer", nullptr},
              {"post_processor", post_processor(file, tokens, true)},
              {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", unknown < tokens.size() ? json(tokens[unknown]) : json(nullptr)},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", true},
                {"byte_fallback", true},
                {"ignore_merges", false},
                {"vocab", vocabulary(tokens)},
                {"merges", merges_from_scores(tokens, *scores)}}}};
}

}  // namespace

Result<TokenizerFiles> tokenizer_files(const formats::GgufFile& file, std::size_t context_length,
                                       std::size_t vocab) {
  const auto* tokens = file.texts("tokenizer.ggml.tokens");
  if (tokens == nullptr)
    return fail({.code = ErrorCode::kFormat,
                 .what = "is missing",
                 .where = file.where() + ": tokenizer.ggml.tokens"});
  const std::string kind = file.text("tokenizer.ggml.model").value_or("");
  if (kind != "gpt2" && kind != "llama")
    return fail(no_such(file, "tokenizer.ggml.model", kind, "gpt2 llama"));
  if (auto sound = check_tokens(file, *tokens, vocab); !sound)
    return fail(std::move(sound).error());
  auto tokenizer =
      kind == "gpt2" ? byte_level_tokenizer(file, *tokens) : sentencepiece_tokenizer(file, *tokens);
  if (!tokenizer) return fail(std::move(tokenizer).error());

  json config{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"model_max_length", context_length}};
  const auto token = [&](const char* name, const char* key) {
    const auto id = file.whole(key);
    if (id && *id < tokens->size()) config[name] = (*tokens)[*id];
  };
  token("bos_token", "tokenizer.ggml.bos_token_id");
  token("eos_token", "tokenizer.ggml.eos_token_id");
  token("pad_token", "tokenizer.ggml.padding_token_id");
  token("unk_token", "tokenizer.ggml.unknown_token_id");
  const std::string chat = file.text("tokenizer.chat_template").value_or("");
  if (!chat.empty()) config["chat_template"] = chat;
  config["clean_up_tokenization_spaces"] = false;
  const auto text_of = [](const json& value) {
    return value.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  };
  TokenizerFiles out{
      .tokenizer = text_of(*tokenizer), .tokenizer_config = text_of(config), .chat_template = chat};
  // Merges of unknown tokens and the like: a tokenizer that cannot be read back is not written.
  if (auto sound = text::Tokenizer::parse(out.tokenizer, file.where() + ": tokenizer"); !sound)
    return fail(std::move(sound).error());
  return out;
}

}  // namespace strata::exporting
