#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/checked.h"
#include "formats/safetensors.h"
#include "tensor/convert.h"

namespace strata::formats {

static_assert(std::endian::native == std::endian::little,
              "tensor files are little-endian and are used as they lie");

namespace {

using nlohmann::json;
using tensor::DType;

constexpr std::size_t kHeaderBytesMax = 100u << 20;  // the reference implementation's cap
constexpr int kHeaderDepthMax = 8;

Error broken(const std::string& where, std::string what, std::string rule = {}) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = "fetch or export the file again"};
}

// Parses JSON from a file: depth-capped, duplicate keys refused (the library would keep the last
// one silently).
Result<json> parse_strict(std::string_view text, const std::string& where) {
  std::vector<std::set<std::string>> keys;
  std::string problem;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kHeaderDepthMax && problem.empty()) problem = "is nested too deeply";
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(parsed.get<std::string>()).second && problem.empty()) {
      problem = "has the key \"" + printable(parsed.get<std::string>(), 80) + "\" twice";
    }
    return problem.empty();
  };
  json out = json::parse(text, watch, /*allow_exceptions=*/false);
  if (!problem.empty()) return fail(broken(where, "header " + problem));
  if (!out.is_object()) return fail(broken(where, "header is not a JSON object"));
  return out;
}

struct Entry {
  std::string name;
  DType dtype;
  std::vector<std::size_t> shape;
  std::size_t begin;
  std::size_t end;
};

Result<std::size_t> whole(const json& value, const std::string& where, std::string_view what) {
  if (!value.is_number_unsigned()) {
    return fail(broken(where, std::string(what) + " is " + printable(value.dump(), 40),
                       "it must be a whole number, not negative"));
  }
  return value.get<std::size_t>();
}

Result<Entry> parse_entry(const std::string& name, const json& value, const std::string& file,
                          std::size_t data_bytes) {
  const std::string where = file + ": tensor " + printable(name, 120);
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    return fail(broken(where, "lacks dtype, shape or data_offsets"));
  }
  Entry out{.name = name, .dtype = DType::kF32, .shape = {}, .begin = 0, .end = 0};
  const auto type = value["dtype"].is_string()
                        ? tensor::from_safetensors_name(value["dtype"].get<std::string>())
                        : std::nullopt;
  if (!type) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "has dtype " + printable(value["dtype"].dump(), 40),
                 .where = where,
                 .rule = "supported: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL"});
  }
  out.dtype = *type;
  if (!value["shape"].is_array() || value["shape"].size() > 16)
    return fail(broken(where, "shape is not a short list"));
  std::size_t elements = 1;
  for (const auto& side : value["shape"]) {
    auto n = whole(side, where, "a side of the shape");
    if (!n) return fail(std::move(n).error());
    const auto product = checked_mul(elements, *n);
    if (!product)
      return fail(broken(where, "shape " + printable(value["shape"].dump(), 80) + " overflows"));
    elements = *product;
    out.shape.push_back(*n);
  }
  const auto bytes = checked_mul(elements, tensor::size_of(out.dtype));
  const auto& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    return fail(broken(where, "data_offsets is not a pair"));
  auto begin = whole(offsets[0], where, "data_offsets[0]");
  auto end = whole(offsets[1], where, "data_offsets[1]");
  if (!begin) return fail(std::move(begin).error());
  if (!end) return fail(std::move(end).error());
  if (*begin > *end || *end > data_bytes) {
    return fail(broken(where,
                       "data_offsets [" + std::to_string(*begin) + ", " + std::to_string(*end) +
                           "] lie outside the " + std::to_string(data_bytes) + " data bytes",
                       "the file may be truncated"));
  }
  if (!bytes || *end - *begin != *bytes) {
    return fail(
        broken(where, "has " + std::to_string(*end - *begin) + " bytes",
               "shape and dtype need " + (bytes ? std::to_string(*bytes) : "more than memory")));
  }
  out.begin = *begin;
  out.end = *end;
  return out;
}

// Tensors must cover the data without holes or overlaps.
Result<void> check_cover(std::vector<Entry>& entries, const std::string& file,
                         std::size_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::size_t at = 0;
  for (const auto& entry : entries) {
    if (entry.begin != at) {
      return fail(broken(file + ": tensor " + printable(entry.name, 120),
                         std::string(entry.begin < at ? "overlaps the tensor before it"
                                                      : "leaves a hole before it") +
                             " (starts at byte " + std::to_string(entry.begin) + ", expected " +
                             std::to_string(at) + ")"));
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    return fail(broken(file, std::to_string(data_bytes - at) +
                                 " bytes after the last tensor belong to no tensor"));
  }
  return {};
}

}  // namespace

