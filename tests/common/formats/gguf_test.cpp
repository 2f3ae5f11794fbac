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
