#include "cli/tokenize_lines.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace strata::cli {

namespace {

using nlohmann::json;

constexpr std::string_view kInput = "standard input";

Error bad(std::size_t number, std::string what, std::string rule) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = std::string(kInput) + ":" + std::to_string(number),
          .rule = std::move(rule)};
}

Result<std::vector<text::TokenId>> ids_of(const json& value, std::size_t number) {
  std::vector<text::TokenId> out;
  for (const json& entry : value) {
    const bool fits = entry.is_number_unsigned() &&
                      entry.get<std::uint64_t>() <= std::numeric_limits<text::TokenId>::max();
    if (!fits) {
      return fail(bad(
          number,
          "entry " + std::to_string(out.size()) + " is " +
              (entry.is_structured() ? entry.type_name()
                                     : printable(entry.dump(-1, ' ', /*ensure_ascii=*/true), 40)),
          "an id is a whole number from 0 to 2147483647"));
    }
    out.push_back(entry.get<text::TokenId>());
  }
  return out;
}

}  // namespace

Result<std::string> tokenize_line(const text::Tokenizer& tokenizer, std::string_view line,
                                  std::size_t number, const TokenizeOptions& options) {
  const json value = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const bool fits = options.decode ? value.is_array() : value.is_string();
  if (!fits) {
    return fail(bad(number, "found " + printable(line, 60),
                    options.decode ? "each line is a JSON list of ids"
                                   : "each line is a JSON string in UTF-8"));
  }
  if (options.decode) {
    auto ids = ids_of(value, number);
    if (!ids) return fail(std::move(ids).error());
    return json(tokenizer.decode(*ids, !options.special))
        .dump(-1, ' ', true, json::error_handler_t::replace);
  }
  auto ids = tokenizer.encode(value.get<std::string>(), options.special);
  if (!ids) return fail(std::move(ids).error(), std::string(kInput) + ":" + std::to_string(number));
  return json(*ids).dump(-1, ' ', /*ensure_ascii=*/true);
}

Result<void> tokenize_lines(const text::Tokenizer& tokenizer, std::istream& in, std::ostream& out,
                            const TokenizeOptions& options) {
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto done = tokenize_line(tokenizer, line, number, options);
    if (!done) return fail(std::move(done).error());
    out << *done << '\n';
  }
  out.flush();
  if (!out) {
    return fail({.code = ErrorCode::kIo,
                 .what = "standard output cannot be written",
                 .where = {},
                 .rule = {}});
  }
  return {};
}

}  // namespace strata::cli
