#include <stdexcept>

#include "cli/job.h"
#include "hostile/targets.h"

namespace strata::hostile {
namespace {

std::string feed_job(ByteSpan bytes) {
  auto job = cli::parse_job(std::string(text_of(bytes)), "/jobs/job.json", {});
  if (!job) return job.error().line();
  auto again = cli::parse_job(cli::resolved(*job), "/jobs/job.json", {});
  if (!again) throw std::logic_error("a job with its defaults is a job: " + again.error().line());
  if (cli::resolved(*again) != cli::resolved(*job))
    throw std::logic_error("a job with its defaults is the same job");
  return "";
}

}  // namespace

const Target& job_target() {
  static constexpr Target kJob{"job", feed_job};
  return kJob;
}

}  // namespace strata::hostile
