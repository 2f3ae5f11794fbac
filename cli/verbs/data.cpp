// strata data preview: what a file's records become for a model, and which tokens are trained.
#include <unistd.h>

#include <cstdlib>

#include "cli/data_preview.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

struct Options {
  PreviewOptions preview;
  std::vector<std::string> fields;
  bool train_prompts = false;
};

Result<VerbOutput> preview(Options& options, Context& context) {
  auto fields = field_map(options.fields);
  if (!fields) return fail(std::move(fields).error());
  options.preview.fields = std::move(*fields);
  options.preview.build.completion_only = !options.train_prompts;
  const auto seen = preview_data(context.disk, options.preview);
  if (!seen) return fail(seen.error());
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs, and none changes the environment
  const bool colours = isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  const auto marks = colours ? text::PreviewMarks::kColours : text::PreviewMarks::kBrackets;
  return VerbOutput{preview_as_json(*seen), preview_as_text(*seen, options.preview, marks)};
}

}  // namespace

Verb data_preview_verb() {
  return {.name = "data preview",
          .help = "which tokens of a data file are trained",
          .example = "strata data preview --model DIR --data train.jsonl -n 5",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            auto& seen = options->preview;
            command.add_option("--model", seen.model, "model directory (Hugging Face)")->required();
            command.add_option("--data", seen.data, "records (JSONL or a JSON array)")->required();
            command.add_option("-n,--records", seen.records, "records to show (default 3)");
            command.add_option("--template", seen.chat_template, "auto, " + text::template_names());
            command.add_option("--max-length", seen.build.max_length, "tokens of one record")
                ->check(CLI::Range(2, 1 << 20));
            command.add_option("--separator", seen.build.separator,
                               "plain template: between prompt and completion");
            command.add_flag("--train-prompts", options->train_prompts,
                             "train all tokens, not completions only");
            command.add_option("--field", options->fields,
                               "NAME=KEY: the file's key for prompt, completion, ...; repeatable");
            return [options](Context& context) { return preview(*options, context); };
          }};
}

}  // namespace strata::cli
