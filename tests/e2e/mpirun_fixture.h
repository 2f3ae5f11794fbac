#pragma once
// The small federation as ranks of mpirun, which a test kills.
#include "e2e/network_fixture.h"

namespace strata {

class Mpirun : public Network {
 protected:
  void SetUp() override {
    if (support::run_program({"sh", "-c", "command -v mpirun"}).status != 0)
      GTEST_SKIP() << "no mpirun here";
    if (!std::filesystem::exists(Path(STRATA_BINARY).parent_path() / "strata_mpi.so"))
      GTEST_SKIP() << "built without MPI";
    Network::SetUp();
    write_job();
  }
  std::vector<std::string> command(const std::string& ranks, const std::string& more = "") const {
    return mpirun(ranks,
                  {STRATA_BINARY, "run", at("job.json"), "-o", at("run"), "--threads", "1",
                   "--format", "json"},
                  more);
  }
  /// As one line of a shell: `words` hold nothing that it would take for its own.
  static std::vector<std::string> mpirun(const std::string& ranks,
                                         const std::vector<std::string>& words,
                                         const std::string& more = "") {
    // For the sanitizers: Open MPI leaves memory behind, some of it in plugins that are gone when
    // leaks are looked for, and takes its own locks in other orders.
    std::string line =
        "exec env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
        "ASAN_OPTIONS=detect_leaks=0 "
        "TSAN_OPTIONS=ignore_noninstrumented_modules=1:detect_deadlocks=0 mpirun "
        "--oversubscribe --bind-to none " +
        more + " -n " + ranks;
    for (const auto& word : words) line += " " + word;
    return {"sh", "-c", line};
  }
  // The newest process of the job is its last rank.
  void kill_newest_rank() const { kill_ranks("-n"); }
  void kill_oldest_rank() const { kill_ranks("-o"); }  // rank 0
  void kill_all_ranks() const { kill_ranks(""); }

  /// A rank is killed after a few rounds; with recovery the others soon after it.
  void expect_to_go_on_after_a_kill(const std::string& expected) {
    for (const char* more : {"", "--enable-recovery"}) {
      std::filesystem::remove_all(at("run"));
      Running first(command("3", more));
      while (!std::filesystem::exists(at("run/rounds/0003")))
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      kill_newest_rank();
      if (*more != '\0') {  // the others would wait for it: as a batch system ends a job
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        kill_all_ranks();
      }
      const int status = first.wait().status;
      // With recovery mpirun itself is content whoever was killed.
      if (*more == '\0') {
        EXPECT_NE(status, 0);
      }
      EXPECT_FALSE(std::filesystem::exists(at("run/manifest.json")))
          << "it was over before the kill";
      ASSERT_TRUE(std::filesystem::exists(at("run/rounds/0003/strata.json")))
          << "a finished round is lost";
      EXPECT_EQ(hash_in(support::run_program(command("3", more))), expected) << more;
    }
  }

 private:
  void kill_ranks(const std::string& which) const {
    (void)support::run_program(
        {"sh", "-c",
         "pkill -KILL " + which + " -f '^[^ ]*strata run " + at("job.json").string() + "'"});
  }
};

}  // namespace strata
