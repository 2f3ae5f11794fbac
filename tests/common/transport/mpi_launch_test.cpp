// How a job was started, and whether its processes found each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "support/process.h"
#include "transport/mpi.h"

namespace strata::transport {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment_of(const Variables& variables) {
  return [&variables](const char* name) {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
}

MpiLaunch launch_of(const Variables& variables) {
  const auto launch = detect_launch(environment_of(variables));
  if (!launch) throw std::runtime_error(launch.error().line());
  return *launch;
}

TEST(MpiLaunch, IsReadFromWhatLaunchersSet) {
  EXPECT_EQ(launch_of({}).by, "");
  EXPECT_EQ(launch_of({}).ranks, 0);
  EXPECT_EQ(launch_of({{"OMPI_COMM_WORLD_SIZE", "5"}, {"PMIX_RANK", "2"}}).by, "mpirun");
  EXPECT_EQ(launch_of({{"OMPI_COMM_WORLD_SIZE", "5"}}).ranks, 5);
  EXPECT_EQ(launch_of({{"PMI_SIZE", "3"}}).ranks, 3);
  EXPECT_EQ(launch_of({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "4"}}).by, "srun");
  EXPECT_EQ(launch_of({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "4"}}).ranks, 4);
}

// One of several and the only one look alike then.
TEST(MpiLaunch, RefusesALauncherThatDoesNotCount) {
  const std::pair<Variables, const char*> cases[] = {
      {{{"PMIX_RANK", "0"}}, "PMIX_RANK: a PMIx launcher has started this process"},
      {{{"PMIX_RANK", "3"}, {"PMIX_NAMESPACE", "job"}}, "`env -u PMIX_RANK strata ...`"},
      {{{"SLURM_STEP_ID", "0"}, {"PMIX_RANK", "1"}}, "SLURM_STEP_ID: srun has started"}};
  for (const auto& [variables, said] : cases) {
    const auto launch = detect_launch(environment_of(variables));
    ASSERT_FALSE(launch) << said;
    EXPECT_EQ(launch.error().code, ErrorCode::kConfig);
    EXPECT_THAT(launch.error().line(), testing::HasSubstr(said));
  }
}

// A job of 8 tasks whose step has 2; a batch script, which is in a job but in no step.
TEST(MpiLaunch, TellsASlurmStepFromItsJob) {
  EXPECT_EQ(launch_of({{"SLURM_STEP_ID", "1"},
                       {"SLURM_NTASKS", "8"},
                       {"SLURM_STEP_NUM_TASKS", "2"},
                       {"PMIX_RANK", "1"}})
                .ranks,
            2);
  EXPECT_EQ(launch_of({{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "77"}}).by, "");
}

// mpirun starts its own helpers as Slurm tasks, one a node.
TEST(MpiLaunch, BelievesMpirunBeforeSlurm) {
  const auto launch =
      launch_of({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "2"}, {"OMPI_COMM_WORLD_SIZE", "16"}});
  EXPECT_EQ(launch.by, "mpirun");
  EXPECT_EQ(launch.ranks, 16);
}

TEST(MpiLaunch, RefusesACountThatIsNone) {
  for (const char* bad : {"", "0", "-3", "four", "4 ", "99999999999"}) {
    const Variables variables{{"OMPI_COMM_WORLD_SIZE", bad}};
    const auto launch = detect_launch(environment_of(variables));
    ASSERT_FALSE(launch) << bad;
    EXPECT_EQ(launch.error().code, ErrorCode::kConfig);
    EXPECT_THAT(launch.error().line(),
                testing::HasSubstr("environment variable OMPI_COMM_WORLD_SIZE"));
  }
}

TEST(MpiLaunch, FindsSingletons) {
  EXPECT_TRUE(check_launch({.by = "srun", .ranks = 4}, 4));
  EXPECT_TRUE(check_launch({}, 1));
  const auto srun = check_launch({.by = "srun", .ranks = 4}, 1);
  ASSERT_FALSE(srun);
  EXPECT_EQ(srun.error().code, ErrorCode::kConfig);
  EXPECT_THAT(srun.error().line(), testing::HasSubstr("srun started 4 processes, but MPI sees 1"));
  EXPECT_THAT(srun.error().remedy, testing::HasSubstr("`srun --mpi=pmix`"));
  const auto mpirun = check_launch({.by = "mpirun", .ranks = 2}, 1);
  ASSERT_FALSE(mpirun);
  EXPECT_THAT(mpirun.error().remedy, testing::HasSubstr("the mpirun of the MPI"));
}

TEST(MpiPlugin, IsLookedForBesideTheProgramThenInLib) {
  const support::ScratchFolder root;
  const auto program = root.path() / "bin" / "strata";
  const auto beside = root.path() / "bin" / "strata_mpi.so";
  const auto in_lib = root.path() / "lib" / "strata" / "strata_mpi.so";
  EXPECT_EQ(find_mpi_plugin(program), beside);
  support::write_file(in_lib, "");
  EXPECT_EQ(find_mpi_plugin(program), in_lib);
  support::write_file(beside, "");
  EXPECT_EQ(find_mpi_plugin(program), beside);
}

TEST(MpiPlugin, IsMissedWithARemedy) {
  const support::ScratchFolder root;
  const auto clock = sys::make_posix_clock();
  const auto loop = sys::make_loop(*clock);
  const auto plugin = root.path() / "strata_mpi.so";
  const auto absent = join_mpi(*loop, *clock, plugin);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(absent.error().line(), testing::HasSubstr(plugin.string()));
  EXPECT_THAT(absent.error().remedy, testing::HasSubstr("libopenmpi-dev"));
  support::write_file(plugin, "no library");
  const auto damaged = join_mpi(*loop, *clock, plugin);
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace strata::transport
