// Clients that the test plays itself: more at once than there could be processes, and those that
// cannot train.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <sstream>
#include <thread>

#include "e2e/guest.h"
#include "e2e/network_fixture.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using support::read_file;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class Guests : public Network {
 protected:
  void SetUp() override {
    Network::SetUp();
    auto model = model::Model::load(*disk_, at("model"), tensor::DType::kF32);
    ASSERT_TRUE(model) << model.error().line();
    base_ = model->state_hash();
  }
  std::unique_ptr<Guest> guest(const std::string& name) {
    return std::make_unique<Guest>(pump_, *clock_, *disk_, host_ + ":" + port_, at("certs/" + name),
                                   base_);
  }
  // By the coordinator's own account.
  [[nodiscard]] std::vector<std::string> clients_in(const std::string& event) const {
    std::vector<std::string> out;
    std::istringstream lines(read_file(at("run/metrics.jsonl")));
    for (std::string line; std::getline(lines, line);) {
      const json one = json::parse(line, nullptr, false);
      if (one.is_object() && one.at("event") == event) out.push_back(one.at("client"));
    }
    return out;
  }

  support::Pump pump_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  Sha256 base_{};
};

// From one address and at once, with nothing set for it: the job names them, that is enough.
TEST_F(Guests, ThreeHundredClientsAreConnectedAtOnce) {
  constexpr std::size_t kCrowd = 300;
  names_.clear();
  std::string all;
  json clients = json::array();
  for (std::size_t i = 0; i < kCrowd; ++i) {
    char name[16];
    std::snprintf(name, sizeof name, "clinic-%03zu", i);
    names_.emplace_back(name);
    all += (all.empty() ? "" : ",") + names_.back();
    clients.push_back({{"name", name}, {"data", "anna.jsonl"}});
  }
  job_["clients"] = clients;
  job_["aggregation"]["min_clients"] = kCrowd;
  write_job();
  fs::remove_all(at("certs"));
  ASSERT_EQ(strata({"certs", "demo", "--names", all, "--host", host_, "-o", at("certs")}).status,
            0);
  auto server = coordinator();
  std::vector<std::unique_ptr<Guest>> crowd;
  for (const auto& name : names_) crowd.push_back(guest(name));
  const auto all_asked = [&] {
    return std::all_of(crowd.begin(), crowd.end(),
                       [](const auto& one) { return one->connected() && one->asked == 1; });
  };
  EXPECT_TRUE(pump_.run_until(all_asked, 60));
  for (const auto& one : crowd) EXPECT_EQ(one->end, "");
  auto joined = clients_in("client_joined");
  std::sort(joined.begin(), joined.end());
  EXPECT_EQ(joined, names_);
  EXPECT_THAT(clients_in("client_left"), testing::IsEmpty());
  server->signal(SIGTERM);
  EXPECT_TRUE(pump_.run_until([&] {
    return std::none_of(crowd.begin(), crowd.end(),
                        [](const auto& one) { return one->connected(); });
  }));
  const Finished done = server->wait();
  EXPECT_EQ(done.status, 75) << done.out;
  EXPECT_THAT(done.err, Not(HasSubstr("not let in")));
  for (const auto& one : crowd) EXPECT_THAT(one->end, HasSubstr("stopped by a signal"));
}

// Two of three cannot train, and the round cannot reach its quorum. Started again, all are asked
// again; one comes, and the other is named as missing at the deadline although it had been left out
// before: by that process, and by one that finds it in the journal.
TEST_F(Guests, WhoWasLeftOutBeforeTheRoundWasReopenedIsNamedWhenItIsMissing) {
  job_["aggregation"].update({{"rounds", 2}, {"min_clients", 2}, {"deadline", 1.5}});
  write_job();
  for (const bool killed : {false, true}) {
    fs::remove_all(at("run"));
    fs::remove_all(at("state"));
    auto server = coordinator();
    auto anna = client("anna");
    for (const char* name : {"berta", "carla"}) {
      const auto one = guest(name);
      ASSERT_TRUE(pump_.run_until([&] { return one->asked == 1; }));
      one->say(protocol::Failed{1, one->asked_on, "its disk is full"});
      pump_.run_for(0.1);
    }
    const Finished first = server->wait();
    EXPECT_EQ(first.status, 5) << first.out;
    EXPECT_THAT(first.out, HasSubstr("E_QUORUM"));
    server = coordinator();
    auto berta = client("berta");
    if (killed) {
      while (!fs::exists(at("run/rounds/0001")))
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      server->signal(SIGKILL);
      (void)server->wait();
      server = coordinator();
    }
    const Finished done = server->wait();
    EXPECT_EQ(done.status, 0) << done.out;
    const auto refused = json::parse(read_file(at("run/manifest.json")))
                             .at("refused")
                             .get<std::vector<std::string>>();
    for (const char* line :
         {"round 1: client berta: its disk is full", "round 1: client carla: its disk is full",
          "round 1: client carla: nothing came before the deadline",
          "round 2: client carla: nothing came before the deadline"})
      EXPECT_THAT(refused, Contains(line)) << (killed ? "killed" : "in one process");
    EXPECT_EQ(refused.size(), 4u);
  }
}

}  // namespace
}  // namespace strata
