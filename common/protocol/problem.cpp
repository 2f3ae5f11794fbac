#include "protocol/problem.h"

namespace strata::protocol {

Error breach(std::string what, std::string rule) {
  return {.code = ErrorCode::kProtocol, .what = std::move(what), .rule = std::move(rule)};
}

Problem problem_of(const Error& error, bool retry) {
  return {.code = std::string(strata::name(error.code)), .message = error.line(), .retry = retry};
}

Error error_of(const Problem& problem, std::string_view who) {
  Error out{.code = ErrorCode::kPeer,
            .what = std::string(who) + " says: " + printable(problem.message, 400)};
  if (problem.retry) return out;
  for (int i = 0; i <= static_cast<int>(ErrorCode::kInternal); ++i) {
    if (strata::name(static_cast<ErrorCode>(i)) == problem.code)
      out.code = static_cast<ErrorCode>(i);
  }
  return out;
}

}  // namespace strata::protocol
