#include "cli/data_preview.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace strata::cli {

namespace {

std::vector<text::TokenId> labels_of(const text::Example& example) {
  constexpr text::TokenId kUntrained = -100;
  std::vector<text::TokenId> out(example.tokens);
  for (std::size_t t = 0; t < out.size(); ++t) {
    if (example.trained[t] == 0) out[t] = kUntrained;
  }
  return out;
}

}  // namespace

Result<DataPreview> preview_data(const sys::Disk& disk, const PreviewOptions& options) {
  const auto model = text::load_model_text(disk, options.model, options.chat_template);
  if (!model) return fail(model.error());
  const auto file = text::read_records(disk, options.data, options.fields);
  if (!file) return fail(file.error());
  DataPreview out{file->detection.describe(), model->template_note, {}, {}, {}};
  const text::ExampleBuilder builder(*model, options.build);
  for (std::size_t i = 0; i < std::min(options.records, file->records.size()); ++i) {
    auto example = builder.build(file->records[i]);
    if (!example) return fail(std::move(example).error());
    const std::size_t kept = std::min(example->tokens.size(), options.build.max_length);
    const std::size_t cut = example->tokens.size() - kept;
    example->tokens.resize(kept);
    example->trained.resize(kept);
    auto runs = text::preview_runs(*example, model->tokenizer);
    out.records.push_back({std::move(*example), std::move(runs), cut});
  }
  auto built = builder.build_all(file->records, "the file", options.data.string());
  if (built) {
    out.report = built->report;
  } else {
    out.problem = built.error().line();
  }
  return out;
}

std::string preview_as_text(const DataPreview& preview, const PreviewOptions& options,
                            text::PreviewMarks marks) {
  std::string out =
      options.data.string() + ": " + preview.detected + "\ntemplate: " + preview.chat_note + "\n";
  out += marks == text::PreviewMarks::kColours ? "trained text is green\n"
                                               : "trained text is in [brackets]\n";
  for (const PreviewedRecord& record : preview.records) {
    const std::size_t trained = record.example.trained_tokens();
    out += "\n--- " + record.example.source + ": " + std::to_string(record.example.tokens.size()) +
           " tokens, " + std::to_string(trained) + " trained";
    if (record.cut_tokens > 0) out += ", " + std::to_string(record.cut_tokens) + " more cut off";
    if (trained == 0) out += ": dropped";
    out += "\n" + text::preview_text(record.runs, marks) + "\n";
  }
  out +=
      "\n" +
      (preview.problem.empty() ? preview.report.line(options.build.max_length) : preview.problem) +
      "\n";
  return out;
}

nlohmann::ordered_json preview_as_json(const DataPreview& preview) {
  using json = nlohmann::ordered_json;
  const text::DataReport& report = preview.report;
  json records = json::array();
  for (const PreviewedRecord& record : preview.records) {
    json runs = json::array();
    for (const auto& run : record.runs) {
      runs.push_back({{"text", run.text}, {"tokens", run.tokens}, {"trained", run.trained}});
    }
    records.push_back({{"source", record.example.source},
                       {"tokens", record.example.tokens.size()},
                       {"trained_tokens", record.example.trained_tokens()},
                       {"cut_tokens", record.cut_tokens},
                       {"runs", std::move(runs)},
                       {"input_ids", record.example.tokens},
                       {"labels", labels_of(record.example)}});
  }
  return {{"detected", preview.detected},
          {"template", preview.chat_note},
          {"report",
           {{"records", report.records},
            {"examples", report.examples},
            {"dropped", report.dropped},
            {"truncated", report.truncated},
            {"tokens", report.tokens},
            {"trained_tokens", report.trained_tokens},
            {"cut_tokens", report.cut_tokens},
            {"tokenized_apart", report.tokenized_apart}}},
          {"problem", preview.problem},
          {"records", std::move(records)}};
}

Result<text::FieldMap> field_map(std::span<const std::string> words) {
  text::FieldMap out;
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      return fail({.code = ErrorCode::kUsage,
                   .what = "--field " + printable(word, 80),
                   .where = {},
                   .rule = "a field is NAME=KEY",
                   .remedy = "write for example --field prompt=question"});
    }
    out[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return out;
}

}  // namespace strata::cli
