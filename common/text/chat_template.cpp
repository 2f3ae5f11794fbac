#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "config/section.h"

namespace strata::text {

namespace {

using Pieces = std::vector<Piece>;

constexpr std::array<std::pair<std::string_view, TemplateName>, 7> kNames{
    {{"plain", TemplateName::kPlain},
     {"chatml", TemplateName::kChatMl},
     {"llama3", TemplateName::kLlama3},
     {"llama2", TemplateName::kLlama2},
     {"mistral", TemplateName::kMistral},
     {"zephyr", TemplateName::kZephyr},
     {"alpaca", TemplateName::kAlpaca}}};

constexpr std::string_view kLlama3Start = "<|begin_of_text|>";
// Llama 3.1 and later write a date into every system message; today's would make a run depend on
// the day it is made, so the one the template itself falls back to is written.
constexpr std::string_view kLlama3Dates =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
constexpr std::string_view kAlpacaTask =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the "
    "request.\n\n";
constexpr std::string_view kEmptyThought = "<think>\n\n</think>\n\n";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// Joins neighbours of equal marks, so that a piece ends only where training starts or stops.
void append(Pieces& pieces, std::string_view text, bool trained = false) {
  if (text.empty()) return;
  if (pieces.empty() || pieces.back().trained != trained) pieces.push_back({{}, trained});
  pieces.back().text += text;
}

Error bad_dialogue(std::string what, std::string rule) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = {},
          .rule = std::move(rule),
          .remedy = "mend the record, or choose another data.template"};
}

// What rendering needs to know about one dialogue.
struct Dialog {
  std::span<const Message> messages;
  bool generation_prompt;
  std::size_t first_trained;

  [[nodiscard]] bool trains(std::size_t i) const {
    return messages[i].role == "assistant" && i >= first_trained;
  }
  [[nodiscard]] bool has_system() const {
    return !messages.empty() && messages.front().role == "system";
  }
};

// Templates that put every message into the same frame: open, role, after_role, content, end |
// close.
struct Frame {
  std::string open;
  std::string after_role;
  std::string end;    // ends a turn; trained after an assistant's words
  std::string close;  // layout between turns; never trained
  bool trims = false;
};

void add_framed(Pieces& out, const Frame& frame, std::string_view role, std::string_view content,
                bool trained) {
  append(out, frame.open);
  append(out, role);
  append(out, frame.after_role);
  append(out, frame.trims ? trimmed(content) : content, trained);
  append(out, frame.end, trained);
  append(out, frame.close);
}

// User and assistant in turns after an optional system message: what the [INST] templates insist
// on.
Result<void> check_turns(const Dialog& dialog, bool system_allowed) {
  const std::size_t begin = dialog.has_system() ? 1 : 0;
  if (begin == 1 && !system_allowed)
    return fail(bad_dialogue("there is a system message", "this template knows none"));
  for (std::size_t i = begin; i < dialog.messages.size(); ++i) {
    const std::string_view expected = (i - begin) % 2 == 0 ? "user" : "assistant";
    if (dialog.messages[i].role == expected) continue;
    return fail(
        bad_dialogue("message " + std::to_string(i + 1) + " is of role " + dialog.messages[i].role,
                     "in this template user and assistant take turns, the user first"));
  }
  return {};
}

Result<Pieces> render_llama2(const Dialog& dialog, const Markers& markers) {
  if (auto turns = check_turns(dialog, true); !turns) return fail(std::move(turns).error());
  Pieces out;
  std::string lead;
  for (std::size_t i = 0; i < dialog.messages.size(); ++i) {
    const auto& message = dialog.messages[i];
    if (message.role == "system") {
      lead = "<<SYS>>\n" + message.content + "\n<</SYS>>\n\n";
    } else if (message.role == "user") {
      const std::string content = std::exchange(lead, {}) + message.content;
      append(out, markers.bos + "[INST] " + std::string(trimmed(content)) + " [/INST]");
    } else {
      append(out, " " + std::string(trimmed(message.content)) + " " + markers.eos,
             dialog.trains(i));
    }
  }
  return out;
}

