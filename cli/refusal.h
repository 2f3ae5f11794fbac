#pragma once
// How a rule of the job file is told to be broken: kConfig naming file and key.
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace strata::cli {

struct Refusal {
  const std::string& file;
  tl::unexpected<Error> operator()(std::string_view key, std::string what, std::string rule,
                                   std::string remedy = {}) const {
    return fail({.code = ErrorCode::kConfig,
                 .what = std::move(what),
                 .where = file + ": " + std::string(key),
                 .rule = std::move(rule),
                 .remedy = std::move(remedy)});
  }
};

}  // namespace strata::cli
