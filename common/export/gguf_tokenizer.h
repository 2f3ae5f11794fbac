#pragma once
// The tokenizer inside a GGUF file as the JSON files Hugging Face keeps it in.
#include <string>

#include "base/result.h"
#include "formats/gguf.h"

namespace strata::exporting {

struct TokenizerFiles {
  std::string tokenizer;         // tokenizer.json
  std::string tokenizer_config;  // tokenizer_config.json
  std::string chat_template;     // chat_template.jinja; empty: none
};

/// Byte-level BPE ("gpt2" with the pre-tokenizers of GPT-2, SmolLM, Llama 3 and Qwen 2) and
/// SentencePiece BPE ("llama", merges rebuilt from the scores). kUnsupported otherwise, listing
/// these; kFormat for tokens and merges that do not make a tokenizer, or are more than the model's
/// `vocab`.
[[nodiscard]] Result<TokenizerFiles> tokenizer_files(const formats::GgufFile& file,
                                                     std::size_t context_length, std::size_t vocab);

}  // namespace strata::exporting
