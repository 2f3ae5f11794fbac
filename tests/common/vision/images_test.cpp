// Images from files: IDX, and PNG and JPEG against Pillow (tests/golden/images.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "formats/safetensors.h"
#include "support/golden.h"
#include "vision/idx.h"
#include "vision/image_file.h"
#include "vision/image_records.h"
#include "vision/patches.h"

namespace strata::vision {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Images : public testing::Test {
 public:
  ~Images() override { std::filesystem::remove_all(folder_); }

 protected:
  Images() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  template <class T>
  std::string line(const Result<T>& result) {
    return result ? "" : result.error().line();
  }
  std::vector<text::Record> read(const std::filesystem::path& path) {
    auto records = read_images(*disk_, path, grid_, 2);
    EXPECT_TRUE(records) << line(records);
    return records ? std::move(*records) : std::vector<text::Record>{};
  }
  std::string refusal(const std::filesystem::path& path) {
    return line(read_images(*disk_, path, grid_, 2));
  }

  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      ("images-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  model::PatchGrid grid_{.image = 4, .patch = 2, .channels = 1};
};

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) out.push_back(static_cast<char>(value));
  return out;
}

// Two images of 4 x 4: 0 to 15, and 100 to 115.
std::string two_images() {
  std::string out = bytes({0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4});
  for (int i = 0; i < 32; ++i) out.push_back(static_cast<char>(i < 16 ? i : 84 + i));
  return out;
}

