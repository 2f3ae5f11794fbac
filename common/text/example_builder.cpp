#include "text/example_builder.h"

#include <algorithm>
#include <utility>

namespace strata::text {

namespace {

// Alpaca's two openings differ in this sentence; the message text carries the input in its own
// section.
constexpr std::string_view kAlpacaInputTask =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. "
    "Write a response that appropriately completes the request.";

bool is_plain(const ModelText& model) { return model.chat.name() == TemplateName::kPlain; }

std::string with_input(const Instruction& record, std::string_view between) {
  return record.input.empty() ? record.instruction
                              : record.instruction + std::string(between) + record.input;
}

// Neighbours of equal marks joined, empty ones left out.
std::vector<Piece> pair_pieces(std::string prompt, std::string completion) {
  std::vector<Piece> out;
  if (!prompt.empty()) out.push_back({std::move(prompt), false});
  out.push_back({std::move(completion), true});
  return out;
}

std::vector<Message> dialogue_of(const Instruction& record, TemplateName chat) {
  const bool alpaca = chat == TemplateName::kAlpaca && !record.input.empty();
  std::vector<Message> out;
  if (!record.system.empty()) {
    out.push_back({"system", record.system});
  } else if (alpaca) {
    out.push_back({"system", std::string(kAlpacaInputTask)});
  }
  out.push_back({"user", with_input(record, alpaca ? "\n\n### Input:\n" : "\n")});
  out.push_back({"assistant", record.output});
  return out;
}

// A record that is not text, ids or a plain pair as a dialogue.
Dialogue dialogue_of(const Record& record, TemplateName chat) {
  if (const auto* dialogue = std::get_if<Dialogue>(&record.content)) return *dialogue;
  if (const auto* pair = std::get_if<Pair>(&record.content)) {
    return {{{"user", pair->prompt}, {"assistant", pair->completion}}, 0};
  }
  return {dialogue_of(std::get<Instruction>(record.content), chat), 0};
}

// Prompt and completion of a record under the plain template; nothing for dialogues, text and ids.
std::optional<Pair> plain_pair(const Record& record, const BuildOptions& options) {
  if (const auto* pair = std::get_if<Pair>(&record.content))
    return Pair{pair->prompt + options.separator, pair->completion};
  if (const auto* task = std::get_if<Instruction>(&record.content)) {
    const std::string lead = task->system.empty() ? std::string{} : task->system + "\n";
    return Pair{lead + with_input(*task, "\n") + "\n", task->output};
  }
  return std::nullopt;
}

// Errors of tokenizers and templates know nothing of files.
Error located(Error error, const std::string& source) {
  if (error.where.empty())
    error.where = source;
  else
    error.doing.push_back(source);
  return error;
}

bool is_prefix(std::span<const TokenId> prefix, std::span<const TokenId> whole) {
  return prefix.size() <= whole.size() && std::ranges::equal(prefix, whole.first(prefix.size()));
}

}  // namespace

DataReport& DataReport::operator+=(const DataReport& other) {
  records += other.records;
  examples += other.examples;
  dropped += other.dropped;
  truncated += other.truncated;
  tokens += other.tokens;
  trained_tokens += other.trained_tokens;
  cut_tokens += other.cut_tokens;
  tokenized_apart += other.tokenized_apart;
  return *this;
}

std::string DataReport::line(std::size_t max_length) const {
  std::string out = std::to_string(records) + " records: " + std::to_string(examples) + " kept";
  if (truncated > 0) {
    out += " (" + std::to_string(truncated) + " cut at " + std::to_string(max_length) +
           " tokens, " + std::to_string(cut_tokens) + " tokens lost)";
  }
  if (dropped > 0) out += ", " + std::to_string(dropped) + " dropped (nothing to train on)";
  out += ", " + std::to_string(tokens) + " tokens, " + std::to_string(trained_tokens) + " trained";
  if (tokenized_apart > 0)
    out += ", " + std::to_string(tokenized_apart) + " with prompt and answer tokenized apart";
  return out;
}

ExampleBuilder::ExampleBuilder(const ModelText& model, BuildOptions options)
    : model_(model), options_(std::move(options)) {
  check(options_.max_length >= 2, "an example of fewer than two tokens predicts nothing");
  // What a post-processor adds, seen on a text that stays whole between the additions.
  const auto bare = model_.tokenizer.encode("a", false);
  const auto dressed = model_.tokenizer.encode("a", true);
  if (!bare || !dressed || bare->empty()) return;
  const auto inner = std::search(dressed->begin(), dressed->end(), bare->begin(), bare->end());
  if (inner == dressed->end()) return;
  start_.assign(dressed->begin(), inner);
  end_.assign(inner + static_cast<std::ptrdiff_t>(bare->size()), dressed->end());
}

Result<ExampleBuilder::Rendered> ExampleBuilder::render(const Record& record) const {
  if (const auto* text = std::get_if<PlainText>(&record.content)) {
    return Rendered{{{text->text, true}}, false};
  }
  if (is_plain(model_)) {
    if (auto pair = plain_pair(record, options_)) {
      return Rendered{
          pair_pieces(std::move(pair->prompt), pair->completion + model_.chat.markers().eos),
          false};
    }
  }
  const Dialogue dialogue = dialogue_of(record, model_.chat.name());
  auto pieces = model_.chat.render(dialogue.messages, false, dialogue.first_trained);
  if (!pieces) return fail(located(std::move(pieces).error(), record.source));
  return Rendered{std::move(*pieces), model_.chat.has_own_start()};
}

Result<ExampleBuilder::Tokenized> ExampleBuilder::tokenize_pieces(
    std::span<const Piece> pieces) const {
  // Pieces one by one, and the whole: equal in almost every case, and then the pieces' lengths are
  // the boundaries.
  Tokenized out;
  std::string text;
  for (const Piece& piece : pieces) {
    auto ids = model_.tokenizer.encode(piece.text, false);
    if (!ids) return fail(std::move(ids).error());
    out.tokens.insert(out.tokens.end(), ids->begin(), ids->end());
    out.trained.insert(out.trained.end(), ids->size(), piece.trained ? 1 : 0);
    text += piece.text;
  }
  auto whole = model_.tokenizer.encode(text, false);
  if (!whole) return fail(std::move(whole).error());
  if (*whole == out.tokens) return out;
  // Otherwise a boundary is the length of the tokenised text before it, provided that is how the
  // whole begins.
  std::vector<std::uint8_t> trained;
  std::string before;
  for (const Piece& piece : pieces) {
    before += piece.text;
    auto ids = model_.tokenizer.encode(before, false);
    if (!ids) return fail(std::move(ids).error());
    if (!is_prefix(*ids, *whole) || ids->size() < trained.size()) {
      out.apart = true;
      return out;
    }
    trained.resize(ids->size(), piece.trained ? 1 : 0);
  }
  return Tokenized{std::move(*whole), std::move(trained), false};
}

void ExampleBuilder::add_ends(Tokenized& tokenized, bool has_own_start) const {
  if (has_own_start) return;
  tokenized.tokens.insert(tokenized.tokens.begin(), start_.begin(), start_.end());
  tokenized.trained.insert(tokenized.trained.begin(), start_.size(), 0);
  const bool ended = !end_.empty() && tokenized.tokens.size() >= end_.size() &&
                     std::equal(end_.begin(), end_.end(),
                                tokenized.tokens.end() - static_cast<std::ptrdiff_t>(end_.size()));
  if (ended) return;
  tokenized.tokens.insert(tokenized.tokens.end(), end_.begin(), end_.end());
  tokenized.trained.insert(tokenized.trained.end(), end_.size(), 1);
}

Result<ExampleBuilder::Tokenized> ExampleBuilder::checked_ids(const Record& record) const {
  const auto& given = std::get<Tokens>(record.content);
  const auto vocab = model_.tokenizer.vocab_size();
  for (std::size_t t = 0; t < given.ids.size(); ++t) {
    if (static_cast<std::size_t>(given.ids[t]) < vocab) continue;
    return fail({.code = ErrorCode::kData,
                 .what = "input_ids[" + std::to_string(t) + "] is " + std::to_string(given.ids[t]),
                 .where = record.source,
                 .rule = "the model's vocabulary has the ids 0 to " + std::to_string(vocab - 1),
                 .remedy = "tokenize the data with this model's tokenizer"});
  }
  Tokenized out{given.ids, given.trained, false};
  if (!out.trained.empty()) out.trained.front() = 0;  // nothing comes before it
  return out;
}

Result<ExampleBuilder::Tokenized> ExampleBuilder::tokenize(const Record& record) const {
  if (std::holds_alternative<Tokens>(record.content)) return checked_ids(record);
  auto rendered = render(record);
  if (!rendered) return fail(std::move(rendered).error());
  auto tokenized = tokenize_pieces(rendered->pieces);
  if (!tokenized) return fail(located(std::move(tokenized).error(), record.source));
  add_ends(*tokenized, rendered->has_own_start);
  const bool is_text = std::holds_alternative<PlainText>(record.content);
  const bool ended = !tokenized->tokens.empty() && tokenized->tokens.back() == model_.eos;
  if (is_text && model_.eos && !ended) {
    tokenized->tokens.push_back(*model_.eos);
    tokenized->trained.push_back(1);
  }
  if (!options_.completion_only) std::ranges::fill(tokenized->trained, 1);
  if (!tokenized->trained.empty()) tokenized->trained.front() = 0;
  return tokenized;
}

Result<Example> ExampleBuilder::build(const Record& record) const {
  auto tokenized = tokenize(record);
  if (!tokenized) return fail(std::move(tokenized).error());
  return Example{std::move(tokenized->tokens), std::move(tokenized->trained), record.source};
}

Result<Examples> ExampleBuilder::build_all(std::span<const Record> records, std::string_view who,
                                           std::string_view path) const {
  Examples out;
  out.examples.reserve(records.size());
  for (const Record& record : records) {
    auto tokenized = tokenize(record);
    if (!tokenized)
      return fail(std::move(tokenized).error(), "reading the data of " + std::string(who));
    ++out.report.records;
    out.report.tokenized_apart += tokenized->apart ? 1 : 0;
    const std::size_t full = tokenized->tokens.size();
    const std::size_t kept = std::min(full, options_.max_length);
    out.report.cut_tokens += full - kept;
    tokenized->tokens.resize(kept);
    tokenized->trained.resize(kept);
    Example example{std::move(tokenized->tokens), std::move(tokenized->trained), record.source};
    const std::size_t trained = example.trained_tokens();
    if (trained == 0) {
      ++out.report.dropped;
      continue;
    }
    out.report.truncated += kept < full ? 1 : 0;
    out.report.tokens += kept;
    out.report.trained_tokens += trained;
    ++out.report.examples;
    out.examples.push_back(std::move(example));
  }
  if (!out.examples.empty()) return out;
  Error error{.code = ErrorCode::kData,
              .what = std::string(who) + " has no record",
              .where = std::string(path)};
  error.rule =
      "every client and every evaluation needs at least one record with a token to train on";
  if (out.report.records > 0) {
    error.what = std::string(who) + " has no token to train on in " +
                 std::to_string(out.report.records) + " records";
    error.remedy = out.report.cut_tokens > 0
                       ? "raise max_length above " + std::to_string(options_.max_length)
                       : "look at the records with `strata data preview`";
  }
  return fail(std::move(error));
}

Result<Prompt> ExampleBuilder::build_prompt(const Record& record) const {
  if (std::holds_alternative<Tokens>(record.content)) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "a record of input_ids has no prompt",
                 .where = record.source,
                 .rule = "prompts come from records with text"});
  }
  std::string text;
  Prompt out;
  bool has_own_start = false;
  const auto pair = is_plain(model_) ? plain_pair(record, options_) : std::nullopt;
  if (const auto* whole = std::get_if<PlainText>(&record.content)) {
    text = whole->text;
  } else if (pair) {
    text = pair->prompt;
    out.reference = pair->completion;
  } else {
    Dialogue dialogue = dialogue_of(record, model_.chat.name());
    if (dialogue.messages.back().role == "assistant") {
      out.reference = std::move(dialogue.messages.back().content);
      dialogue.messages.pop_back();
    }
    auto pieces = model_.chat.render(dialogue.messages, true, dialogue.first_trained);
    if (!pieces) return fail(located(std::move(pieces).error(), record.source));
    for (const Piece& piece : *pieces) text += piece.text;
    has_own_start = model_.chat.has_own_start();
  }
  auto ids = model_.tokenizer.encode(text, false);
  if (!ids) return fail(located(std::move(ids).error(), record.source));
  if (!has_own_start) out.tokens = start_;
  out.tokens.insert(out.tokens.end(), ids->begin(), ids->end());
  return out;
}

}  // namespace strata::text
