#pragma once
// Dialogues as the text a model was trained on. A template is known by name, or recognised from the
// Jinja template a model directory carries; the Jinja itself is not executed. Equal to
// transformers' apply_chat_template for the templates listed (tests/golden/chat.py).
//
//   chatml   <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Hello<|im_end|>]\n
//            (SmolLM2, Qwen)
//   llama3   <|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>...
//            [Hello<|eot_id|>]
//   llama2   <s>[INST] Hi [/INST][ Hello </s>]
//   mistral  <s>[INST] Hi [/INST][Hello</s>]
//   zephyr   <|user|>\nHi</s>\n<|assistant|>\n[Hello</s>]\n
//   alpaca   Below is an instruction ...\n\n### Instruction:\nHi\n\n### Response:\n[Hello</s>]
//   plain    Hi\n[Hello</s>]
//
// Brackets show what is trained: an assistant's words and the token that ends its turn.
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "text/record.h"

namespace strata::text {

/// A stretch of rendered text, in order. `trained` pieces are what the model must learn to say.
struct Piece {
  std::string text;
  bool trained = false;
  bool operator==(const Piece&) const = default;
};

/// How a model writes the ends of its texts; read by load_model_text() (model_text.h). Empty: the
/// model has none.
struct Markers {
  std::string bos;
  std::string eos;
};

enum class TemplateName { kPlain, kChatMl, kLlama3, kLlama2, kMistral, kZephyr, kAlpaca };

[[nodiscard]] std::string_view name(TemplateName name);
/// Names for messages and help: "plain, chatml, ...".
[[nodiscard]] std::string template_names();

/// Immutable; may be used by several threads.
class ChatTemplate {
 public:
  /// The template called `name`, in its common form. kConfig: no such name (says the nearest).
  [[nodiscard]] static Result<ChatTemplate> named(std::string_view name, Markers markers);
  /// The template a Jinja text is, with its default system message. kUnsupported: none that is
  /// known, remedy data.template.
  [[nodiscard]] static Result<ChatTemplate> recognise(std::string_view jinja, Markers markers,
                                                      const std::string& where);

  /// The whole dialogue. `generation_prompt`: followed by what opens an assistant's turn.
  /// `first_trained`: assistant messages before this one are not trained. kData: roles in an order
  /// the template does not know.
  [[nodiscard]] Result<std::vector<Piece>> render(std::span<const Message> messages,
                                                  bool generation_prompt,
                                                  std::size_t first_trained = 0) const;

  [[nodiscard]] TemplateName name() const { return name_; }
  /// The template writes the model's start token itself, so that a tokenizer must not add it again.
  [[nodiscard]] bool has_own_start() const {
    return name_ != TemplateName::kPlain && name_ != TemplateName::kAlpaca;
  }
  /// What a dialogue without a system message is given as one; empty: nothing.
  [[nodiscard]] const std::string& default_system() const { return default_system_; }
  [[nodiscard]] const Markers& markers() const { return markers_; }
  /// "chatml, default system message \"You are ...\"", for people.
  [[nodiscard]] std::string describe() const;

 private:
  ChatTemplate(TemplateName name, Markers markers) : name_(name), markers_(std::move(markers)) {}

  TemplateName name_;
  Markers markers_;
  std::string default_system_;
  bool dated_system_ =
      false;  // Llama 3.1 and later: every dialogue opens with knowledge and today's date
  bool empty_thought_ = false;  // Qwen3: an answer without reasoning says so
};

}  // namespace strata::text
