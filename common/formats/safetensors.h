#pragma once
// safetensors files: u64 little-endian header length, JSON header, tensor bytes. Reading checks
// everything before any tensor is handed out: lengths, overlaps, holes, overflow, duplicate keys,
// known dtypes (kFormat, naming file and tensor). Readers are immutable after open and may be used
// from several threads.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "tensor/dtype.h"

namespace strata::formats {

/// A tensor in a mapped file: valid while the SafetensorsFile (or a copy of it) lives.
struct StoredTensor {
  tensor::DType dtype = tensor::DType::kF32;
  std::vector<std::size_t> shape;  // product fits in std::size_t
  std::span<const std::byte>
      bytes;  // exactly product * size_of(dtype); aligned for dtype or copied so that it is

  [[nodiscard]] std::size_t element_count() const;
};

/// One file, or all shards of a checkpoint as one name space. Cheap to copy (shares the mapping).
class SafetensorsFile {
 public:
  /// Opens one .safetensors file.
  [[nodiscard]] static Result<SafetensorsFile> open(const sys::Disk& disk,
                                                    const std::filesystem::path& path);
  /// Opens model.safetensors, or the shards named by model.safetensors.index.json, of a Hugging
  /// Face folder.
  [[nodiscard]] static Result<SafetensorsFile> open_checkpoint(const sys::Disk& disk,
                                                               const std::filesystem::path& folder);

  [[nodiscard]] bool contains(std::string_view name) const;
  /// kFormat naming file and tensor when absent.
  [[nodiscard]] Result<StoredTensor> get(std::string_view name) const;
  /// The tensor's values were copied: the memory of its part of the mapping may go to others.
  void release(const StoredTensor& tensor) const;
  [[nodiscard]] std::vector<std::string> names() const;  // sorted
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;
  [[nodiscard]] const std::string& where() const;  // path, for messages

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

/// All values of a stored float tensor (F32, F16, BF16, F64) as float. kFormat unless the tensor is
/// a float type; kFormat naming tensor and index when a value is NaN or infinite and `finite` is
/// asked for.
[[nodiscard]] Result<std::vector<float>> to_float(const StoredTensor& stored, std::string_view name,
                                                  std::string_view where, bool finite = true);

/// A tensor to be written. `bytes` is borrowed until write_safetensors returns; or, for what need
/// not lie in memory as a whole, `produce` writes exactly the bytes of `shape` and `dtype` when
/// their turn comes.
struct TensorToWrite {
  std::string name;
  tensor::DType dtype = tensor::DType::kF32;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes = {};
  std::function<Result<void>(sys::FileWriter&)> produce = {};

  [[nodiscard]] std::size_t byte_count() const;
};

/// Writes a file atomically (Disk::write_atomic). Tensors are laid out in name order, header padded
/// to 8 bytes,
/// `__metadata__` is {"format":"pt"} plus `metadata`. Same input, same bytes.
[[nodiscard]] Result<void> write_safetensors(
    sys::Disk& disk, const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
    const std::map<std::string, std::string>& metadata = {});

/// The same bytes in memory: for messages and hashes. Tensors that are produced are not for this.
[[nodiscard]] std::vector<std::byte> safetensors_bytes(
    std::span<const TensorToWrite> tensors,
    const std::map<std::string, std::string>& metadata = {});

}  // namespace strata::formats