TEST_F(Images, OfAnIdxFileBecomePatchesWithTheClassesBesideThem) {
  const auto path = write("some-images-idx3-ubyte", two_images());
  write("some-labels-idx1-ubyte", bytes({0, 0, 8, 1, 0, 0, 0, 2, 1, 0}));
  const auto records = read(path);
  ASSERT_EQ(records.size(), 2u);
  const auto& first = std::get<text::Picture>(records[0].content);
  EXPECT_THAT(first.pixels, ElementsAre(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  EXPECT_EQ(first.label, 1);
  EXPECT_EQ(first.rows, 5u);
  EXPECT_EQ(records[1].field("label"), "0");
  EXPECT_THAT(records[1].source, HasSubstr("idx3-ubyte:1"));
}

// 3 bytes 7, 0, 2 by gzip.
std::string compressed() {
  return bytes({31, 139, 8,   0,   0,  0, 0, 0,  2,   3, 99,  96, 224, 96, 100, 96,
                96, 96,  102, 103, 96, 2, 0, 45, 203, 1, 229, 11, 0,   0,  0});
}

TEST_F(Images, OfAnIdxFileMayBeCompressed) {
  const auto path = write("labels.gz", compressed());
  const auto read = read_idx(*disk_, path);
  ASSERT_TRUE(read) << line(read);
  EXPECT_THAT(read->sizes, ElementsAre(3u));
  EXPECT_THAT(read->values, ElementsAre(7, 0, 2));
  EXPECT_TRUE(is_idx(*disk_, path));
  EXPECT_THAT(line(read_idx(*disk_, write("cut.gz", compressed().substr(0, 20)))),
              HasSubstr("broken gzip"));
}

TEST_F(Images, OfABadIdxFileAreRefused) {
  const auto refuse = [&](const std::string& content) {
    return line(read_idx(*disk_, write("bad", content)));
  };
  EXPECT_THAT(refuse(""), HasSubstr("does not begin"));
  EXPECT_THAT(refuse(bytes({0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0})), HasSubstr("does not begin"));
  EXPECT_THAT(refuse(bytes({0, 0, 8, 3, 0, 0, 0, 1})), HasSubstr("ends within its sizes"));
  EXPECT_THAT(refuse(bytes({0, 0, 8, 1, 0, 0, 0, 4, 1})), HasSubstr("has 1 values"));
  EXPECT_THAT(
      refuse(bytes({0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})),
      HasSubstr("asks for"));
  EXPECT_THAT(refuse(bytes({0, 0, 8, 1, 0, 0, 0, 1, 1, 2})), HasSubstr("has more values"));

  const auto path = write("x-images-idx3-ubyte", two_images());
  EXPECT_THAT(refusal(path), HasSubstr("x-labels-idx1-ubyte"));  // missing
  write("x-labels-idx1-ubyte", bytes({0, 0, 8, 1, 0, 0, 0, 1, 1}));
  EXPECT_THAT(refusal(path), HasSubstr("has 1 classes"));
  write("x-labels-idx1-ubyte", bytes({0, 0, 8, 1, 0, 0, 0, 2, 1, 2}));
  EXPECT_THAT(refusal(path), HasSubstr("has class 2"));
  EXPECT_THAT(refusal(write("odd", two_images())), HasSubstr("images-idx3 in its name"));
  EXPECT_THAT(refusal(write("text", "hello")), HasSubstr("neither an IDX file nor a folder"));
  EXPECT_THAT(refusal(folder_ / "none"), HasSubstr("no such file"));
}

TEST_F(Images, OfFilesEqualPillows) {
  const auto golden = support::golden_folder() / "images";
  const auto expected = formats::SafetensorsFile::open(*disk_, golden / "expected.safetensors");
  ASSERT_TRUE(expected);
  const auto near = [&](const Image& image, const std::string& name, int tolerance) {
    const auto tensor = expected->get(name);
    ASSERT_EQ(tensor->shape, (std::vector<std::size_t>{image.height, image.width, image.channels}));
    for (std::size_t i = 0; i < image.values.size(); ++i)
      ASSERT_NEAR(image.values[i], static_cast<int>(tensor->bytes[i]), tolerance) << name << i;
  };
  for (const std::string name :
       {"ankle/large.png", "ankle/grey.png", "shirt/exact.png", "shirt/photo.jpg"}) {
    const std::string plain = std::filesystem::path(name).stem();
    const auto colours = read_image(*disk_, golden / name);
    ASSERT_TRUE(colours) << line(colours);
    near(*colours, plain + ".rgb", 0);
    near(resized(*colours, 12, 12), plain + ".resized", 1);
    if (colours->width != colours->height) continue;
    // One patch of the whole image is its rows in grey.
    const std::size_t side = colours->width;
    const model::PatchGrid whole{.image = side, .patch = side, .channels = 1};
    near({side, side, 1, patches(*colours, whole)}, plain + ".grey", 0);
  }
}

// Small files that claim much, or would become much.
TEST_F(Images, OfImmenseSidesAreRefused) {
  std::string flat = bytes({0, 0, 8, 3, 0, 0, 0, 1, 0, 0x10, 0, 0, 0, 0, 0, 1});
  flat += std::string(0x100000, 'x');
  write("flat-labels-idx1-ubyte", bytes({0, 0, 8, 1, 0, 0, 0, 1, 0}));
  EXPECT_THAT(refusal(write("flat-images-idx3-ubyte", flat)), HasSubstr("sides of at most"));
  const Image tall{1, 1 << 20, 3, std::vector<std::uint8_t>(3 << 20, 9)};
  const Image fitted = resized(tall, 4, 4);
  EXPECT_EQ(fitted.values, std::vector<std::uint8_t>(48, 9));
}

// What a ledger knows an image by.
TEST_F(Images, AreNamedByWhatTheyAreWhateverTheModel) {
  const auto path = support::golden_folder() / "images";
  const auto name_of = [&](const model::PatchGrid& grid) {
    const auto records = read_images(*disk_, path, grid, 2);
    return hex(std::get<text::Picture>(records->at(1).content).image);
  };
  EXPECT_EQ(name_of({.image = 4, .patch = 2, .channels = 1}),
            name_of({.image = 12, .patch = 4, .channels = 3}));
}

TEST_F(Images, OfAFolderHaveTheClassesOfItsFolders) {
  // Other files beside the classes are nobody's.
  const auto records = read(support::golden_folder() / "images");
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(std::get<text::Picture>(records[1].content).label, 0);
  EXPECT_EQ(std::get<text::Picture>(records[2].content).label, 1);
  EXPECT_EQ(std::get<text::Picture>(records[3].content).pixels.size(), 16u);
}

TEST_F(Images, OfABadFolderAreRefused) {
  EXPECT_THAT(refusal(folder_), HasSubstr("holds no image"));
  std::filesystem::create_directories(folder_ / "cats");
  write("cats/a.png", "no picture");
  EXPECT_THAT(refusal(folder_), HasSubstr("cats/a.png: is no PNG or JPEG file"));
  const auto whole = disk_->read_text(support::golden_folder() / "images" / "ankle" / "large.png");
  write("cats/a.png", whole->substr(0, whole->size() / 2));
  EXPECT_THAT(refusal(folder_), HasSubstr("broken PNG"));
  const auto photo = disk_->read_text(support::golden_folder() / "images" / "shirt" / "photo.jpg");
  write("cats/a.png", photo->substr(0, photo->size() / 2));
  EXPECT_THAT(refusal(folder_), HasSubstr("broken JPEG"));
  std::filesystem::remove(folder_ / "cats" / "a.png");
  EXPECT_THAT(refusal(folder_), HasSubstr("has folders for 1 classes"));
  for (const char* name : {"dogs", "eels"}) std::filesystem::create_directories(folder_ / name);
  EXPECT_THAT(refusal(folder_), HasSubstr("has class 2"));
}

}  // namespace
}  // namespace strata::vision
