#include "vision/image_file.h"

#include <png.h>
#include <turbojpeg.h>

#include <memory>
#include <string>

#include "base/bytes.h"

namespace strata::vision {
namespace {

Error bad(const std::filesystem::path& path, std::string what, std::string rule) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = path.string(),
          .rule = std::move(rule)};
}

Result<void> check_size(const std::filesystem::path& path, std::size_t width, std::size_t height) {
  if (width > 0 && height > 0 && width <= kPixelsMax / height) return {};
  return fail(bad(path, "is " + std::to_string(width) + " x " + std::to_string(height) + " pixels",
                  "1 to " + std::to_string(kPixelsMax) + " pixels"));
}

Result<Image> read_png(ByteSpan bytes, const std::filesystem::path& path) {
  png_image state{};
  state.version = PNG_IMAGE_VERSION;
  const auto broken = [&] {
    std::string what = "is a broken PNG file (" + printable(state.message, 64) + ")";
    png_image_free(&state);
    return fail(bad(path, std::move(what), "a complete image"));
  };
  if (png_image_begin_read_from_memory(&state, bytes.data(), bytes.size()) == 0) return broken();
  if (auto good = check_size(path, state.width, state.height); !good) {
    png_image_free(&state);
    return fail(std::move(good).error());
  }
  state.format = PNG_FORMAT_RGB;
  Image out{state.width, state.height, 3, {}};
  out.values.resize(PNG_IMAGE_SIZE(state));
  const png_color black{};
  if (png_image_finish_read(&state, &black, out.values.data(), 0, nullptr) == 0) return broken();
  return out;
}

Result<Image> read_jpeg(ByteSpan bytes, const std::filesystem::path& path) {
  struct Destroy {
    void operator()(void* handle) const { tjDestroy(handle); }
  };
  const std::unique_ptr<void, Destroy> handle(tjInitDecompress());
  const auto broken = [&] {
    return fail(bad(path,
                    "is a broken JPEG file (" + printable(tjGetErrorStr2(handle.get()), 100) + ")",
                    "a complete image"));
  };
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto size = static_cast<unsigned long>(bytes.size());
  int width = 0, height = 0, subsampling = 0, colours = 0;
  if (tjDecompressHeader3(handle.get(), data, size, &width, &height, &subsampling, &colours) != 0)
    return broken();
  if (auto good = check_size(path, static_cast<std::size_t>(std::max(0, width)),
                             static_cast<std::size_t>(std::max(0, height)));
      !good) {
    return fail(std::move(good).error());
  }
  Image out{static_cast<std::size_t>(width), static_cast<std::size_t>(height), 3, {}};
  out.values.resize(out.width * out.height * 3);
  if (tjDecompress2(handle.get(), data, size, out.values.data(), width, 0, height, TJPF_RGB,
                    TJFLAG_ACCURATEDCT) != 0) {
    return broken();
  }
  return out;
}

bool begins(ByteSpan bytes, std::string_view head) {
  return bytes.size() >= head.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()), head.size()) == head;
}

}  // namespace

Result<Image> read_image(const sys::Disk& disk, const std::filesystem::path& path) {
  auto file = disk.map(path);
  if (!file) return fail(std::move(file).error());
  const ByteSpan bytes = (*file)->bytes();
  if (begins(bytes, "\x89PNG\r\n\x1a\n")) return read_png(bytes, path);
  if (begins(bytes, "\xff\xd8\xff")) return read_jpeg(bytes, path);
  return fail(bad(path, "is no PNG or JPEG file", "images are PNG or JPEG"));
}

}  // namespace strata::vision
