#include "text/record_reader.h"

#include <utility>

#include "text/json_slices.h"
#include "text/record_layout.h"

namespace strata::text {

namespace {

std::string list(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out.append(out.empty() ? "" : ", ").append(printable(word, 40));
  return out;
}

std::string_view text_of(const sys::MappedFile& file) {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

struct RecordReader::State {
  std::shared_ptr<const sys::MappedFile> file;
  std::string path;
  JsonSlices slices;
  RecordLayout layout = {};
  Detection detection = {};
  std::optional<Record> first = {};  // read by open(), not yet given out

  Result<std::optional<Record>> read() {
    auto slice = slices.next();
    if (!slice) return fail(std::move(slice).error());
    if (!*slice) return std::optional<Record>{};
    auto record = parse_record((*slice)->json, layout, path + ":" + std::to_string((*slice)->line));
    if (!record) return fail(std::move(record).error());
    return std::optional<Record>(std::move(*record));
  }
};

RecordReader::RecordReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
RecordReader::RecordReader(RecordReader&&) noexcept = default;
RecordReader& RecordReader::operator=(RecordReader&&) noexcept = default;
RecordReader::~RecordReader() = default;

const std::vector<std::string>& field_names() { return layout_names(); }

std::string Detection::describe() const {
  std::string out = std::string(name(kind)) + " (keys " + list(used);
  if (!extra.empty()) out += "; also " + list(extra);
  return out + ")";
}

Result<RecordReader> RecordReader::open(const sys::Disk& disk, const std::filesystem::path& path,
                                        const FieldMap& map) {
  auto file = disk.map(path);
  if (!file) return fail(std::move(file).error());
  const std::string where = path.string();
  JsonSlices slices(text_of(**file), where, kDepthMax);
  auto slice = slices.next();
  if (!slice) return fail(std::move(slice).error());
  if (!*slice) {
    return fail({.code = ErrorCode::kData,
                 .what = "the file holds no record",
                 .where = where,
                 .rule = "a data file has one JSON object a line, or one JSON array of objects"});
  }
  const std::string first_at = where + ":" + std::to_string((*slice)->line);
  auto layout = map.empty() ? detect_layout((*slice)->json, first_at) : layout_from_map(map);
  if (!layout) return fail(std::move(layout).error());
  auto first = parse_record((*slice)->json, *layout, first_at);
  if (!first) return fail(std::move(first).error());

  auto state = std::make_unique<State>(State{std::move(*file), where, slices});
  state->detection.kind = layout->kind;
  state->detection.used = layout->required;
  for (const auto& [key, value] : first->fields) state->detection.extra.push_back(key);
  state->layout = std::move(*layout);
  state->first = std::move(*first);
  return RecordReader(std::move(state));
}

const Detection& RecordReader::detection() const { return state_->detection; }

Result<std::optional<Record>> RecordReader::next() {
  if (state_->first) return std::exchange(state_->first, std::nullopt);
  return state_->read();
}

Result<RecordFile> read_records(const sys::Disk& disk, const std::filesystem::path& path,
                                const FieldMap& map) {
  auto reader = RecordReader::open(disk, path, map);
  if (!reader) return fail(std::move(reader).error());
  RecordFile out{path.string(), reader->detection(), {}};
  for (;;) {
    auto record = reader->next();
    if (!record) return fail(std::move(record).error());
    if (!*record) return out;
    out.records.push_back(std::move(**record));
  }
}

}  // namespace strata::text
