// strata generate: continues a prompt, or answers it as a chat.
#include "evaluation/generate.h"

#include <fmt/format.h>

#include <ostream>

#include "cli/loaded_model.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "tensor/team.h"
#include "text/example_builder.h"

namespace strata::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string prompt;
  std::string system;
  bool chat = false;
  std::size_t max_new_tokens = 128;
  double temperature = 0.0;
  double top_p = 1.0;
  std::uint64_t seed = 0;
};

Result<std::vector<std::int32_t>> prompt_tokens(const Options& options, const text::ModelText& text,
                                                const text::BuildOptions& build) {
  if (!options.chat) return text.tokenizer.encode(options.prompt, true);
  text::Dialogue dialogue;
  if (!options.system.empty()) dialogue.messages.push_back({"system", options.system});
  dialogue.messages.push_back({"user", options.prompt});
  dialogue.messages.push_back({"assistant", ""});  // what is asked for
  auto prompt =
      text::ExampleBuilder(text, build).build_prompt({.content = dialogue, .source = "--prompt"});
  if (!prompt) return fail(std::move(prompt).error());
  return std::move(prompt->tokens);
}

Result<VerbOutput> generate(const Options& options, Context& context) {
  auto loaded = load_model(context.disk, options.model);
  if (!loaded) return fail(std::move(loaded).error());
  if (!loaded->text.text) {
    return fail({.code = ErrorCode::kFileMissing,
                 .what = "no tokenizer.json",
                 .where = options.model.model,
                 .rule = "generating text needs the model's tokenizer"});
  }
  const auto& text = *loaded->text.text;
  auto prompt = prompt_tokens(options, text, loaded->text.options);
  if (!prompt) return fail(std::move(prompt).error());
  model::Workspace workspace(context.threads);
  // On a terminal the text appears as it comes: what decoding all tokens so far adds to what is
  // shown. Bytes of a character that is not complete yet decode to U+FFFD and wait.
  std::vector<std::int32_t> so_far;
  std::size_t shown = 0;
  const double start = context.clock.seconds();
  auto tokens = evaluation::generate(
      loaded->model, loaded->beside(), std::vector<std::vector<std::int32_t>>{*prompt},
      {.max_new_tokens = options.max_new_tokens,
       .temperature = options.temperature,
       .top_p = options.top_p,
       .stops = text.stops,
       .stream = sys::Stream(options.seed),
       .on_token =
           [&](std::size_t, std::int32_t token) {
             if (context.json) return;
             so_far.push_back(token);
             const std::string decoded = text.tokenizer.decode(so_far, true);
             if (decoded.ends_with("\xef\xbf\xbd") || decoded.size() <= shown) return;
             context.out << decoded.substr(shown) << std::flush;
             shown = decoded.size();
           },
       .stopped = context.stopped},
      workspace);
  if (!tokens) return fail(std::move(tokens).error());
  const double seconds = context.clock.seconds() - start;
  const std::string decoded = text.tokenizer.decode(tokens->front(), true);
  VerbOutput out;
  out.data = {
      {"text", decoded},
      {"tokens", tokens->front()},
      {"prompt_tokens", prompt->size()},
      {"seconds", seconds},
      {"tokens_per_second", static_cast<double>(tokens->front().size()) / std::max(seconds, 1e-9)}};
  out.text = decoded.substr(std::min(shown, decoded.size())) + "\n";
  return out;
}

}  // namespace

Verb generate_verb() {
  return {
      .name = "generate",
      .help = "continue a prompt or answer it as a chat",
      .example =
          "strata generate --model DIR --adapter PEFT_DIR --chat --prompt \"Why is the sky blue?\"",
      .declare = [](CLI::App& command) -> RunVerb {
        auto options = std::make_shared<Options>();
        options->model.declare(command);
        command
            .add_option("--prompt", options->prompt, "the text to continue, or the user's message")
            ->required();
        command.add_option("--system", options->system, "system message of a chat");
        command.add_flag("--chat", options->chat, "use the model's chat template");
        command.add_option("--max-new-tokens", options->max_new_tokens, "longest answer")
            ->check(CLI::PositiveNumber);
        command
            .add_option("--temperature", options->temperature, "0: always the most likely token")
            ->check(CLI::NonNegativeNumber);
        command.add_option("--top-p", options->top_p, "nucleus sampling: probability kept")
            ->check(CLI::Range(1e-6, 1.0));
        command.add_option("--seed", options->seed, "seed of the draws");
        return [options](Context& context) { return generate(*options, context); };
      }};
}

}  // namespace strata::cli
