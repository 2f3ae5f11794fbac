#include "export/gguf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

namespace strata::exporting {
namespace {

using json = nlohmann::ordered_json;

constexpr std::int64_t kControl =
    3;  // token types of llama.cpp: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte
constexpr std::int64_t kUserDefined = 4;

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
    return Pipeline{.pretokenizer = by_regex(kLlama3), .ignore_merges = true};
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
  json vocab = json::object();
  for (std::size_t id = 0; id < tokens.size(); ++id) vocab[tokens[id]] = id;
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(tokens, file)},
              {"normalizer", pipeline->normalizer},
              {"pre_tokenizer", pipeline->pretokenizer},
              {"post_processor", nullptr},
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
                {"vocab", vocab},
                {"merges", pairs}}}};
}

Result<json> sentencepiece_tokenizer(const formats::GgufFile& file,
                                     const std::vector<std::string>& tokens) {
  const auto found = file.values().find("tokenizer.ggml.scores");
  const auto* scores =
      found == file.values().end() ? nullptr : std::get_if<std::vector<double>>(&found->second);
  if (scores == nullptr || scores->size() != tokens.size()) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "does not give one score per token",
                 .where = file.where() + ": tokenizer.ggml.scores"});
  }
  const std::string mark = "\xe2\x96\x81";
  json normalizers = json::array();
  const auto prefix = file.values().find("tokenizer.ggml.add_space_prefix");
  const bool* add_prefix =
      prefix == file.values().end() ? nullptr : std::get_if<bool>(&prefix->second);
  if (add_prefix == nullptr || *add_prefix)
    normalizers.push_back({{"type", "Prepend"}, {"prepend", mark}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}});
  json vocab = json::object();
  for (std::size_t id = 0; id < tokens.size(); ++id) vocab[tokens[id]] = id;
  const auto unknown = file.whole("tokenizer.ggml.unknown_token_id").value_or(0);
  const auto bos = file.whole("tokenizer.ggml.bos_token_id");
  json post = nullptr;
  if (bos && *bos < tokens.size()) {
    const std::string& word = tokens[*bos];
    post = {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", word}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"pair",
             {{{"SpecialToken", {{"id", word}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
              {{"SpecialToken", {{"id", word}, {"type_id", 1}}}},
              {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
            {"special_tokens", {{word, {{"id", word}, {"ids", {*bos}}, {"tokens", {word}}}}}}};
  }
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(tokens, file)},
              {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
              {"pre_tokenizer", nullptr},
              {"post_processor", post},
              {"decoder",
               {{"type", "Sequence"},
                {"decoders",
                 {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                  {{"type", "ByteFallback"}},
                  {{"type", "Fuse"}},
                  {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", unknown < tokens.size() ? json(tokens[unknown]) : json(nullptr)},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", true},
                {"byte_fallback", true},
                {"ignore_merges", false},
                {"vocab", vocab},
                {"merges", merges_from_scores(tokens, *scores)}}}};
}

}  // namespace

Result<TokenizerFiles> tokenizer_files(const formats::GgufFile& file, std::size_t context_length) {
  const auto* tokens = file.texts("tokenizer.ggml.tokens");
  if (tokens == nullptr)
    return fail({.code = ErrorCode::kFormat,
                 .what = "is missing",
                 .where = file.where() + ": tokenizer.ggml.tokens"});
  const std::string kind = file.text("tokenizer.ggml.model").value_or("");
  if (kind != "gpt2" && kind != "llama")
    return fail(no_such(file, "tokenizer.ggml.model", kind, "gpt2 llama"));
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
  const auto text = [](const json& value) {
    return value.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  };
  return TokenizerFiles{
      .tokenizer = text(*tokenizer), .tokenizer_config = text(config), .chat_template = chat};
}

}  // namespace strata::exporting
