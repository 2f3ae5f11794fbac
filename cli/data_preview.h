#pragma once
// What a data file becomes for a model: which records, which template, which tokens are trained.
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "text/example_builder.h"
#include "text/preview.h"
#include "text/record_reader.h"

namespace strata::cli {

struct PreviewOptions {
  std::filesystem::path model;
  std::filesystem::path data;
  std::string chat_template = "auto";
  text::FieldMap fields;
  std::size_t records = 3;  // shown
  text::BuildOptions build;
};

/// One record as it would be trained on.
struct PreviewedRecord {
  text::Example example;  // cut at max_length
  std::vector<text::PreviewRun> runs;
  std::size_t cut_tokens = 0;  // lost at max_length
};

struct DataPreview {
  std::string detected;   // "prompt/completion (keys input, target)"
  std::string chat_note;  // "chatml (from chat_template.jinja), ..."
  std::vector<PreviewedRecord> records;
  text::DataReport report;  // of the whole file
  std::string problem;      // why the file cannot be trained on; empty: it can
};

/// Reads the whole file and the model's tokenizer. Errors are those of the files; a file without a
/// token to train on is shown all the same, with the reason in `problem`.
[[nodiscard]] Result<DataPreview> preview_data(const sys::Disk& disk,
                                               const PreviewOptions& options);

/// For people. Colours only for terminals; elsewhere trained text is in [brackets].
[[nodiscard]] std::string preview_as_text(const DataPreview& preview, const PreviewOptions& options,
                                          text::PreviewMarks marks);
/// For scripts: one JSON object, with ids and labels (-100: untrained) of the records shown.
[[nodiscard]] nlohmann::ordered_json preview_as_json(const DataPreview& preview);

/// "NAME=KEY" words as a field map. kUsage: a word of another form.
[[nodiscard]] Result<text::FieldMap> field_map(std::span<const std::string> words);

}  // namespace strata::cli
