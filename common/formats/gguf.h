#pragma once
// GGUF files (llama.cpp's model format), versions 2 and 3, read-only: magic, version, counts,
// key/values, tensor infos, data aligned to general.alignment; little-endian; sides stored fastest
// first. Every length is checked against the file before it is used. A reader is immutable and may
// be used from several threads.
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"

namespace strata::formats {

/// Element types strata can read; numbers are the file's.
enum class GgufType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgufTensor {
  GgufType type = GgufType::kF32;
  std::vector<std::size_t> shape;    // slowest first, as everybody else writes it
  std::span<const std::byte> bytes;  // exactly the blocks of its elements
  [[nodiscard]] std::size_t element_count() const;
};

using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::string>,
                 std::vector<std::int64_t>, std::vector<double>>;

class GgufFile {
 public:
  /// kFormat naming the file and what is wrong; kUnsupported for element types not listed above.
  [[nodiscard]] static Result<GgufFile> open(const sys::Disk& disk,
                                             const std::filesystem::path& path);

  [[nodiscard]] const std::map<std::string, GgufValue, std::less<>>& values() const;
  [[nodiscard]] const std::map<std::string, GgufTensor, std::less<>>& tensors() const;
  [[nodiscard]] const std::string& where() const;

  /// A truth value, a whole number, a number, a text or a list of texts by key; nothing when absent
  /// or of another kind.
  [[nodiscard]] std::optional<bool> flag(std::string_view key) const;
  [[nodiscard]] std::optional<std::uint64_t> whole(std::string_view key) const;
  [[nodiscard]] std::optional<double> number(std::string_view key) const;
  [[nodiscard]] std::optional<std::string> text(std::string_view key) const;
  [[nodiscard]] const std::vector<std::string>* texts(std::string_view key) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

/// All values of a tensor as float, exactly as the reference dequantises them.
[[nodiscard]] std::vector<float> dequantise(const GgufTensor& tensor);

}  // namespace strata::formats