Result<Pieces> render_mistral(const Dialog& dialog, const Markers& markers) {
  if (auto turns = check_turns(dialog, false); !turns) return fail(std::move(turns).error());
  Pieces out;
  append(out, markers.bos);
  for (std::size_t i = 0; i < dialog.messages.size(); ++i) {
    const auto& message = dialog.messages[i];
    if (message.role == "user") {
      append(out, "[INST] " + message.content + " [/INST]");
    } else {
      append(out, message.content + markers.eos, dialog.trains(i));
    }
  }
  return out;
}

// The prompt of Stanford Alpaca; a system message takes the place of its opening sentence. Later
// turns follow after an empty line, of which the original has none.
Pieces render_alpaca(const Dialog& dialog, const Markers& markers) {
  Pieces out;
  append(out,
         dialog.has_system() ? dialog.messages.front().content + "\n\n" : std::string(kAlpacaTask));
  for (std::size_t i = dialog.has_system() ? 1 : 0; i < dialog.messages.size(); ++i) {
    const auto& message = dialog.messages[i];
    if (message.role == "assistant") {
      append(out, "### Response:\n");
      append(out, message.content + markers.eos, dialog.trains(i));
      if (i + 1 < dialog.messages.size()) append(out, "\n\n");
    } else {
      append(out, "### Instruction:\n" + message.content + "\n\n");
    }
  }
  if (dialog.generation_prompt) append(out, "### Response:\n");
  return out;
}

Pieces render_plain(const Dialog& dialog, const Markers& markers) {
  Pieces out;
  for (std::size_t i = 0; i < dialog.messages.size(); ++i) {
    const auto& message = dialog.messages[i];
    append(out, message.content, dialog.trains(i));
    if (message.role == "assistant") append(out, markers.eos, dialog.trains(i));
    if (i + 1 < dialog.messages.size() || (dialog.generation_prompt && message.role != "assistant"))
      append(out, "\n");
  }
  return out;
}

// Jinja with all that may vary without meaning taken out: layout, quotes, attribute or item.
std::string canonical(std::string_view jinja) {
  std::string out;
  for (std::size_t i = 0; i < jinja.size(); ++i) {
    if (jinja.substr(i).starts_with("\\n")) {
      ++i;
    } else if (jinja[i] == '"') {
      out += '\'';
    } else if (std::string_view(" \t\r\n").find(jinja[i]) == std::string_view::npos) {
      out += jinja[i];
    }
  }
  for (std::size_t at = 0; (at = out.find("message.content")) != std::string::npos;)
    out.replace(at, 15, "message['content']");
  return out;
}

// The words between "<|im_start|>system<newline>" and "<|im_end|>" where the template has them as
// one literal.
std::string default_system_of(std::string_view jinja) {
  constexpr std::string_view kOpen = "<|im_start|>system";
  for (auto at = jinja.find(kOpen); at != std::string_view::npos; at = jinja.find(kOpen, at + 1)) {
    auto rest = jinja.substr(at + kOpen.size());
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with("\n")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    const auto words = rest.substr(0, rest.find("<|im_end|>"));
    if (words.empty() || words.size() == rest.size() ||
        words.find_first_of("{}'\"\\") != std::string_view::npos)
      continue;
    return std::string(words);
  }
  return {};
}

std::optional<TemplateName> name_by_markers(std::string_view jinja) {
  const std::string text = canonical(jinja);
  const auto has = [&](std::string_view marker) { return text.find(marker) != std::string::npos; };
  if (has("<|im_start|>") && has("<|im_end|>") && !has("<|im_sep|>")) return TemplateName::kChatMl;
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return TemplateName::kLlama3;
  if (has("'<|user|>'+message['content']+eos_token")) return TemplateName::kZephyr;
  if (has("[INST]") && has("<<SYS>>") && has("content.strip()+'[/INST]'"))
    return TemplateName::kLlama2;
  // Mistral's later templates differ by single spaces, which is a different token: only the first
  // form is known.
  if (jinja.find("'[INST] ' + message['content'] + ' [/INST]'") != std::string_view::npos &&
      !has("+eos_token+''") && has("{{message['content']+eos_token}}")) {
    return TemplateName::kMistral;
  }
  if (has("###Instruction:") && has("###Response:")) return TemplateName::kAlpaca;
  return std::nullopt;
}

}  // namespace

std::string_view name(TemplateName name) {
  for (const auto& [text, value] : kNames) {
    if (value == name) return text;
  }
  return "unknown";
}

