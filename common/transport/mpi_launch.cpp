#include <fmt/format.h>

#include <array>
#include <charconv>
#include <string_view>

#include "transport/mpi.h"

namespace strata::transport {
namespace {

// Who sets a variable with the count of ranks. In this order: what mpirun starts inside a Slurm
// step has Slurm's variables too, and they count something else.
struct Sign {
  const char* name;
  const char* by;
};
constexpr std::array<Sign, 2> kCounts{
    {{"OMPI_COMM_WORLD_SIZE", "mpirun"}, {"PMI_SIZE", "a PMI launcher"}}};
// Within a step, the step's own count before that of the whole job.
constexpr std::array<const char*, 2> kStepCounts{"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};

Result<int> count_in(const char* name, std::string_view text) {
  int count = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), count);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && count > 0)
    return count;
  return fail({.code = ErrorCode::kConfig,
               .what = "is \"" + printable(text, 40) + "\"",
               .where = std::string("environment variable ") + name,
               .rule = "a launcher sets it to the number of ranks",
               .remedy = "start the job with mpirun or `srun --mpi=pmix`, and do not set it"});
}

Error uncounted(const std::string& by, const std::string& mark) {
  return {.code = ErrorCode::kConfig,
          .what = by + " has started this process and does not say how many there are",
          .where = "environment variable " + mark,
          .rule = "a job is one process, or ranks that know their number",
          .remedy =
              "start the job with mpirun or `srun --mpi=pmix`; where this is the only "
              "process, unset the variable: `env -u " +
              mark + " strata ...`"};
}

}  // namespace

Result<MpiLaunch> detect_launch(const Environment& environment) {
  MpiLaunch out;
  const auto count = [&](const char* name, const char* by) -> Result<bool> {
    const char* text = environment(name);
    if (text == nullptr) return false;
    auto ranks = count_in(name, text);
    if (!ranks) return fail(std::move(ranks).error());
    out = {.by = by, .ranks = *ranks};
    return true;
  };
  for (const Sign& sign : kCounts) {
    const auto found = count(sign.name, sign.by);
    if (!found) return fail(found.error());
    if (*found) return out;
  }
  if (environment("SLURM_STEP_ID") != nullptr) {
    for (const char* name : kStepCounts) {
      const auto found = count(name, "srun");
      if (!found) return fail(found.error());
      if (*found) return out;
    }
    return fail(uncounted("srun", "SLURM_STEP_ID"));
  }
  if (environment("PMIX_RANK") != nullptr) return fail(uncounted("a PMIx launcher", "PMIX_RANK"));
  return out;
}

Result<void> check_launch(const MpiLaunch& launch, int size) {
  if (launch.ranks == 0 || launch.ranks == size) return {};
  return fail({.code = ErrorCode::kConfig,
               .what = fmt::format("{} started {} processes, but MPI sees {}", launch.by,
                                   launch.ranks, size),
               .rule = "all processes of a job are ranks of one MPI world",
               .remedy = launch.by == "srun"
                             ? "start them with `srun --mpi=pmix`"
                             : "start them with the mpirun of the MPI that strata was built with, "
                               "or with `srun --mpi=pmix`"});
}

}  // namespace strata::transport
