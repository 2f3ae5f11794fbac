// strata tokenize: JSON lines of texts to ids, or back.
#include <sstream>

#include "cli/tokenize_lines.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

struct Options {
  std::string model;
  TokenizeOptions how;
};

Result<VerbOutput> tokenize(const Options& options, Context& context) {
  const auto tokenizer = text::Tokenizer::load(context.disk, options.model);
  if (!tokenizer) return fail(tokenizer.error());
  VerbOutput out;
  if (!context.json) {
    auto done = tokenize_lines(*tokenizer, context.in, context.out, options.how);
    if (!done) return fail(std::move(done).error());
    return out;
  }
  std::stringstream lines;
  if (auto done = tokenize_lines(*tokenizer, context.in, lines, options.how); !done)
    return fail(std::move(done).error());
  auto& results = out.data["results"] = nlohmann::ordered_json::array();
  for (std::string line; std::getline(lines, line);)
    results.push_back(nlohmann::ordered_json::parse(line));
  return out;
}

}  // namespace

Verb tokenize_verb() {
  return {
      .name = "tokenize",
      .help = "texts to token ids, one JSON value a line, or back",
      .example = "echo '\"Hello\"' | strata tokenize --model DIR",
      .declare = [](CLI::App& command) -> RunVerb {
        auto options = std::make_shared<Options>();
        command.add_option("--model", options->model, "model directory (Hugging Face)")->required();
        command.add_flag("--decode", options->how.decode, "lists of ids in, strings out");
        command.add_flag(
            "--special", options->how.special,
            "add the tokenizer's start and end tokens; with --decode keep special tokens");
        return [options](Context& context) { return tokenize(*options, context); };
      }};
}

}  // namespace strata::cli
