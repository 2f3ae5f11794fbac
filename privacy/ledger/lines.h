#pragma once
// The file below the ledger: lines of JSON, each with its number, the hash of the line before it
// and a checksum at its end (docs/formats/ledger.md). Knows no record's meaning.
//   {"seq":7,"prev":"<64 digits>","type":"...", ... ,"crc":"<8 digits>"}
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"

namespace strata::ledger {

struct Line {
  nlohmann::ordered_json fields;
  Sha256 hash{};  // of its bytes without the newline
};

struct Lines {
  std::vector<Line> all;
  std::uint64_t last = 0;       // where the last good line begins
  std::uint64_t end = 0;        // of the last good line, newline and all
  bool unended = false;         // the last good line lacks only its newline
  std::uint64_t cut_bytes = 0;  // of a torn line behind it
};

/// A line is on the disk before the next one is begun, so a crash tears the last one at most: one
/// whose checksum fails, that nothing follows and that is not several is left out. kDamaged naming
/// `where` and the line for everything else that is not as it was written.
[[nodiscard]] Result<Lines> read_lines(std::string_view text, const std::string& where);

/// The line of `fields`, with its newline, behind those of `before`.
[[nodiscard]] std::string make_line(const nlohmann::ordered_json& fields, const Lines& before);

/// kDamaged at a line, counted from 1.
[[nodiscard]] Error damaged_line(const std::string& where, std::size_t number, std::string what);

}  // namespace strata::ledger
