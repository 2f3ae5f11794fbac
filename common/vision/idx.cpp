#include "vision/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/checked.h"

namespace strata::vision {
namespace {

constexpr std::size_t kBytesMax = std::size_t{4} << 30;

Error bad(const std::filesystem::path& path, std::string what, std::string rule) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = path.string(),
          .rule = std::move(rule)};
}

bool is_gzip(ByteSpan bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

// Up to `limit` bytes of what is compressed. Grows as it comes: what the stream claims is not
// believed.
Result<std::vector<std::uint8_t>> inflated(ByteSpan bytes, std::size_t limit,
                                           const std::filesystem::path& path) {
  z_stream stream{};
  constexpr int kGzip = 16 + MAX_WBITS;
  if (inflateInit2(&stream, kGzip) != Z_OK)
    return fail(bad(path, "zlib could not begin", "a gzip file"));
  std::vector<std::uint8_t> out;
  std::array<std::uint8_t, 1 << 16> piece{};
  std::size_t given = 0;
  int state = Z_OK;
  while (state == Z_OK && out.size() < limit) {
    if (stream.avail_in == 0 && given < bytes.size()) {
      const std::size_t count = std::min<std::size_t>(bytes.size() - given, 1 << 20);
      // zlib's interface does not know const.
      // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): only read
      stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data() + given));
      stream.avail_in = static_cast<uInt>(count);
      given += count;
    }
    stream.next_out = piece.data();
    stream.avail_out = static_cast<uInt>(piece.size());
    state = inflate(&stream, Z_NO_FLUSH);
    if (state == Z_OK || state == Z_STREAM_END)
      out.insert(out.end(), piece.begin(), piece.end() - stream.avail_out);
    if (state == Z_BUF_ERROR) break;  // ended before its end
  }
  inflateEnd(&stream);
  if (state != Z_STREAM_END && out.size() < limit)
    return fail(bad(path, "is a broken gzip file", "complete compressed values"));
  if (out.size() > limit) out.resize(limit);
  return out;
}

Result<std::vector<std::uint8_t>> content(const sys::Disk& disk, const std::filesystem::path& path,
                                          std::size_t limit) {
  auto file = disk.map(path);
  if (!file) return fail(std::move(file).error());
  const ByteSpan bytes = (*file)->bytes();
  if (is_gzip(bytes)) return inflated(bytes, limit, path);
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return std::vector<std::uint8_t>(first, first + std::min(bytes.size(), limit));
}

bool has_magic(const std::vector<std::uint8_t>& bytes) {
  return bytes.size() >= 4 && bytes[0] == 0 && bytes[1] == 0 && bytes[2] == 8 && bytes[3] >= 1 &&
         bytes[3] <= 3;
}

}  // namespace

bool is_idx(const sys::Disk& disk, const std::filesystem::path& path) {
  if (disk.is_directory(path)) return false;
  const auto head = content(disk, path, 4);
  return head && has_magic(*head);
}

namespace {

struct Head {
  std::vector<std::size_t> sizes;
  std::size_t bytes = 0;  // of the head
  std::size_t values = 0;
};

Result<Head> head_of(const std::vector<std::uint8_t>& bytes, const std::filesystem::path& path) {
  if (!has_magic(bytes))
    return fail(bad(path, "does not begin as an IDX file of bytes does",
                    "0, 0, 8 and one to three dimensions"));
  const std::size_t dimensions = bytes[3];
  Head out{.sizes = {}, .bytes = 4 + 4 * dimensions, .values = 0};
  if (bytes.size() < out.bytes)
    return fail(bad(path, "ends within its sizes", "32 bits for each dimension"));
  std::optional<std::size_t> total = 1;
  for (std::size_t i = 0; i < dimensions; ++i) {
    std::size_t size = 0;
    for (std::size_t b = 0; b < 4; ++b) size = size << 8 | bytes[4 + 4 * i + b];
    out.sizes.push_back(size);
    total = total ? checked_mul(*total, size) : std::nullopt;
  }
  if (!total || *total > kBytesMax)
    return fail(bad(path,
                    "asks for " + (total ? std::to_string(*total) : "more than 2^64") + " values",
                    "at most " + std::to_string(kBytesMax)));
  out.values = *total;
  return out;
}

}  // namespace

Result<IdxArray> read_idx(const sys::Disk& disk, const std::filesystem::path& path) {
  constexpr std::size_t kHeadMax = 16;
  auto bytes = content(disk, path, kHeadMax);
  if (!bytes) return fail(std::move(bytes).error());
  auto head = head_of(*bytes, path);
  if (!head) return fail(std::move(head).error());
  // One byte more would be too much.
  bytes = content(disk, path, head->bytes + head->values + 1);
  if (!bytes) return fail(std::move(bytes).error());
  if (bytes->size() != head->bytes + head->values) {
    const bool more = bytes->size() > head->bytes + head->values;
    return fail(bad(path,
                    more ? "has more values than its sizes ask for"
                         : "has " + std::to_string(bytes->size() - head->bytes) + " values",
                    "its sizes ask for " + std::to_string(head->values)));
  }
  bytes->erase(bytes->begin(), bytes->begin() + static_cast<std::ptrdiff_t>(head->bytes));
  return IdxArray{std::move(head->sizes), std::move(*bytes)};
}

}  // namespace strata::vision
