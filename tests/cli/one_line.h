#pragma once
// What bad input gets on standard error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "federation.h"

namespace strata::cli {

/// Exactly one line that says what is wrong, nothing of a stack trace, and the fragments in it.
inline void expect_one_line(const Finished& finished, int status,
                            const std::vector<std::string>& fragments) {
  EXPECT_EQ(finished.status, status) << finished.err;
  EXPECT_THAT(finished.err, testing::AllOf(testing::Not(testing::HasSubstr("terminate called")),
                                           testing::Not(testing::HasSubstr("what():"))));
  std::vector<std::string> errors;
  std::istringstream lines(finished.err);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("error") != std::string::npos) errors.push_back(line);
  }
  ASSERT_EQ(errors.size(), 1u) << finished.err;
  for (const auto& fragment : fragments) EXPECT_THAT(errors[0], testing::HasSubstr(fragment));
}

}  // namespace strata::cli
