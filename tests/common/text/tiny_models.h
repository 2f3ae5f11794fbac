#pragma once
// Model directories with tokenizers small enough to know every id by heart.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/process.h"
#include "text/model_text.h"

namespace strata::text {

/// Printable ASCII characters one by one, "ab" merged; <s> and </s>, <|im_start|> and <|im_end|>
/// are special. A space is
/// "\u0120" and a line break "\u010a", as in GPT-2.
inline nlohmann::json tiny_tokenizer() {
  nlohmann::json vocab;
  int next = 0;
  nlohmann::json added = nlohmann::json::array();
  for (const char* token : {"<s>", "</s>", "<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", next},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
    vocab[token] = next++;
  }
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = next++;
  for (const char* token : {"\u0120", "\u010a", "ab"}) vocab[token] = next++;
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "ByteLevel"},
            {"add_prefix_space", false},
            {"trim_offsets", true},
            {"use_regex", true}}},
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
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", {"a b"}}}}};
}

/// The same, starting every text with <s> as Llama's does.
inline nlohmann::json tiny_tokenizer_with_start() {
  auto out = tiny_tokenizer();
  out["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair",
       {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {0}}, {"tokens", {"<s>"}}}}}}};
  return out;
}

/// SentencePiece style: a "\u2581" before the text and for every space, no pre-tokenizer.
inline nlohmann::json tiny_sentencepiece() {
  auto out = tiny_tokenizer();
  out["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "Prepend"}, {"prepend", "\u2581"}},
        {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
  out["pre_tokenizer"] = nullptr;
  out["decoder"] = {{"type", "Sequence"},
                    {"decoders",
                     {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                      {{"type", "Fuse"}},
                      {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  auto& vocab = out["model"]["vocab"];
  vocab["\u2581"] = vocab.size();
  return out;
}

class TinyModel {
 public:
  explicit TinyModel(const nlohmann::json& tokenizer,
                     const nlohmann::json& config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}}) {
    write("tokenizer.json", tokenizer.dump());
    write("tokenizer_config.json", config.dump());
  }
  void write(const std::string& name, const std::string& content) {
    support::write_file(folder_.path() / name, content);
  }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_.path(); }
  [[nodiscard]] Result<ModelText> load(std::string_view chat = "auto") const {
    return load_model_text(*sys::make_posix_disk(), folder_.path(), chat);
  }

 private:
  support::ScratchFolder folder_;
};

}  // namespace strata::text
