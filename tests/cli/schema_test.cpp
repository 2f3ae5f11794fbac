#include <gtest/gtest.h>

#include "base/error.h"
#include "cli/job.h"
#include "support/process.h"

namespace strata::cli {
namespace {

std::string source_file(const std::string& name) {
  return support::read_file(std::filesystem::path(STRATA_SOURCE_DIR) / name);
}

TEST(Schema, TheCommittedFileIsWhatTheProgramPrints) {
  EXPECT_EQ(source_file("configs/schema.json"), job_schema());
}

TEST(Schema, TheJobsInConfigsAreValid) {
  const auto disk = sys::make_posix_disk();
  for (const char* name :
       {"configs/quickstart.json", "configs/quickstart-private.json", "configs/smollm2.json"}) {
    const auto job =
        read_job(*disk, (std::filesystem::path(STRATA_SOURCE_DIR) / name).string(), {});
    EXPECT_TRUE(job) << (job ? "" : job.error().line());
  }
}

TEST(ErrorPage, NamesEveryCodeWithItsExitStatus) {
  const std::string page = source_file("docs/errors.md");
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    const auto error = static_cast<ErrorCode>(code);
    const std::string row =
        "| " + std::string(name(error)) + " | " + std::to_string(exit_status(error)) + " |";
    EXPECT_NE(page.find(row), std::string::npos) << row;
  }
}

}  // namespace
}  // namespace strata::cli
