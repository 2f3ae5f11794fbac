// mpirun --enable-recovery: a rank is killed and mpirun lets the others go on.
#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "e2e/mpirun_fixture.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::SizeIs;

class MpirunLostRank : public Mpirun {
 protected:
  enum class Which { kFirst, kLast };
  void SetUp() override {
    Mpirun::SetUp();
    if (IsSkipped()) return;
    job_["training"]["local_steps"] = 100;  // so that a kill falls into a round
    job_["aggregation"]["rounds"] = 6;
    job_["network"]["silence"] = 2.0;  // 45 by default
  }
  // Kills one after the first round; what mpirun says at the end, which is soon.
  Finished lose(Which rank) const {
    Running job(command("3", "--enable-recovery"));
    EXPECT_TRUE(await_round(1));
    rank == Which::kLast ? kill_newest_rank() : kill_oldest_rank();
    const auto began = std::chrono::steady_clock::now();
    Finished out = job.wait();
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(40));
    return out;
  }

  // Each rank that says something says one of these.
  static std::vector<json> results(const Finished& done) {
    std::vector<json> out;
    std::istringstream lines(done.out);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("{")) out.push_back(json::parse(line));
    }
    return out;
  }
};

// Rank 2 trains for berta alone.
TEST_F(MpirunLostRank, TheOthersGoOnAndTheManifestNamesWhoIsMissing) {
  job_["aggregation"].update({{"deadline", 2.0}, {"rounds", 4}});
  write_job();
  const Finished done = lose(Which::kLast);
  const auto said = results(done);
  ASSERT_THAT(said, SizeIs(1)) << done.out << done.err;
  EXPECT_EQ(said[0].at("status"), "ok") << done.out;
  const json manifest = json::parse(support::read_file(at("run/manifest.json")));
  EXPECT_EQ(manifest.at("final_model_hash"), said[0].at("data").at("final_model_hash"));
  EXPECT_EQ(rounds_done(), 4u);
  const auto missing = manifest.at("refused").get<std::vector<std::string>>();
  EXPECT_THAT(missing,
              testing::Contains("round 4: client berta: nothing came before the deadline"));
}

TEST_F(MpirunLostRank, BelowTheQuorumFinishedRoundsStayAndTheSameCommandGoesOn) {
  job_["aggregation"].update({{"deadline", 3.0}, {"min_clients", 3}});
  write_job();
  const std::string expected = plain_hash();
  const Finished done = lose(Which::kLast);
  const auto said = results(done);
  ASSERT_THAT(said, SizeIs(1)) << done.out << done.err;
  EXPECT_EQ(said[0].at("error_code"), "E_QUORUM") << done.out;
  EXPECT_TRUE(fs::exists(at("run/rounds/0001/strata.json")));
  EXPECT_FALSE(is_over());
  const auto kept = rounds_done();
  const Finished again = support::run_program(command("3", "--enable-recovery"));
  EXPECT_EQ(hash_in(again), expected);
  EXPECT_THAT(again.err, HasSubstr("going on after round " + std::to_string(kept)));
}

TEST_F(MpirunLostRank, ClientsDoNotWaitForADeadCoordinator) {
  job_["network"]["silence"] = 1.0;
  write_job();
  const std::string expected = plain_hash();
  const Finished done = lose(Which::kFirst);
  for (const json& one : results(done)) {
    EXPECT_EQ(one.at("error_code"), "E_PEER") << done.out;
    EXPECT_THAT(one.at("message").get<std::string>(), HasSubstr("rank 0: has been silent for"));
  }
  EXPECT_TRUE(fs::exists(at("run/rounds/0001/strata.json")));
  EXPECT_EQ(hash_in(support::run_program(command("3", "--enable-recovery"))), expected);
}

// Whichever it is, one of the others says so, and rank 0 if it is there.
TEST_F(MpirunLostRank, AMeshEndsWithOneLineAndTheSameCommandGoesOn) {
  write_job();
  const std::string expected = plain_hash();
  job_["aggregation"]["topology"] = "mesh";
  write_job();
  for (const Which rank : {Which::kLast, Which::kFirst}) {
    fs::remove_all(at("run"));
    const Finished done = lose(rank);
    const auto said = results(done);
    ASSERT_THAT(said, SizeIs(1)) << done.out << done.err;
    EXPECT_EQ(said[0].at("error_code"), "E_PEER");
    const std::string gone = rank == Which::kLast ? "rank 2" : "rank 0";
    EXPECT_THAT(said[0].at("message").get<std::string>(),
                HasSubstr(gone + ": has been silent for "));
    EXPECT_EQ(said[0].at("hint"), "the same command goes on after the last finished round");
    EXPECT_FALSE(is_over());
    EXPECT_TRUE(fs::exists(at("run/rounds/0001/strata.json")));
    EXPECT_EQ(hash_in(support::run_program(command("3", "--enable-recovery"))), expected);
  }
}

}  // namespace
}  // namespace strata
