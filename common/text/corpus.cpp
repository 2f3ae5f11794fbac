#include "text/corpus.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "text/unicode.h"

namespace strata::text {

namespace {

using Path = std::filesystem::path;

constexpr int kFoldersMax = 32;  // one in another; fewer than the 40 links that Linux follows
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool ends_as_records(const Path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  constexpr std::array<std::string_view, 3> kEndings{".jsonl", ".ndjson", ".json"};
  return std::ranges::find(kEndings, ending) != kEndings.end();
}

Result<void> add_folder(const sys::Disk& disk, const Path& folder, int depth,
                        std::vector<CorpusFile>& out) {
  if (depth > kFoldersMax) {
    return fail({.code = ErrorCode::kData,
                 .what = "folders lie in one another more than " + std::to_string(kFoldersMax) +
                         " levels deep",
                 .where = folder.string(),
                 .remedy = "look for a link to a folder above it"});
  }
  const auto names = disk.list(folder);
  if (!names) return fail(names.error());
  for (const auto& name : *names) {
    if (name.starts_with('.')) continue;
    const Path path = folder / name;
    if (!disk.is_directory(path)) {
      out.push_back({path, ends_as_records(path)});
    } else if (auto added = add_folder(disk, path, depth + 1, out); !added) {
      return added;
    }
  }
  return {};
}

Error not_utf8(const std::string& path, std::string_view text, std::size_t at) {
  const auto line =
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  std::array<char, 8> byte{};
  std::snprintf(byte.data(), byte.size(), "0x%02X", static_cast<unsigned char>(text[at]));
  return {
      .code = ErrorCode::kData,
      .what = "byte " + std::to_string(at + 1) + " of the file, " + byte.data() + ", is not UTF-8",
      .where = path + ":" + std::to_string(line),
      .rule = "text files are UTF-8",
      .remedy = "convert the file, for example with iconv -t UTF-8, or leave it out"};
}

/// The texts of a record, in order; empty ones too.
Result<std::vector<std::string_view>> texts_of(const Record& record) {
  std::vector<std::string_view> out;
  if (const auto* text = std::get_if<PlainText>(&record.content)) {
    out = {text->text};
  } else if (const auto* pair = std::get_if<Pair>(&record.content)) {
    out = {pair->prompt, pair->completion};
  } else if (const auto* task = std::get_if<Instruction>(&record.content)) {
    out = {task->system, task->instruction, task->input, task->output};
  } else if (const auto* dialogue = std::get_if<Dialogue>(&record.content)) {
    for (const Message& message : dialogue->messages) out.push_back(message.content);
  } else {
    return fail({.code = ErrorCode::kData,
                 .what = "the record has token ids, not text",
                 .where = record.source,
                 .remedy = "give the text that the ids were made from"});
  }
  return out;
}

struct Reading {
  const sys::Disk& disk;
  const FieldMap& fields;
  const TakeDocument& take;
  CorpusReport report = {};

  Result<void> document(std::string_view text) {
    if (text.empty()) return {};
    ++report.documents;
    report.bytes += text.size();
    return take(text);
  }

  Result<void> text_file(const Path& path) {
    const auto file = disk.map(path);
    if (!file) return fail(file.error());
    const auto bytes = (*file)->bytes();
    std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    if (const auto bad = first_invalid(text)) return fail(not_utf8(path.string(), text, *bad));
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    return document(text);
  }

  Result<void> record_file(const Path& path) {
    auto reader = RecordReader::open(disk, path, fields);
    if (!reader) return fail(std::move(reader).error());
    for (;;) {
      const auto record = reader->next();
      if (!record) return fail(record.error());
      if (!*record) return {};
      const auto texts = texts_of(**record);
      if (!texts) return fail(texts.error());
      for (const std::string_view text : *texts) {
        if (auto taken = document(text); !taken) return taken;
      }
    }
  }
};

}  // namespace

bool holds_records(const sys::Disk& disk, const Path& path) {
  return ends_as_records(path) && !disk.is_directory(path);
}

Result<std::vector<CorpusFile>> find_corpus(const sys::Disk& disk, std::span<const Path> inputs) {
  std::vector<CorpusFile> out;
  for (const Path& input : inputs) {
    if (!disk.is_directory(input)) {
      out.push_back({input, ends_as_records(input)});
      continue;
    }
    const std::size_t before = out.size();
    if (auto added = add_folder(disk, input, 1, out); !added) return fail(std::move(added).error());
    if (out.size() == before) {
      return fail({.code = ErrorCode::kData,
                   .what = "the folder has no file",
                   .where = input.string(),
                   .rule = "files whose name begins with a dot are left out"});
    }
  }
  return out;
}

Result<CorpusReport> read_corpus(const sys::Disk& disk, std::span<const CorpusFile> files,
                                 const FieldMap& fields, const TakeDocument& take) {
  Reading reading{.disk = disk, .fields = fields, .take = take};
  for (const CorpusFile& file : files) {
    auto read = file.records ? reading.record_file(file.path) : reading.text_file(file.path);
    if (!read) return fail(std::move(read).error());
    ++reading.report.files;
  }
  return reading.report;
}

}  // namespace strata::text
