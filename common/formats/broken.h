#pragma once
// How the readers of this folder say that a file is damaged.
#include <string>
#include <utility>

#include "base/error.h"

namespace strata::formats {

/// kFormat about a damaged file.
[[nodiscard]] inline Error broken(const std::string& where, std::string what,
                                  std::string rule = {}) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = "fetch or export the file again"};
}

}  // namespace strata::formats