struct SafetensorsFile::State {
  std::string where;
  std::map<std::string, std::string> metadata;
  std::map<std::string, StoredTensor, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> tensor_file;  // shards: which file holds it
  std::vector<std::shared_ptr<const sys::MappedFile>> mappings;
  std::vector<std::unique_ptr<std::vector<std::max_align_t>>>
      copies;  // of tensors that lie unaligned in the file

  Result<void> add_file(const sys::Disk& disk, const std::filesystem::path& path);
  std::span<const std::byte> aligned(std::span<const std::byte> bytes, DType type);
};

std::span<const std::byte> SafetensorsFile::State::aligned(std::span<const std::byte> bytes,
                                                           DType type) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % tensor::size_of(type) == 0) return bytes;
  auto copy =
      std::make_unique<std::vector<std::max_align_t>>(bytes.size() / sizeof(std::max_align_t) + 1);
  std::memcpy(copy->data(), bytes.data(), bytes.size());
  const std::span<const std::byte> out(reinterpret_cast<const std::byte*>(copy->data()),
                                       bytes.size());
  copies.push_back(std::move(copy));
  return out;
}

Result<void> SafetensorsFile::State::add_file(const sys::Disk& disk,
                                              const std::filesystem::path& path) {
  auto mapped = disk.map(path);
  if (!mapped) return fail(std::move(mapped).error());
  const std::string file = path.string();
  const auto all = (*mapped)->bytes();
  std::uint64_t header_bytes = 0;
  if (all.size() < sizeof header_bytes) {
    return fail(broken(file, "is " + std::to_string(all.size()) + " bytes long",
                       "a safetensors file starts with an 8-byte length"));
  }
  std::memcpy(&header_bytes, all.data(), sizeof header_bytes);
  if (header_bytes > all.size() - sizeof header_bytes || header_bytes > kHeaderBytesMax) {
    return fail(broken(file,
                       "header length " + std::to_string(header_bytes) +
                           " is larger than the file allows (" + std::to_string(all.size()) +
                           " bytes)",
                       "the file is truncated or no safetensors file"));
  }
  const std::string_view text(reinterpret_cast<const char*>(all.data()) + 8, header_bytes);
  if (text.empty() || text.front() != '{')
    return fail(broken(file, "header does not start with '{'"));
  auto header = parse_strict(text, file);
  if (!header) return fail(std::move(header).error());
  const auto data = all.subspan(8 + header_bytes);

  std::vector<Entry> entries;
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return fail(broken(file, "__metadata__ is not an object of strings"));
      for (const auto& [key, entry] : value.items()) {
        if (!entry.is_string())
          return fail(broken(file, "__metadata__." + printable(key, 60) + " is not a string"));
        metadata.emplace(key, entry.get<std::string>());
      }
      continue;
    }
    auto entry = parse_entry(name, value, file, data.size());
    if (!entry) return fail(std::move(entry).error());
    entries.push_back(std::move(*entry));
  }
  if (auto covered = check_cover(entries, file, data.size()); !covered) return covered;
  for (auto& entry : entries) {
    const auto bytes = aligned(data.subspan(entry.begin, entry.end - entry.begin), entry.dtype);
    if (!tensors.emplace(entry.name, StoredTensor{entry.dtype, std::move(entry.shape), bytes})
             .second) {
      return fail(
          broken(file + ": tensor " + printable(entry.name, 120), "also lies in another shard"));
    }
    tensor_file.emplace(entry.name, path.filename().string());
  }
  mappings.push_back(std::move(*mapped));
  return {};
}

std::size_t StoredTensor::element_count() const { return bytes.size() / tensor::size_of(dtype); }

