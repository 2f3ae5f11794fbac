#pragma once
// A record as its file says it, before any template or tokenizer: values without behaviour.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/hash.h"

namespace strata::text {

/// What a file's records look like; decided by their keys, one kind per file.
enum class RecordKind {
  kMessages,       // {"messages": [{"role", "content"}]}
  kConversations,  // {"conversations": [{"from", "value"}]}
  kPair,           // {"prompt", "completion"}: strings or lists of messages
  kInstruction,    // {"instruction", "input" (optional), "output"}
  kText,           // {"text"}
  kTokens,         // {"input_ids", "labels" (optional)}
};

/// `messages`, `prompt/completion`, ... as shown to people.
[[nodiscard]] std::string_view name(RecordKind kind);

/// Roles a message may have. Other spellings (`human`, `gpt`) become these while reading.
inline constexpr std::array<std::string_view, 4> kRoles{"system", "user", "assistant", "tool"};

struct Message {
  std::string role;  // one of kRoles
  std::string content;
  bool operator==(const Message&) const = default;
};

/// A dialogue. Assistant messages from number `first_trained` on are what is learnt (a list
/// `prompt` comes before it).
struct Dialogue {
  std::vector<Message> messages;
  std::size_t first_trained = 0;
};

/// A prompt and its completion, as written.
struct Pair {
  std::string prompt;
  std::string completion;
};

struct Instruction {
  std::string system;  // empty: none given
  std::string instruction;
  std::string input;  // empty: none given
  std::string output;
};

struct PlainText {
  std::string text;
};

/// Ids from elsewhere. `trained[t]` is 0 where the file's label is -100.
struct Tokens {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> trained;
};

/// An image cut into patches as its model takes them (common/vision), and its class.
struct Picture {
  std::vector<std::uint8_t> pixels;
  std::int32_t label = 0;
  std::uint32_t rows = 0;  // of its patches and its class
  Sha256 image{};          // names the image as its file has it, whatever the model's size
};

using Content = std::variant<PlainText, Pair, Instruction, Dialogue, Tokens, Picture>;

struct Record {
  Content content;
  /// The other keys of the object (strings as they are, numbers and booleans as JSON), for
  /// splitting by a field.
  std::vector<std::pair<std::string, std::string>> fields;
  std::string source;  // "file.jsonl:17"

  /// The value of an other key, or nothing.
  [[nodiscard]] std::optional<std::string_view> field(std::string_view key) const;
};

}  // namespace strata::text
