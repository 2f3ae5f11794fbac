#include "privacy/ledger/lines.h"

#include <cstdio>
#include <optional>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/json_depth.h"

namespace strata::ledger {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kSumKey = ",\"crc\":\"";
constexpr std::string_view kBeginning = "{\"seq\":";
constexpr std::size_t kSumBytes = 8 + 8 + 2;  // the key, the digits, the two marks behind them
constexpr std::size_t kDepthMax = 4;

std::string sum_of(std::string_view text) {
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(crc32c(bytes_of(text))));
  return digits;
}

bool has_right_sum(std::string_view line) {
  if (line.size() <= kSumBytes || !line.ends_with("\"}")) return false;
  const auto body = line.substr(0, line.size() - kSumBytes);
  const auto tail = line.substr(body.size());
  return tail.starts_with(kSumKey) && tail.substr(kSumKey.size(), 8) == sum_of(body);
}

// The fields of a line, if it is an object with its number and the hash before it.
std::optional<ordered_json> fields_of(std::string_view line) {
  if (json_depth(line) > kDepthMax) return std::nullopt;
  ordered_json out = ordered_json::parse(line, nullptr, false);
  if (!out.is_object() || !out.contains("seq") || !out["seq"].is_number_unsigned() ||
      !out.contains("prev") || !out["prev"].is_string())
    return std::nullopt;
  return out;
}

}  // namespace

Error damaged_line(const std::string& where, std::size_t number, std::string what) {
  return {.code = ErrorCode::kDamaged,
          .what = std::move(what),
          .where = where + ", line " + std::to_string(number),
          .rule = "a ledger is only ever added to",
          .remedy = "restore it from the newest copy"};
}

Result<Lines> read_lines(std::string_view text, const std::string& where) {
  Lines out;
  while (out.end < text.size()) {
    const std::string_view rest = text.substr(out.end);
    const auto newline = rest.find('\n');
    const bool ended = newline != std::string_view::npos;
    const std::string_view line = rest.substr(0, newline);
    const std::size_t number = out.all.size() + 1;
    if (!has_right_sum(line)) {
      const bool more = ended && newline + 1 < rest.size();
      // In strings the marks are escaped, so this begins a record wherever it stands.
      const auto first = rest.find(kBeginning);
      const bool several = first != std::string_view::npos &&
                           rest.find(kBeginning, first + 1) != std::string_view::npos;
      if (more || several)
        return fail(damaged_line(where, number, "is not as it was written, and more follows it"));
      out.cut_bytes = rest.size();
      break;
    }
    auto fields = fields_of(line);
    if (!fields) return fail(damaged_line(where, number, "is no record"));
    const Sha256 before = out.all.empty() ? Sha256{} : out.all.back().hash;
    if ((*fields)["seq"] != out.all.size())
      return fail(damaged_line(where, number, "has another number: a line is gone or came in"));
    if ((*fields)["prev"] != hex(before)) {
      return fail(out.all.empty() ? damaged_line(where, number, "follows a line that is gone")
                                  : damaged_line(where, number - 1,
                                                 "is not the one that the next was written after"));
    }
    out.all.push_back({std::move(*fields), sha256(bytes_of(line))});
    out.last = out.end;
    out.end += line.size() + (ended ? 1 : 0);
    out.unended = !ended;
  }
  return out;
}

std::string make_line(const ordered_json& fields, const Lines& before) {
  ordered_json all;
  all["seq"] = before.all.size();
  all["prev"] = hex(before.all.empty() ? Sha256{} : before.all.back().hash);
  all.update(fields);
  std::string body = all.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  body.pop_back();
  const std::string sum = sum_of(body);
  return body + std::string(kSumKey) + sum + "\"}\n";
}

}  // namespace strata::ledger
