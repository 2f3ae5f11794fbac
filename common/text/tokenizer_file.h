#pragma once
// A trained tokenizer as the files of a Hugging Face model directory.
#include <string>
#include <vector>

#include "text/bpe_trainer.h"

namespace strata::text {

/// tokenizer.json of a byte-level tokenizer: the bytes that `tokenizers` (0.23) saves for the same
/// vocabulary and merges, with ByteLevel(add_prefix_space=false) before the model and behind it.
/// `special_tokens` as given to the training.
[[nodiscard]] std::string tokenizer_json(const TrainedBpe& trained,
                                         const std::vector<std::string>& special_tokens);

/// tokenizer_config.json: what transformers makes of it, which tokens begin and end a text.
[[nodiscard]] std::string tokenizer_config_json(const std::string& bos_token,
                                                const std::string& eos_token);

}  // namespace strata::text
