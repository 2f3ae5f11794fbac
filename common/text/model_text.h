#pragma once
// What a Hugging Face model directory says about text: its tokenizer, the tokens that begin and end
// texts, its chat template.
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace strata::text {

struct ModelText {
  Tokenizer tokenizer;
  ChatTemplate chat;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  /// Tokens at which generation stops: eos, those of generation_config.json, the template's end of
  /// a turn. No duplicates.
  std::vector<TokenId> stops;
  /// "chatml from chat_template.jinja, default system message ...", for people.
  std::string template_note;
};

/// Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat_template.jinja,
/// config.json and generation_config.json of `model_dir`, all but the first optional.
/// `template_name`: one of template_names(), or "auto": the model's own, plain when it has none.
[[nodiscard]] Result<ModelText> load_model_text(const sys::Disk& disk,
                                                const std::filesystem::path& model_dir,
                                                std::string_view template_name = "auto");

}  // namespace strata::text
