#pragma once
// The project's own tree as the tests of tests/structure read it: files, rooms (the folders that
// are one library each) and what a room's CMakeLists.txt says it may use.
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strata::support {

struct TextFile {
  std::string path;  // from the root of the tree, with '/'
  std::string text;
};

/// A folder with a strata_library(name DEPS ... LIBS ... PRIVATE_LIBS ...) of its own.
struct Room {
  std::string name;    // "optimizer"
  std::string folder;  // "client/optimizer"
  std::vector<std::string> deps;
  std::vector<std::string> libs;  // third-party targets, private ones included
};

/// The root of the source tree the tests were built from.
[[nodiscard]] std::filesystem::path source_root();

/// Files below `folders` of `root` whose names end with one of `endings`, in the order of paths.
/// Throws std::runtime_error when a folder is missing or a file cannot be read.
[[nodiscard]] std::vector<TextFile> read_tree(const std::filesystem::path& root,
                                              std::span<const std::string_view> folders,
                                              std::span<const std::string_view> endings);

/// C++ text without comments, and without the contents of literals unless `literals`; line breaks
/// stay, so that line numbers do.
[[nodiscard]] std::string bare_code(std::string_view text, bool literals);

/// The room a CMakeLists.txt of `folder` makes; nothing when it makes none.
[[nodiscard]] std::optional<Room> room_of(std::string_view folder, std::string_view cmake_text);

/// All rooms among CMakeLists.txt files, by folder.
[[nodiscard]] std::map<std::string, Room> rooms_of(std::span<const TextFile> cmake_files);

/// The room whose folder is the longest that `path` lies in; null when there is none.
[[nodiscard]] const Room* room_holding(const std::map<std::string, Room>& rooms,
                                       std::string_view path);

/// The lines of a text, without their breaks.
[[nodiscard]] std::vector<std::string> lines_of(std::string_view text);

/// Problems one a line, for the message of a failed expectation.
[[nodiscard]] std::string listed(const std::vector<std::string>& problems);

}  // namespace strata::support
