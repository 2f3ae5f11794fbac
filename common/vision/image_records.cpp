#include "vision/image_records.h"

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "base/hash.h"
#include "vision/idx.h"
#include "vision/image_file.h"
#include "vision/patches.h"

namespace strata::vision {
namespace {

using Path = std::filesystem::path;

constexpr std::size_t kSideMax = 16384;
constexpr std::size_t kBytesMax = std::size_t{16} << 30;  // of all images as the model has them

Error bad(const Path& path, std::string what, std::string rule) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = path.string(),
          .rule = std::move(rule)};
}

// Of the image as it came, whatever a model makes of it.
Sha256 hash_of(const Image& image) {
  Hasher hasher;
  for (const std::size_t size : {image.width, image.height, image.channels})
    hasher.add(std::to_string(size) + " ");
  hasher.add(std::as_bytes(std::span(image.values)));
  return hasher.finish();
}

text::Record record_of(Image image, std::size_t label, const model::PatchGrid& grid,
                       std::string source) {
  const Sha256 hash = hash_of(image);
  const Image fitted = resized(std::move(image), grid.image, grid.image);
  return {.content = text::Picture{.pixels = patches(fitted, grid),
                                   .label = static_cast<std::int32_t>(label),
                                   .rows = static_cast<std::uint32_t>(grid.count() + 1),
                                   .image = hash},
          .fields = {{"label", std::to_string(label)}},
          .source = std::move(source)};
}

Result<void> check_class(const Path& path, std::size_t label, std::size_t classes) {
  if (label < classes) return {};
  return fail(bad(path, "has class " + std::to_string(label),
                  "the model has classes 0 to " + std::to_string(classes - 1)));
}

Result<std::vector<text::Record>> read_idx_pair(const sys::Disk& disk, const Path& path,
                                                const model::PatchGrid& grid, std::size_t classes) {
  constexpr std::string_view kImages = "images-idx3", kLabels = "labels-idx1";
  std::string name = path.filename().string();
  const std::size_t at = name.find(kImages);
  if (at == std::string::npos)
    return fail(bad(path, "does not have images-idx3 in its name",
                    "the classes lie beside it, under the name with labels-idx1"));
  const Path beside = path.parent_path() / name.replace(at, kImages.size(), kLabels);
  auto images = read_idx(disk, path);
  if (!images) return fail(std::move(images).error());
  auto labels = read_idx(disk, beside);
  if (!labels) return fail(std::move(labels).error());
  if (images->sizes.size() != 3 || images->values.empty())
    return fail(bad(path, std::to_string(images->sizes.size()) + " dimensions or no value",
                    "images are a stack: three dimensions"));
  const std::size_t count = images->sizes[0];
  if (labels->sizes.size() != 1 || labels->values.size() != count)
    return fail(bad(beside, "has " + std::to_string(labels->values.size()) + " classes",
                    "one for each of the " + std::to_string(count) + " images"));
  const std::size_t height = images->sizes[1], width = images->sizes[2];
  if (width > kSideMax || height > kSideMax)
    return fail(bad(
        path, "has images of " + std::to_string(width) + " x " + std::to_string(height) + " pixels",
        "sides of at most " + std::to_string(kSideMax)));
  const auto taken = checked_mul(count, grid.count() * grid.width());
  if (!taken || *taken > kBytesMax)
    return fail(bad(path, "has " + std::to_string(count) + " images",
                    "at most " + std::to_string(kBytesMax / (grid.count() * grid.width())) +
                        " of the model's size"));
  std::vector<text::Record> out;
  out.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t label = labels->values[i];
    if (auto known = check_class(beside, label, classes); !known)
      return fail(std::move(known).error());
    const auto first = images->values.begin() + static_cast<std::ptrdiff_t>(i * width * height);
    Image image{width, height, 1, {first, first + static_cast<std::ptrdiff_t>(width * height)}};
    out.push_back(
        record_of(std::move(image), label, grid, path.string() + ":" + std::to_string(i)));
  }
  return out;
}

bool is_hidden(const std::string& name) { return name.starts_with('.'); }

Result<std::vector<text::Record>> read_folder(const sys::Disk& disk, const Path& folder,
                                              const model::PatchGrid& grid, std::size_t classes) {
  auto names = disk.list(folder);
  if (!names) return fail(std::move(names).error());
  std::vector<text::Record> out;
  std::size_t label = 0;
  for (const auto& name : *names) {
    if (is_hidden(name) || !disk.is_directory(folder / name)) continue;
    if (auto known = check_class(folder / name, label, classes); !known)
      return fail(std::move(known).error());
    auto files = disk.list(folder / name);
    if (!files) return fail(std::move(files).error());
    for (const auto& file : *files) {
      if (is_hidden(file)) continue;
      const Path path = folder / name / file;
      auto image = read_image(disk, path);
      if (!image) return fail(std::move(image).error());
      out.push_back(record_of(std::move(*image), label, grid, path.string()));
    }
    ++label;
  }
  if (label > 0 && label < classes)
    return fail(bad(folder, "has folders for " + std::to_string(label) + " classes",
                    "one for each of the model's " + std::to_string(classes) +
                        ", empty where there is no image"));
  if (out.empty())
    return fail(bad(folder, "holds no image", "a folder of PNG or JPEG files for each class"));
  return out;
}

}  // namespace

Result<std::vector<text::Record>> read_images(const sys::Disk& disk, const Path& path,
                                              const model::PatchGrid& grid, std::size_t classes) {
  if (disk.is_directory(path)) return read_folder(disk, path, grid, classes);
  if (!disk.exists(path))
    return fail({.code = ErrorCode::kFileMissing, .what = "no such file", .where = path.string()});
  if (is_idx(disk, path)) return read_idx_pair(disk, path, grid, classes);
  return fail(bad(path, "is neither an IDX file nor a folder",
                  "a vision model trains on images with classes"));
}

}  // namespace strata::vision
