#pragma once
// The stages of a tokenizer.json beside its model. Each is read from the file's JSON by its own
// file: normalizer.cpp, pretokenizer.cpp, decoder.cpp, post_processor.cpp. Stages are immutable and
// thread-safe.
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/bpe.h"

namespace strata::text {

/// A piece of the input on its way to words. `at_start`: it begins where the whole input begins
/// (Metaspace asks).
struct TextPart {
  std::string text;
  bool at_start = false;
};

using Normalize = std::function<std::string(std::string)>;
/// Cuts parts further; empty parts are dropped.
using PreTokenize = std::function<void(std::vector<TextPart>&)>;
/// Tokens to tokens; what is left at the end is joined.
using Decode = std::function<void(std::vector<std::string>&)>;
/// What stands before and after the ids of one text.
struct Surround {
  std::vector<Id> before;
  std::vector<Id> after;
};

/// Where a stage stands in the file, for messages.
struct StageSource {
  const nlohmann::json& json;
  std::string where;  // "tokenizer.json: pre_tokenizer"
};

[[nodiscard]] Result<Normalize> make_normalizer(const StageSource& source);
[[nodiscard]] Result<PreTokenize> make_pretokenizer(const StageSource& source);
[[nodiscard]] Result<Decode> make_decoder(const StageSource& source);
/// `id_of` finds a token's id, -1 when absent.
[[nodiscard]] Result<Surround> make_post_processor(
    const StageSource& source, const std::function<Id(std::string_view)>& id_of);

/// kUnsupported naming the stage's type and what is supported.
[[nodiscard]] tl::unexpected<Error> unsupported_stage(const StageSource& source,
                                                      std::string_view supported);
/// "type" of a stage.
[[nodiscard]] std::string stage_type(const StageSource& source);
/// The pattern of Split and Replace: {"String": ...} taken literally, or {"Regex": ...}.
[[nodiscard]] Result<
    std::function<std::vector<std::pair<std::size_t, std::size_t>>(std::string_view)>>
make_pattern(const StageSource& source);

/// GPT-2's expression for words (Radford et al. 2019); its matches leave nothing of a text out.
inline constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// GPT-2's printable stand-ins for bytes (Radford et al. 2019): byte -> character, as UTF-8.
[[nodiscard]] const std::array<std::string, 256>& byte_characters();

}  // namespace strata::text