std::string template_names() {
  std::string out;
  for (const auto& [text, value] : kNames) out.append(out.empty() ? "" : ", ").append(text);
  return out;
}

Result<ChatTemplate> ChatTemplate::named(std::string_view name, Markers markers) {
  std::vector<std::string> known;
  for (const auto& [text, value] : kNames) {
    if (text == name) return ChatTemplate(value, std::move(markers));
    known.emplace_back(text);
  }
  const auto near = config::nearest(name, known);
  return fail({.code = ErrorCode::kConfig,
               .what = "there is no template \"" + printable(name, 40) + "\"",
               .where = "data.template",
               .rule = "templates are auto, " + template_names(),
               .remedy = near ? "did you mean \"" + *near + "\"?" : ""});
}

Result<ChatTemplate> ChatTemplate::recognise(std::string_view jinja, Markers markers,
                                             const std::string& where) {
  const auto name = name_by_markers(jinja);
  if (!name) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "the chat template is none that is known, it begins " +
                         printable(jinja.substr(0, 60)),
                 .where = where,
                 .rule = "known templates are " + template_names(),
                 .remedy = "choose one with data.template (--template)"});
  }
  ChatTemplate out(*name, std::move(markers));
  if (*name == TemplateName::kChatMl) {
    out.default_system_ = default_system_of(jinja);
    out.empty_thought_ = jinja.find("reasoning_content") != std::string_view::npos;
  }
  out.dated_system_ = *name == TemplateName::kLlama3 &&
                      jinja.find("Cutting Knowledge Date") != std::string_view::npos;
  return out;
}

Result<std::vector<Piece>> ChatTemplate::render(std::span<const Message> messages,
                                                bool generation_prompt,
                                                std::size_t first_trained) const {
  const auto tool = std::ranges::find(messages, std::string_view("tool"), &Message::role);
  if (tool != messages.end())
    return fail(bad_dialogue("there is a tool message", "roles are system, user and assistant"));
  const Dialog dialog{messages, generation_prompt, first_trained};
  switch (name_) {
    case TemplateName::kPlain:
      return render_plain(dialog, markers_);
    case TemplateName::kAlpaca:
      return render_alpaca(dialog, markers_);
    case TemplateName::kLlama2:
      return render_llama2(dialog, markers_);
    case TemplateName::kMistral:
      return render_mistral(dialog, markers_);
    default:
      break;
  }
  const Frame frame =
      name_ == TemplateName::kChatMl ? Frame{"<|im_start|>", "\n", "<|im_end|>", "\n"}
      : name_ == TemplateName::kLlama3
          ? Frame{"<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "", true}
          : Frame{"<|", "|>\n", markers_.eos, "\n"};
  Pieces out;
  if (name_ == TemplateName::kLlama3)
    append(out, markers_.bos.empty() ? kLlama3Start : markers_.bos);
  std::size_t next = 0;
  if (dated_system_) {
    const std::string given =
        dialog.has_system() ? std::string(trimmed(messages[next++].content)) : std::string{};
    Frame whole = frame;
    whole.trims = false;  // the dates end in an empty line, system message or not
    add_framed(out, whole, "system", std::string(kLlama3Dates) + given, false);
  } else if (!default_system_.empty() && !dialog.has_system()) {
    add_framed(out, frame, "system", default_system_, false);
  }
  for (; next < messages.size(); ++next) {
    const auto& message = messages[next];
    const bool thinks = empty_thought_ && message.role == "assistant";
    if (thinks && message.content.find("</think>") != std::string::npos) {
      return fail(
          bad_dialogue("an answer holds </think>", "reasoning inside an answer is not read"));
    }
    const bool says_so =
        thinks && next + 1 == messages.size() && next > 0 && messages[next - 1].role == "user";
    add_framed(out, frame, message.role,
               (says_so ? std::string(kEmptyThought) : std::string{}) + message.content,
               dialog.trains(next));
  }
  if (generation_prompt) append(out, frame.open + "assistant" + frame.after_role);
  return out;
}

std::string ChatTemplate::describe() const {
  std::string out(text::name(name_));
  if (!default_system_.empty())
    out += ", default system message \"" + printable(default_system_, 100) + "\"";
  if (dated_system_) out += ", dated system message";
  return out;
}

}  // namespace strata::text
