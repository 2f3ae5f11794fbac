// Which way the arrows go: every include is allowed by its room's DEPS, the DEPS by the table
// below, and each third-party library is named in its own room only.
#include <gtest/gtest.h>

#include <array>
#include <regex>
#include <set>

#include "support/source_tree.h"

namespace strata {
namespace {

using support::Room;
using support::TextFile;
using Problems = std::vector<std::string>;

constexpr std::array<std::string_view, 5> kSources{"common", "privacy", "client", "coordinator",
                                                   "cli"};
constexpr std::array<std::string_view, 2> kCpp{".h", ".cpp"};
constexpr std::array<std::string_view, 1> kCMake{"CMakeLists.txt"};

// What a room may name in its DEPS, from the bottom up. `cli` may name every room and is named by
// none; client and coordinator never name each other. A new room needs a row.
const std::map<std::string, std::set<std::string>>& allowed_deps() {
  static const std::map<std::string, std::set<std::string>> kTable{
      {"base", {}},
      {"sys", {"base"}},
      {"certs", {"base", "sys"}},
      {"config", {"base"}},
      {"observe", {"base", "sys"}},
      {"wire", {"base"}},
      {"journal", {"base", "sys"}},
      {"tensor", {"base", "sys"}},
      {"formats", {"base", "sys", "config", "tensor"}},
      {"text", {"base", "sys", "config"}},
      {"accountant", {"base"}},
      {"noise", {"base", "sys", "tensor"}},
      {"ledger", {"base", "sys"}},
      {"audit", {"base", "sys", "accountant"}},
      {"privacy", {"base", "sys", "config", "tensor", "accountant", "noise"}},
      {"adapter", {"base", "sys", "config", "tensor"}},
      {"model", {"base", "sys", "config", "tensor", "formats", "adapter"}},
      {"protocol", {"base", "tensor", "formats", "adapter", "privacy", "wire"}},
      {"transport", {"base", "sys", "certs", "config", "wire"}},
      {"evaluation", {"base", "sys", "tensor", "text", "adapter", "model", "observe"}},
      {"vision", {"base", "sys", "text", "model"}},
      {"export", {"base", "sys", "config", "tensor", "formats", "text", "adapter", "model"}},
      {"optimizer", {"base", "config", "tensor", "adapter"}},
      {"schedule", {"base", "config"}},
      {"client",
       {"base", "sys", "wire", "config", "observe", "tensor", "formats", "text", "privacy",
        "adapter", "model", "protocol", "transport", "evaluation", "optimizer", "schedule", "noise",
        "ledger"}},
      {"updates", {"base", "sys", "tensor", "formats", "adapter", "protocol"}},
      {"aggregator", {"base", "sys", "config", "tensor", "adapter", "protocol", "updates"}},
      {"coordinator",
       {"base", "sys", "wire", "journal", "config", "observe", "tensor", "formats", "privacy",
        "adapter", "model", "protocol", "transport", "evaluation", "export", "updates",
        "aggregator"}},
      {"cli",
       {"base",       "sys",         "certs",      "config",   "observe", "wire",     "tensor",
        "formats",    "text",        "privacy",    "adapter",  "model",   "protocol", "transport",
        "evaluation", "export",      "optimizer",  "schedule", "client",  "journal",  "updates",
        "aggregator", "coordinator", "accountant", "noise",    "ledger",  "audit",    "vision"}},
  };
  return kTable;
}

// Where a third-party library may be named: the include, how its names begin in code, the CMake
// target, and the beginnings of the paths it lives in.
struct ThirdParty {
  std::string_view header;              // beginning of what stands between the angles
  std::vector<std::string_view> names;  // each at the beginning of a word
  std::string_view target;              // empty: no target of its own
  std::vector<std::string_view> places;
};

const std::vector<ThirdParty>& third_parties() {
  static const std::vector<ThirdParty> kAll{
      {"oneapi/", {"dnnl::", "dnnl_"}, "DNNL::dnnl", {"common/tensor/gemm"}},
      {"dnnl", {}, "", {"common/tensor/gemm"}},
      {"Eigen/", {"Eigen::"}, "Eigen3::Eigen", {"common/tensor/", "privacy/accountant/"}},
      {"unsupported/Eigen/FFT", {}, "", {"privacy/accountant/"}},
      {"omp.h", {"omp_"}, "OpenMP::OpenMP_CXX", {"common/tensor/"}},
      {"CLI/", {"CLI::"}, "CLI11::CLI11", {"cli/"}},
      {"openssl/",
       {"EVP_", "SSL_", "BIO_", "X509_", "ERR_", "RAND_", "HMAC", "OPENSSL_"},
       "OpenSSL::Crypto",
       {"common/base/hash", "common/certs/", "common/transport/tls", "privacy/noise/",
        "privacy/ledger/"}},
      {"openssl/ssl.h", {}, "OpenSSL::SSL", {"common/transport/tls"}},
      {"boost/",
       {"boost::"},
       "Boost::headers",
       {"common/transport/tls", "common/base/crc32c", "privacy/accountant/"}},
      {"boost/asio", {"asio::"}, "", {"common/transport/tls"}},
      {"boost/math", {}, "", {"privacy/accountant/"}},
      {"boost/crc", {}, "", {"common/base/crc32c"}},
      {"mpi.h", {"MPI_"}, "MPI::MPI_CXX", {"common/transport/mpi_plugin/"}},
      {"nmmintrin.h", {"_mm_crc32"}, "", {"common/base/crc32c"}},
      {"pcre2.h", {"pcre2_"}, "PkgConfig::pcre2", {"common/text/"}},
      {"zlib.h", {"inflate", "z_stream"}, "PkgConfig::zlib", {"common/vision/"}},
      {"png.h", {"png_"}, "PkgConfig::libpng", {"common/vision/"}},
      {"turbojpeg.h", {"tjDecompress"}, "PkgConfig::turbojpeg", {"common/vision/"}},
      {"utf8proc.h", {"utf8proc_"}, "PkgConfig::utf8proc", {"common/text/"}},
      {"Random123/", {"r123::"}, "", {"common/sys/random"}},
      {"tl/", {}, "", {"common/base/result.h"}},
      {"fmt/",
       {"fmt::"},
       "fmt::fmt",
       {"cli/", "client/", "coordinator/", "privacy/", "privacy/accountant/", "privacy/audit/",
        "common/base/", "common/sys/", "common/wire/", "common/protocol/", "common/transport/"}},
      {"nlohmann/",
       {"nlohmann::"},
       "nlohmann_json::nlohmann_json",
       {"common/certs/", "common/config/", "common/formats/", "common/observe/", "common/text/",
        "common/export/", "common/model/families/", "privacy/ledger/", "cli/"}},
  };
  return kAll;
}

// The first of `names` that begins a word of `code`; empty when there is none.
std::string_view first_name(std::string_view code, const std::vector<std::string_view>& names) {
  for (const std::string_view name : names) {
    for (auto at = code.find(name); at != std::string_view::npos; at = code.find(name, at + 1)) {
      const char before = at == 0 ? ' ' : code[at - 1];
      if (std::isalnum(static_cast<unsigned char>(before)) == 0 && before != '_') return name;
    }
  }
  return {};
}

// Headers of the operating system; everything else in angles with a dot or slash is third-party.
constexpr std::string_view kPosix =
    R"((unistd|fcntl|dirent|dlfcn|sched|spawn|signal|netinet/tcp|sys/(file|mman|prctl|resource|socket|stat|vfs|wait|types))\.h)";

bool in_place(const ThirdParty& library, const std::string& path) {
  return std::any_of(library.places.begin(), library.places.end(),
                     [&](std::string_view place) { return path.starts_with(place); });
}

std::map<std::string, Room> read_rooms() {
  return support::rooms_of(support::read_tree(support::source_root(), kSources, kCMake));
}

std::vector<TextFile> read_sources() {
  return support::read_tree(support::source_root(), kSources, kCpp);
}

// Calls visit(what stands between the marks, whether they are quotes) for each include.
template <class Visit>
void each_include(const TextFile& file, const Visit& visit) {
  static const std::regex kLine(R"re(^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>))re");
  for (const auto& text : support::lines_of(support::bare_code(file.text, true))) {
    std::smatch match;
    if (text.find("include") == std::string::npos || !std::regex_search(text, match, kLine))
      continue;
    visit(match[1].matched ? match[1].str() : match[2].str(), match[1].matched);
  }
}

// Includes of other rooms that the including room's DEPS do not name. `crossings`: how many
// includes lead into another room at all.
Problems bad_includes(const std::map<std::string, Room>& rooms,
                      const std::vector<TextFile>& sources, std::size_t& crossings) {
  std::set<std::string> known;
  for (const auto& file : sources) known.insert(file.path);
  Problems out;
  for (const auto& file : sources) {
    const Room* own = support::room_holding(rooms, file.path);
    if (own == nullptr) {
      out.push_back(file.path + " lies in no room: its folder needs a strata_library(...)");
      continue;
    }
    each_include(file, [&](const std::string& name, bool quoted) {
      if (!quoted) return;
      const std::string path = known.contains("common/" + name) ? "common/" + name : name;
      const Room* other = support::room_holding(rooms, path);
      if (!known.contains(path) || other == nullptr) {
        out.push_back(file.path + " includes \"" + name +
                      "\": write the path from the root or common/");
      } else if (other != own) {
        ++crossings;
        if (std::find(own->deps.begin(), own->deps.end(), other->name) == own->deps.end())
          out.push_back(file.path + " includes " + name + ", but DEPS of " + own->folder +
                        " do not name " + other->name);
      }
    });
  }
  return out;
}

// The rules that hold whatever DEPS say: nothing in common or privacy knows a side, neither side
// knows the other, and nobody knows cli.
Problems crossed_sides(const std::vector<TextFile>& sources) {
  const std::map<std::string, std::regex> refused{
      {"common/", std::regex("^(privacy|client|coordinator|cli)/")},
      {"privacy/", std::regex("^(client|coordinator|cli)/")},
      {"client/", std::regex("^(coordinator|cli)/")},
      {"coordinator/", std::regex("^(client|cli)/")}};
  Problems out;
  for (const auto& file : sources) {
    each_include(file, [&](const std::string& name, bool) {
      for (const auto& [side, others] : refused) {
        if (file.path.starts_with(side) && std::regex_search(name, others))
          out.push_back(file.path + " includes " + name);
      }
    });
  }
  return out;
}

Problems bad_deps(const std::map<std::string, Room>& rooms) {
  Problems out;
  for (const auto& [folder, room] : rooms) {
    const auto row = allowed_deps().find(room.name);
    if (row == allowed_deps().end()) {
      out.push_back(folder + " has no row in the table of allowed DEPS");
      continue;
    }
    for (const auto& dep : room.deps) {
      if (!row->second.contains(dep))
        out.push_back(folder + "/CMakeLists.txt names " + dep + ", which " + room.name +
                      " may not know");
    }
  }
  return out;
}

Problems misplaced_libraries(const std::map<std::string, Room>& rooms,
                             const std::vector<TextFile>& sources) {
  Problems out;
  const std::regex posix{std::string(kPosix)};
  for (const auto& file : sources) {
    each_include(file, [&](const std::string& name, bool quoted) {
      if (quoted || name.find_first_of("./") == std::string::npos || std::regex_match(name, posix))
        return;
      bool known = false;
      for (const auto& library : third_parties()) {
        if (!name.starts_with(library.header)) continue;
        known = true;
        if (!in_place(library, file.path))
          out.push_back(file.path + " includes <" + name + ">, which has another room");
      }
      if (!known) out.push_back(file.path + " includes <" + name + ">, which has no room yet");
    });
    const std::string code = support::bare_code(file.text, false);
    for (const auto& library : third_parties()) {
      if (in_place(library, file.path)) continue;
      const auto name = first_name(code, library.names);
      if (!name.empty())
        out.push_back(file.path + " names " + std::string(name) +
                      ", whose library has another room");
    }
  }
  for (const auto& [folder, room] : rooms) {
    for (const auto& library : third_parties()) {
      if (library.target.empty() ||
          std::find(room.libs.begin(), room.libs.end(), library.target) == room.libs.end())
        continue;
      const std::string inside = folder + "/";
      const bool here =
          std::any_of(library.places.begin(), library.places.end(),
                      [&](std::string_view place) { return place.starts_with(inside); });
      if (!here)
        out.push_back(folder + "/CMakeLists.txt links " + std::string(library.target) +
                      ", which has another room");
    }
  }
  return out;
}

TEST(Includes, AreAllowedByTheDepsOfTheirRoom) {
  std::size_t crossings = 0;
  const auto problems = bad_includes(read_rooms(), read_sources(), crossings);
  EXPECT_TRUE(problems.empty()) << support::listed(problems);
  EXPECT_GT(crossings, 200u) << "the reading of includes has lost most of them";
}

TEST(Includes, ClientAndCoordinatorMeetOnlyInCli) {
  const auto problems = crossed_sides(read_sources());
  EXPECT_TRUE(problems.empty()) << support::listed(problems);
}

TEST(Includes, DepsFollowTheArrows) {
  const auto rooms = read_rooms();
  const auto problems = bad_deps(rooms);
  EXPECT_TRUE(problems.empty()) << support::listed(problems);
  EXPECT_GT(rooms.size(), 15u);
}

TEST(Includes, TheTableOfArrowsHasNoWayBack) {
  for (const auto& [name, row] : allowed_deps()) {
    // Everything reachable from `name`, which must not be `name` itself.
    std::set<std::string> reached(row.begin(), row.end());
    for (std::size_t before = 0; before != reached.size();) {
      before = reached.size();
      for (const std::string& next : std::set<std::string>(reached)) {
        const auto& further = allowed_deps().at(next);
        reached.insert(further.begin(), further.end());
      }
    }
    EXPECT_FALSE(reached.contains(name)) << name << " can be reached from itself";
    EXPECT_FALSE(reached.contains("cli")) << name;
    EXPECT_FALSE(name == "coordinator" && reached.contains("client"));
    EXPECT_FALSE(name == "client" && reached.contains("coordinator"));
  }
}

TEST(Includes, ThirdPartyLibrariesKeepToTheirRooms) {
  const auto problems = misplaced_libraries(read_rooms(), read_sources());
  EXPECT_TRUE(problems.empty()) << support::listed(problems);
}

// The checks on a small tree with one fault each: a check that sees nothing is no check.
class IncludesPlanted : public ::testing::Test {
 protected:
  std::map<std::string, Room> rooms_ = support::rooms_of(std::vector<TextFile>{
      {"common/base/CMakeLists.txt", "strata_library(base LIBS fmt::fmt)"},
      {"common/tensor/CMakeLists.txt", "strata_library(tensor DEPS base)  # DEPS cli"},
      {"client/CMakeLists.txt", "strata_library(client\n  DEPS base tensor)"},
      {"coordinator/CMakeLists.txt", "strata_library(coordinator DEPS base)"}});
  std::vector<TextFile> sources_{{"common/base/error.h", ""},
                                 {"common/tensor/gemm.cpp", "#include <oneapi/dnnl/dnnl.hpp>\n"},
                                 {"client/session.h", "#include \"base/error.h\"\n"}};
  std::size_t crossings_ = 0;
};

TEST_F(IncludesPlanted, ASoundTreeHasNone) {
  EXPECT_EQ(bad_includes(rooms_, sources_, crossings_), Problems{});
  EXPECT_EQ(bad_deps(rooms_), Problems{});
  EXPECT_EQ(misplaced_libraries(rooms_, sources_), Problems{});
}

TEST_F(IncludesPlanted, AnIncludeWithoutADepIsSeen) {
  sources_.push_back({"coordinator/round.cpp", "#include \"client/session.h\"\n"});
  EXPECT_EQ(bad_includes(rooms_, sources_, crossings_).size(), 1u);
  EXPECT_EQ(crossed_sides(sources_).size(), 1u);
  sources_.back().text = "// #include \"client/session.h\"\n";
  EXPECT_EQ(bad_includes(rooms_, sources_, crossings_).size(), 0u);
  sources_.back().text = "#include \"session.h\"\n";
  EXPECT_EQ(bad_includes(rooms_, sources_, crossings_).size(), 1u);
}

TEST_F(IncludesPlanted, ADepAgainstTheArrowsIsSeen) {
  rooms_.at("common/tensor").deps.emplace_back("client");
  rooms_.at("coordinator").deps.emplace_back("client");
  EXPECT_EQ(bad_deps(rooms_).size(), 2u);
}

TEST_F(IncludesPlanted, AStrayLibraryIsSeenByIncludeNameAndTarget) {
  sources_.push_back({"client/a.cpp", "#include <CLI/CLI.hpp>\n"});
  sources_.push_back(
      {"client/b.cpp", "auto x = dnnl::memory(); // a name\nauto s = \"CLI::App\";\n"});
  sources_.push_back({"client/c.cpp", "#include <curl/curl.h>\n"});
  rooms_.at("client").libs.emplace_back("OpenSSL::Crypto");
  EXPECT_EQ(misplaced_libraries(rooms_, sources_).size(), 4u);
}

}  // namespace
}  // namespace strata
