#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "config/strict_json.h"
#include "formats/broken.h"
#include "formats/safetensors.h"
#include "formats/safetensors_header.h"
#include "tensor/convert.h"

namespace strata::formats {

static_assert(std::endian::native == std::endian::little,
              "tensor files are little-endian and are used as they lie");

using tensor::DType;

namespace {

constexpr int kIndexDepthMax = 8;

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
  auto header_bytes =
      SafetensorsHeader::length(all.first(std::min<std::size_t>(8, all.size())), all.size(), file);
  if (!header_bytes) return fail(std::move(header_bytes).error());
  auto header = SafetensorsHeader::parse(all.first(*header_bytes), all.size(), file);
  if (!header) return fail(std::move(header).error());
  metadata.merge(header->metadata);
  const auto data = all.subspan(*header_bytes);
  for (auto& entry : header->tensors) {
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
  std::string problem;
  const auto index = config::parse_strict(*text, kIndexDepthMax, problem);
  if (!problem.empty()) return fail(broken(index_path.string(), problem));
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) {
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
