#pragma once
// Images with their classes as records: what a federation of image classifiers trains on.
#include <cstddef>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "model/decoder_config.h"
#include "sys/disk.h"
#include "text/record.h"

namespace strata::vision {

/// The records of `path` for a model of `classes` classes:
///   an IDX file of images, ".../train-images-idx3-ubyte[.gz]", whose classes lie beside it in
///     ".../train-labels-idx1-ubyte[.gz]" (the name with images-idx3 as labels-idx1);
///   or a folder with a folder for each of the model's classes, in the order of their names, of PNG
///     and JPEG files; one may be empty.
/// Every record has the field "label", by which a file can be split. Images of other sides are
/// resampled. kFileMissing, kIo; kData names the file: no image, unequal numbers of images and
/// classes, a class the model does not have, a file that is no image.
[[nodiscard]] Result<std::vector<text::Record>> read_images(const sys::Disk& disk,
                                                            const std::filesystem::path& path,
                                                            const model::PatchGrid& grid,
                                                            std::size_t classes);

}  // namespace strata::vision
