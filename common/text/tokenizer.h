#pragma once
// Text <-> token ids, exactly as the Hugging Face `tokenizers` library does for the same
// tokenizer.json. Supported models: byte-level BPE (GPT-2, Llama 3, SmolLM2, Qwen) and
// SentencePiece-style BPE with byte fallback. A Tokenizer is immutable after load; encode and
// decode may be called from several threads.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"

namespace strata::text {

using TokenId = std::int32_t;

class Tokenizer {
 public:
  /// Reads `text`, a tokenizer.json. `where` names the file in errors. kFormat: damaged;
  /// kUnsupported: a model, normalizer, pre-tokenizer, post-processor or decoder strata does not
  /// implement (the message lists what it does).
  [[nodiscard]] static Result<Tokenizer> parse(std::string_view text, const std::string& where);
  /// Reads `model_dir`/tokenizer.json.
  [[nodiscard]] static Result<Tokenizer> load(const sys::Disk& disk,
                                              const std::filesystem::path& model_dir);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of `text` (UTF-8; invalid bytes are kData). `add_special`: run the post-processor (BOS/EOS
  /// templates), as `add_special_tokens=True` does. Added tokens written in the text become their
  /// ids.
  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view text, bool add_special) const;
  /// Text of `ids`, as `decode(ids, skip_special_tokens)`. Unknown ids are skipped, as the library
  /// does.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skip_special) const;

  /// One past the largest id, added tokens included.
  [[nodiscard]] std::size_t vocab_size() const;
  [[nodiscard]] std::optional<TokenId> token_to_id(std::string_view token) const;
  [[nodiscard]] std::optional<std::string> id_to_token(TokenId id) const;
  [[nodiscard]] bool is_special(TokenId id) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::text
