#include "base/error.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/result.h"

namespace strata {

int exit_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return 2;
    case ErrorCode::kConfig:
      return 3;
    case ErrorCode::kBudget:
      return 4;
    case ErrorCode::kFileMissing:
    case ErrorCode::kFormat:
    case ErrorCode::kUnsupported:
    case ErrorCode::kData:
      return 7;
    case ErrorCode::kFileExists:
    case ErrorCode::kIo:
    case ErrorCode::kDiskFull:
    case ErrorCode::kIncompatibleUpdate:
    case ErrorCode::kNumeric:
    case ErrorCode::kLocked:
      return 1;
    case ErrorCode::kQuorum:
    case ErrorCode::kPeer:
    case ErrorCode::kProtocol:
      return 5;
    case ErrorCode::kAuth:
      return 6;
    case ErrorCode::kDamaged:
      return 8;
    case ErrorCode::kInterrupted:
      return 75;
    case ErrorCode::kInternal:
      return 70;
  }
  return 70;
}

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return "E_USAGE";
    case ErrorCode::kConfig:
      return "E_CONFIG";
    case ErrorCode::kFileMissing:
      return "E_FILE_MISSING";
    case ErrorCode::kFileExists:
      return "E_FILE_EXISTS";
    case ErrorCode::kIo:
      return "E_IO";
    case ErrorCode::kDiskFull:
      return "E_DISK_FULL";
    case ErrorCode::kFormat:
      return "E_FORMAT";
    case ErrorCode::kUnsupported:
      return "E_UNSUPPORTED";
    case ErrorCode::kData:
      return "E_DATA";
    case ErrorCode::kIncompatibleUpdate:
      return "E_INCOMPATIBLE_UPDATE";
    case ErrorCode::kNumeric:
      return "E_NUMERIC";
    case ErrorCode::kQuorum:
      return "E_QUORUM";
    case ErrorCode::kPeer:
      return "E_PEER";
    case ErrorCode::kProtocol:
      return "E_PROTOCOL";
    case ErrorCode::kAuth:
      return "E_AUTH";
    case ErrorCode::kDamaged:
      return "E_DAMAGED";
    case ErrorCode::kLocked:
      return "E_LOCKED";
    case ErrorCode::kInterrupted:
      return "E_INTERRUPTED";
    case ErrorCode::kBudget:
      return "E_BUDGET";
    case ErrorCode::kInternal:
      return "E_INTERNAL";
  }
  return "E_INTERNAL";
}

namespace {

// Bytes of the character of UTF-8 that `text` begins with; 0 when it is none, or one that only
// steers a terminal (U+0080 to U+009F).
std::size_t character(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xc2 ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) return 0;
  }
  if (length == 1) return first < 0x20 || first == 0x7f ? 0 : 1;
  const unsigned char second = byte(1);
  const bool steers = first == 0xc2 && second < 0xa0;
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool beyond = first == 0xf4 && second >= 0x90;
  return steers || overlong || surrogate || beyond ? 0 : length;
}

}  // namespace

std::string printable(std::string_view text, std::size_t max) {
  // Cut before a character of UTF-8, not inside it.
  const auto continues = [&](std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u;
  };
  std::size_t end = std::min(max, text.size());
  for (int back = 0; back < 3 && end > 0 && continues(end); ++back) --end;
  std::string out;
  for (std::size_t at = 0; at < end;) {
    const std::size_t length = character(text.substr(at, end - at));
    if (length == 0) {
      char escaped[5];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned char>(text[at]));
      out += escaped;
      ++at;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  if (end < text.size()) out += "...";
  return out;
}

std::string Error::line() const {
  std::string out;
  for (auto step = doing.rbegin(); step != doing.rend(); ++step) out += *step + ": ";
  if (!where.empty()) out += where + ": ";
  out += what;
  if (!rule.empty()) out += "; " + rule;
  if (!remedy.empty()) out += "; " + remedy;
  return printable(out, 4096);
}

void broken_invariant(const char* what, const char* file, int line) {
  std::fprintf(stderr, "strata: internal error: %s (%s:%d)\n", what, file, line);
  std::abort();
}

}  // namespace strata
