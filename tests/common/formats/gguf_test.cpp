#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <fstream>

#include "formats/safetensors.h"
#include "support/process.h"

namespace strata::formats {
namespace {

std::filesystem::path golden() {
  return std::filesystem::path(STRATA_SOURCE_DIR) / "tests/golden/gguf";
}

TEST(Gguf, EveryBlockFormatDequantisesAsTheReferenceDoes) {
  const auto disk = sys::make_posix_disk();
  const auto file = GgufFile::open(*disk, golden() / "blocks.gguf").value();
  const auto expected = SafetensorsFile::open(*disk, golden() / "expected.safetensors").value();
  EXPECT_EQ(file.tensors().size(), expected.names().size());
  for (const auto& name : expected.names()) {
    const auto& tensor = file.tensors().at(name);
    const auto want = to_float(expected.get(name).value(), name, "golden").value();
    const auto got = dequantise(tensor);
    ASSERT_EQ(got.size(), want.size()) << name;
    EXPECT_EQ(got, want) << name;
  }
}

TEST(Gguf, ValuesAreReadByKind) {
  const auto disk = sys::make_posix_disk();
  const auto file = GgufFile::open(*disk, golden() / "blocks.gguf").value();
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.whole("test.whole"), 7u);
  ASSERT_NE(file.texts("test.words"), nullptr);
  EXPECT_EQ(*file.texts("test.words"), (std::vector<std::string>{"a", "b c", "\xc3\xa9"}));
  EXPECT_FALSE(file.whole("no.such.key"));
}

TEST(Gguf, ListsInListsAreRefusedNotFollowed) {
  // One key whose value is a list of one list of one list ...
  const auto number = [](auto value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  std::string file = "GGUF" + number(std::uint32_t{3}) + number(std::uint64_t{0}) +
                     number(std::uint64_t{1}) + number(std::uint64_t{1}) + "k" +
                     number(std::uint32_t{9});
  for (int depth = 0; depth < 200000; ++depth)
    file += number(std::uint32_t{9}) + number(std::uint64_t{1});
  const auto disk = sys::make_posix_disk();
  const support::ScratchFolder scratch;
  support::write_file(scratch.path() / "deep.gguf", file);
  const auto opened = GgufFile::open(*disk, scratch.path() / "deep.gguf");
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().line().find("a list of lists"), std::string::npos);
}

TEST(Gguf, AFileCutAnywhereIsRefusedNotRead) {
  const auto disk = sys::make_posix_disk();
  const std::string whole = support::read_file(golden() / "blocks.gguf");
  const support::ScratchFolder scratch;
  for (std::size_t length = 0; length < whole.size(); length += 37) {
    const auto path = scratch.path() / "cut.gguf";
    support::write_file(path, whole.substr(0, length));
    const auto opened = GgufFile::open(*disk, path);
    ASSERT_FALSE(opened) << length;
    EXPECT_NE(opened.error().line().find("cut.gguf"), std::string::npos) << opened.error().line();
  }
}

}  // namespace
}  // namespace strata::formats
