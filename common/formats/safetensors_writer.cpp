#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/checked.h"
#include "formats/safetensors.h"

namespace strata::formats {
namespace {

struct Plan {
  std::vector<std::size_t> order;  // tensors by name
  std::string header;              // length prefix included, padded so that data starts 8-aligned
};

Plan plan(std::span<const TensorToWrite> tensors,
          const std::map<std::string, std::string>& metadata) {
  Plan out;
  out.order.resize(tensors.size());
  std::iota(out.order.begin(), out.order.end(), std::size_t{0});
  // Wider types first keeps every tensor aligned, as the reference writer does; then by name.
  std::sort(out.order.begin(), out.order.end(), [&](std::size_t a, std::size_t b) {
    const auto width = [&](std::size_t i) { return tensor::size_of(tensors[i].dtype); };
    return width(a) != width(b) ? width(a) > width(b) : tensors[a].name < tensors[b].name;
  });
  nlohmann::ordered_json header;
  header["__metadata__"]["format"] = "pt";
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  std::size_t at = 0;
  for (const std::size_t i : out.order) {
    const TensorToWrite& t = tensors[i];
    const std::size_t bytes = t.byte_count();
    check(t.produce || bytes == t.bytes.size(),
          "safetensors: shape and bytes of a tensor do not agree");
    header[t.name] = {{"dtype", tensor::safetensors_name(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = static_cast<std::uint64_t>(text.size());
  out.header.assign(reinterpret_cast<const char*>(&length), sizeof length);
  out.header += text;
  return out;
}

// Passes on and counts, so that a producer that writes too little or too much does not shift every
// tensor behind it.
class CountingWriter final : public sys::FileWriter {
 public:
  explicit CountingWriter(sys::FileWriter& out) : out_(out) {}
  Result<void> write(std::span<const std::byte> bytes) override {
    count_ += bytes.size();
    return out_.write(bytes);
  }
  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  sys::FileWriter& out_;
  std::size_t count_ = 0;
};

Result<void> write_one(const TensorToWrite& t, sys::FileWriter& out) {
  if (!t.produce) return out.write(t.bytes);
  CountingWriter counting(out);
  auto written = t.produce(counting);
  if (written)
    check(counting.count() == t.byte_count(),
          "safetensors: a producer did not write its tensor's size");
  return written;
}

}  // namespace

std::size_t TensorToWrite::byte_count() const {
  return std::accumulate(shape.begin(), shape.end(), tensor::size_of(dtype), std::multiplies<>());
}

Result<void> write_safetensors(sys::Disk& disk, const std::filesystem::path& path,
                               std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata) {
  const Plan layout = plan(tensors, metadata);
  return disk.write_atomic(path, [&](sys::FileWriter& out) -> Result<void> {
    auto written = out.write(std::as_bytes(std::span(layout.header)));
    for (std::size_t i = 0; written && i < layout.order.size(); ++i)
      written = write_one(tensors[layout.order[i]], out);
    return written;
  });
}

std::vector<std::byte> safetensors_bytes(std::span<const TensorToWrite> tensors,
                                         const std::map<std::string, std::string>& metadata) {
  const Plan layout = plan(tensors, metadata);
  std::vector<std::byte> out;
  std::size_t size = layout.header.size();
  for (const auto& t : tensors) size += t.byte_count();
  out.reserve(size);
  const auto append = [&](std::span<const std::byte> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  append(std::as_bytes(std::span(layout.header)));
  for (const std::size_t i : layout.order) {
    check(!tensors[i].produce,
          "safetensors: bytes in memory were asked for a tensor that is produced");
    append(tensors[i].bytes);
  }
  return out;
}

}  // namespace strata::formats
