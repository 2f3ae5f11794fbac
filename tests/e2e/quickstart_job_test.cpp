// The quickstart's job in one process, by mpirun and over TLS: one model. Two rounds of three small
// steps instead of three of twenty, the same for all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/mpirun_fixture.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

class QuickstartJob : public Mpirun {
 protected:
  void SetUp() override {
    if (!fs::exists("/usr/share/games/fortunes/songs-poems"))
      GTEST_SKIP() << "the Debian package fortunes is not installed";
    Mpirun::SetUp();
    if (IsSkipped()) return;
    const fs::path source = fs::path(STRATA_SOURCE_DIR) / "configs";
    ASSERT_EQ(
        support::run_program({(source / "quickstart/prepare").string(), at("build/quickstart")})
            .status,
        0);
    fs::create_directories(at("configs/quickstart"));
    fs::copy_file(source / "quickstart.json", at("configs/quickstart.json"));
    fs::create_directory_symlink(source / "quickstart/base", at("configs/quickstart/base"));
  }
  // `words`, then the job as it is run here.
  [[nodiscard]] std::vector<std::string> with_job(std::vector<std::string> words) const {
    words.insert(words.end(),
                 {at("configs/quickstart.json"), "--set", "aggregation.rounds=2", "--set",
                  "training.local_steps=3", "--set", "training.batch_size=4", "--set",
                  "evaluation.max_records=20", "--set", "evaluation.client_records=0", "--threads",
                  "1", "--format", "json"});
    return words;
  }
};

TEST_F(QuickstartJob, GivesOneModelByAllThreeWays) {
  const Finished alone = strata(with_job({"run", "-o", at("alone")}));
  const std::string expected = hash_in(alone);
  ASSERT_NE(expected, "");

  std::vector<std::string> by_mpi = with_job({"run", "-o", at("by_mpi")});
  by_mpi.insert(by_mpi.begin(), STRATA_BINARY);
  EXPECT_EQ(hash_in(support::run_program(mpirun("5", by_mpi))), expected);

  const std::vector<std::string> sites{"unix", "irc", "glossary", "verse", "stage", "surreal"};
  std::string all;
  for (const auto& name : sites) all += (all.empty() ? "" : ",") + name;
  ASSERT_EQ(strata({"certs", "demo", "--names", all, "--host", host_, "-o", at("kit")}).status, 0);
  auto server = start("coordinator",
                      with_job({"coordinator", "--listen", host_ + ":" + port_, "--certs",
                                at("kit/coordinator"), "-o", at("by_tls")}),
                      0);
  std::vector<std::unique_ptr<Running>> clients;
  clients.reserve(sites.size());
  for (const auto& name : sites) {
    clients.push_back(start(name,
                            with_job({"client", "--coordinator", host_ + ":" + port_, "--certs",
                                      at("kit/" + name), "--state", at("sites")}),
                            0));
  }
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
}

}  // namespace
}  // namespace strata