Result<SafetensorsFile> SafetensorsFile::open(const sys::Disk& disk,
                                              const std::filesystem::path& path) {
  auto state = std::make_shared<State>();
  state->where = path.string();
  if (auto added = state->add_file(disk, path); !added) return fail(std::move(added).error());
  SafetensorsFile file;
  file.state_ = std::move(state);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::open_checkpoint(const sys::Disk& disk,
                                                         const std::filesystem::path& folder) {
  const auto single = folder / "model.safetensors";
  const auto index_path = folder / "model.safetensors.index.json";
  if (disk.exists(single)) return open(disk, single);
  if (!disk.exists(index_path)) {
    return fail({.code = ErrorCode::kFileMissing,
                 .what = "holds neither model.safetensors nor model.safetensors.index.json",
                 .where = folder.string(),
                 .rule = "weights are read from safetensors files",
                 .remedy = "convert the checkpoint to safetensors"});
  }
  auto text = disk.read_text(index_path);
  if (!text) return fail(std::move(text).error());
  auto index = parse_strict(*text, index_path.string());
  if (!index) return fail(std::move(index).error());
  const auto weight_map = index->find("weight_map");
  if (weight_map == index->end() || !weight_map->is_object()) {
    return fail(broken(index_path.string(), "has no weight_map object"));
  }
  auto state = std::make_shared<State>();
  state->where = folder.string();
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : std::string();
    if (file.empty() || file.find('/') != std::string::npos || file == "..") {
      return fail(broken(index_path.string(),
                         "weight_map." + printable(name, 120) + " is not a file name"));
    }
    shards.insert(file);
  }
  for (const auto& shard : shards) {
    if (auto added = state->add_file(disk, folder / shard); !added)
      return fail(std::move(added).error());
  }
  for (const auto& [name, shard] : weight_map->items()) {
    const auto found = state->tensor_file.find(name);
    if (found == state->tensor_file.end() || found->second != shard.get<std::string>()) {
      return fail(
          broken((folder / shard.get<std::string>()).string() + ": tensor " + printable(name, 120),
                 "is missing although the index names it"));
    }
  }
  SafetensorsFile file;
  file.state_ = std::move(state);
  return file;
}

bool SafetensorsFile::contains(std::string_view name) const {
  return state_->tensors.contains(name);
}

Result<StoredTensor> SafetensorsFile::get(std::string_view name) const {
  const auto found = state_->tensors.find(name);
  if (found == state_->tensors.end()) {
    return fail(broken(state_->where + ": tensor " + std::string(name), "is missing"));
  }
  return found->second;
}

void SafetensorsFile::release(const StoredTensor& tensor) const {
  for (const auto& mapping : state_->mappings) {
    const auto all = mapping->bytes();
    if (tensor.bytes.data() >= all.data() &&
        tensor.bytes.data() + tensor.bytes.size() <= all.data() + all.size())
      mapping->release(tensor.bytes);
  }
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> out;
  for (const auto& [name, value] : state_->tensors) out.push_back(name);
  return out;
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return state_->metadata;
}
const std::string& SafetensorsFile::where() const { return state_->where; }

Result<std::vector<float>> to_float(const StoredTensor& stored, std::string_view name,
                                    std::string_view where, bool finite) {
  const std::size_t n = stored.element_count();
  std::vector<float> out(n);
  switch (stored.dtype) {
    case DType::kF32:
      std::memcpy(out.data(), stored.bytes.data(), stored.bytes.size());
      break;
    case DType::kBF16:
      tensor::to_float(out.data(), reinterpret_cast<const tensor::BFloat16*>(stored.bytes.data()),
                       n);
      break;
    case DType::kF16:
      tensor::to_float(out.data(), reinterpret_cast<const tensor::Float16*>(stored.bytes.data()),
                       n);
      break;
    case DType::kF64:
      for (std::size_t i = 0; i < n; ++i) {
        out[i] = static_cast<float>(reinterpret_cast<const double*>(stored.bytes.data())[i]);
      }
      break;
    default:
      return fail(broken(std::string(where) + ": tensor " + std::string(name),
                         "has dtype " + std::string(tensor::safetensors_name(stored.dtype)),
                         "a float type is needed"));
  }
  if (!finite) return out;
  for (std::size_t i = 0; i < n; ++i) {
    if (std::isfinite(out[i])) continue;
    return fail({.code = ErrorCode::kFormat,
                 .what = "value " + std::to_string(i) + " is NaN or infinite",
                 .where = std::string(where) + ": tensor " + std::string(name),
                 .rule = "weights are finite",
                 .remedy = "fetch or export the file again"});
  }
  return out;
}

}  // namespace strata::formats
