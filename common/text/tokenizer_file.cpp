#include "text/tokenizer_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace strata::text {

namespace {

using nlohmann::ordered_json;

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// `text` with all lines but the first further right.
std::string indented(std::string_view text, std::size_t by) {
  std::string out;
  for (const char c : text) {
    out += c;
    if (c == '\n') out.append(by, ' ');
  }
  return out;
}

}  // namespace

// Written by hand where it is long: an object of thousands of keys in the order of their ids is
// what the JSON library is slow at.
std::string tokenizer_json(const TrainedBpe& trained,
                           const std::vector<std::string>& special_tokens) {
  ordered_json added = ordered_json::array();
  for (std::size_t id = 0; id < trained.tokens.size(); ++id) {
    // Special tokens have the first ids.
    if (std::ranges::find(special_tokens, trained.tokens[id]) == special_tokens.end()) break;
    added.push_back({{"id", id},
                     {"content", trained.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const auto stage = [](bool prefix) {
    return ordered_json{{"type", "ByteLevel"},
                        {"add_prefix_space", prefix},
                        {"trim_offsets", true},
                        {"use_regex", true}};
  };
  std::string vocab, merges;
  for (std::size_t id = 0; id < trained.tokens.size(); ++id) {
    vocab += (id == 0 ? "\n      " : ",\n      ") + quoted(trained.tokens[id]) + ": " +
             std::to_string(id);
  }
  for (const auto& [left, right] : trained.merges) {
    merges += (merges.empty() ? "\n      [\n        " : ",\n      [\n        ") + quoted(left) +
              ",\n        " + quoted(right) + "\n      ]";
  }
  if (!merges.empty()) merges += "\n    ";
  return "{\n"
         "  \"version\": \"1.0\",\n"
         "  \"truncation\": null,\n"
         "  \"padding\": null,\n"
         "  \"added_tokens\": " +
         indented(added.dump(2), 2) +
         ",\n"
         "  \"normalizer\": null,\n"
         "  \"pre_tokenizer\": " +
         indented(stage(false).dump(2), 2) +
         ",\n"
         "  \"post_processor\": null,\n"
         "  \"decoder\": " +
         indented(stage(true).dump(2), 2) +
         ",\n"
         "  \"model\": {\n"
         "    \"type\": \"BPE\",\n"
         "    \"dropout\": null,\n"
         "    \"unk_token\": null,\n"
         "    \"continuing_subword_prefix\": null,\n"
         "    \"end_of_word_suffix\": null,\n"
         "    \"fuse_unk\": false,\n"
         "    \"byte_fallback\": false,\n"
         "    \"ignore_merges\": false,\n"
         "    \"vocab\": {" +
         vocab +
         "\n    },\n"
         "    \"merges\": [" +
         merges +
         "]\n"
         "  }\n"
         "}";
}

std::string tokenizer_config_json(const std::string& bos_token, const std::string& eos_token) {
  return ordered_json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"bos_token", bos_token},
                      {"eos_token", eos_token},
                      {"clean_up_tokenization_spaces", false}}
             .dump(1) +
         "\n";
}

}  // namespace strata::text
