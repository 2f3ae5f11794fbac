// strata eval: loss and perplexity of a model on records; optionally exact match of generated
// answers.
#include <fmt/format.h>

#include <cmath>

#include "cli/loaded_model.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "evaluation/evaluator.h"
#include "evaluation/exact_match.h"
#include "text/record_reader.h"

namespace strata::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string data;
  bool per_record = false;
  bool exact_match = false;
  std::size_t max_new_tokens = 32;
  std::vector<std::string> fields;
};

Result<VerbOutput> eval(Options& options, Context& context) {
  for (const auto& field : options.fields) {
    const auto equals = field.find('=');
    if (equals == std::string::npos) {
      return fail({.code = ErrorCode::kUsage,
                   .what = "--field " + printable(field, 80),
                   .rule = "write --field prompt=question"});
    }
    options.model.data.fields[field.substr(0, equals)] = field.substr(equals + 1);
  }
  auto loaded = load_model(context.disk, options.model);
  if (!loaded) return fail(std::move(loaded).error());
  auto records = read_data(context.disk, loaded->text, options.data, options.model.data.fields);
  if (!records) return fail(std::move(records).error());
  auto examples = loaded->text.examples(*records, "the data", options.data);
  if (!examples) return fail(std::move(examples).error());
  // One worker per thread: passes are independent, and each keeps the bits of a single thread.
  auto report = evaluation::evaluate(
      loaded->model, loaded->beside(), examples->examples,
      {.pass_tokens = 1024, .workers = context.threads, .stopped = context.stopped});
  if (!report) return fail(std::move(report).error());
  for (std::size_t i = 0; i < report->records.size(); ++i) {
    if (std::isfinite(report->records[i].loss_sum)) continue;
    return fail({.code = ErrorCode::kNumeric,
                 .what = "the loss is " + std::to_string(report->records[i].loss_sum),
                 .where = examples->examples[i].source,
                 .rule = "losses of a sound model are finite",
                 .remedy = "check the model's weights and its config.json"});
  }
  VerbOutput out;
  out.data = {{"loss", report->loss()},
              {"perplexity", report->perplexity()},
              {"accuracy", report->accuracy()},
              {"trained_tokens", report->trained_tokens},
              {"records", nlohmann::ordered_json::array()},
              {"truncated", examples->report.truncated},
              {"dropped", examples->report.dropped}};
  const bool images = loaded->text.images.has_value();
  if (images) out.data["perplexity"] = nullptr;
  out.text = fmt::format("loss        {:.6f}\n{}\n{}{}\n", report->loss(),
                         images ? fmt::format("accuracy    {:.4f}", report->accuracy())
                                : fmt::format("perplexity  {:.4f}", report->perplexity()),
                         images ? fmt::format("images      {}", report->records.size())
                                : fmt::format("tokens      {} trained in {} records",
                                              report->trained_tokens, report->records.size()),
                         examples->report.dropped + examples->report.truncated > 0
                             ? fmt::format(" ({} truncated, {} dropped)",
                                           examples->report.truncated, examples->report.dropped)
                             : "");
  if (loaded->shrinkage) {
    out.data["shrinkage"] = shrinkage_json(*loaded->shrinkage);
    out.text += "shrinkage   " + shrinkage_text(*loaded->shrinkage);
  }
  if (options.exact_match) {
    if (!loaded->text.text) {
      return fail({.code = ErrorCode::kUnsupported,
                   .what = "no tokenizer.json in " + options.model.model,
                   .rule = "exact match generates text",
                   .remedy = "leave out --exact-match"});
    }
    const text::ExampleBuilder builder(*loaded->text.text, loaded->text.options);
    auto matches = evaluation::exact_match(loaded->model, loaded->beside(), *loaded->text.text,
                                           builder, *records,
                                           {.max_new_tokens = options.max_new_tokens,
                                            .workers = context.threads,
                                            .stopped = context.stopped});
    if (!matches) return fail(std::move(matches).error());
    out.data["exact_match"] = matches->share();
    out.text += fmt::format("exact match {:.1f} % of {} answers\n", 100.0 * matches->share(),
                            matches->matched.size());
  }
  if (!options.per_record) {
    out.data["records"] = report->records.size();
    return out;
  }
  for (std::size_t i = 0; i < report->records.size(); ++i) {
    const auto& record = report->records[i];
    out.data["records"].push_back({{"loss", record.loss_sum / record.trained},
                                   {"trained_tokens", record.trained},
                                   {"source", examples->examples[i].source}});
  }
  return out;
}

}  // namespace

Verb eval_verb() {
  return {
      .name = "eval",
      .help = "loss, perplexity and exact match of a model on records",
      .example = "strata eval --model DIR --adapter PEFT_DIR --data test.jsonl --format json",
      .declare = [](CLI::App& command) -> RunVerb {
        auto options = std::make_shared<Options>();
        options->model.data.max_length = 1 << 20;
        options->model.declare(command);
        command.add_option("--data", options->data, "records (JSONL or a JSON array)")->required();
        command.add_flag("--per-record", options->per_record, "also each record's loss (JSON)");
        command.add_flag("--exact-match", options->exact_match,
                         "generate answers greedily and compare");
        command.add_option("--max-new-tokens", options->max_new_tokens, "longest answer")
            ->check(CLI::PositiveNumber);
        command.add_option("--field", options->fields,
                           "NAME=KEY: the file's key for prompt, completion, ...; repeatable");
        return [options](Context& context) { return eval(*options, context); };
      }};
}

}  // namespace strata::cli
