// kill -9 before and after every call by which a coordinator, or a client, makes something durable:
// started again, the run ends at the same bytes and counts every contribution once. Federations run
// side by side, since most of their time is spent waiting to connect again.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <functional>

#include "base/bytes.h"
#include "base/hash.h"
#include "e2e/federation_fixture.h"

namespace strata {
namespace {

constexpr int kLanes = 8;
constexpr std::size_t kRounds = 2;

class KilledAtStep : public Federation {
 protected:
  // One federation at a time in a folder and on a port of its own.
  struct Lane {
    const KilledAtStep& test;
    Path folder;
    std::string address;

    [[nodiscard]] std::unique_ptr<Running> coordinator(int kill_at = 0) const {
      return test.start("coordinator",
                        {"coordinator", test.at("job.json"), "--listen", address, "--certs",
                         test.at("certs/coordinator"), "-o", folder / "run", "--format", "json"},
                        kill_at);
    }
    [[nodiscard]] std::unique_ptr<Running> client(const std::string& name, int kill_at = 0) const {
      return test.start(name,
                        {"client", test.at("job.json"), "--coordinator", address, "--certs",
                         test.at("certs/" + name), "--state", folder / "state", "--threads", "1",
                         "--format", "json"},
                        kill_at);
    }
    [[nodiscard]] std::string final_hash() const {
      const auto manifest = folder / "run" / "manifest.json";
      const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      while (!std::filesystem::exists(manifest)) {
        if (std::chrono::steady_clock::now() > patience) return "none came";
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      return json::parse(support::read_file(manifest)).at("final_model_hash");
    }
  };

  /// One run for each step, until one answers that nobody was killed any more: there are no further
  /// steps. How many there are.
  int every_step(const std::function<bool(const Lane&, int step)>& killed) {
    std::atomic<int> next{1}, last{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kLanes; ++i) {
      const int port = 12000 + (::getpid() * kLanes + i) % 20000;
      threads.emplace_back([&, i, port] {
        const Lane lane{*this, at("lane" + std::to_string(i)), "127.0.0.1:" + std::to_string(port)};
        while (last == 0 && !HasFailure()) {
          std::filesystem::remove_all(lane.folder);
          std::filesystem::create_directories(lane.folder);
          const int step = next++;
          if (killed(lane, step)) continue;
          int none = 0;
          last.compare_exchange_strong(none, step);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    return last;
  }
};

TEST_F(KilledAtStep, ACoordinatorGoesOn) {
  job_["aggregation"]["rounds"] = kRounds;
  write_job();
  const std::string expected = plain_hash();
  const int steps = every_step([&](const Lane& lane, int step) {
    auto server = lane.coordinator(step);
    std::vector<std::unique_ptr<Running>> clients;
    for (const auto& name : names_) clients.push_back(lane.client(name));
    const bool killed = server->wait().status == 128 + SIGKILL;
    if (killed) server = lane.coordinator();
    EXPECT_EQ(lane.final_hash(), expected) << "killed at step " << step;
    expect_every_contribution_once(lane.folder / "run", kRounds);
    // Killed at the very end it has no client left to wait for, and would wait for half a minute.
    if (killed) server->signal(SIGKILL);
    for (auto& one : clients) one->signal(SIGKILL);
    return killed;
  });
  EXPECT_GT(steps, 40);
}

TEST_F(KilledAtStep, AClientGoesOn) {
  job_["aggregation"]["rounds"] = kRounds;
  write_job();
  const std::string expected = plain_hash();
  const int steps = every_step([&](const Lane& lane, int step) {
    const auto server = lane.coordinator();
    auto anna = lane.client("anna", step);
    const auto berta = lane.client("berta"), carla = lane.client("carla");
    Finished ended = anna->wait();
    const bool killed = ended.status == 128 + SIGKILL;
    if (killed) ended = lane.client("anna")->wait();
    EXPECT_EQ(hash_in(ended), expected) << "killed at step " << step;
    EXPECT_EQ(hash_in(server->wait()), expected) << "killed at step " << step;
    expect_every_contribution_once(lane.folder / "run", kRounds);
    return killed;
  });
  EXPECT_GT(steps, 10);
}

// What the ledger of a coordinator that hides its clients says of its rounds.
struct Paid {
  std::size_t charges = 0;
  std::map<int, std::vector<std::string>> told;  // by round
};

Paid paid_in(const std::filesystem::path& ledger) {
  Paid out;
  std::istringstream lines(support::read_file(ledger));
  for (std::string line; std::getline(lines, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record.at("type") == "reserve") ++out.charges;
    if (record.at("type") == "release") out.told[record.at("round")].push_back(record.at("update"));
  }
  return out;
}

// Wherever it is killed: for each round one result was told, the one that is there, and paid for.
TEST_F(KilledAtStep, ACoordinatorThatHidesItsClientsTellsOneResultARound) {
  job_["adapter"]["method"] = "seeded-a";
  job_["aggregation"] = {{"method", "flora"}, {"rounds", kRounds}};
  job_["output"] = {{"keep_updates", true}};
  job_["privacy"] = {{"mode", "client_central"},
                     {"unit", {{"kind", "client"}}},
                     {"budget", {{"delta", 1e-5}}},
                     {"noise", {{"multiplier", 4.0}}},
                     {"weights", {{"denominator", 3}}},
                     {"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}};
  write_job();
  const std::vector<std::string> command{"run", at("job.json"), "-o", at("run")};
  int step = 1;
  for (bool killed = true; killed; step += 5) {
    std::filesystem::remove_all(at("run"));
    std::filesystem::remove_all(at("ledger"));
    ASSERT_EQ(strata({"privacy", "ledger", "init", "--new-dataset", "--any-file-system", "--ledger",
                      at("ledger")})
                  .status,
              0);
    Finished ended = start("run", command, step)->wait();
    killed = ended.status == 128 + SIGKILL && !is_over();
    if (killed) ended = start("run", command, 0)->wait();
    ASSERT_TRUE(ended.status == 0 || is_over()) << "killed at step " << step << "\n" << ended.out;
    const Paid paid = paid_in(at("ledger/ledger.jsonl"));
    EXPECT_LE(paid.charges, kRounds + 1) << "killed at step " << step;
    EXPECT_GE(paid.charges, kRounds);
    for (int round = 1; round <= static_cast<int>(kRounds); ++round) {
      const auto result = support::read_file(at("run/state/results/000" + std::to_string(round)));
      EXPECT_EQ(paid.told.at(round), std::vector{hex(sha256(bytes_of(result)))})
          << "killed at step " << step;
    }
  }
  EXPECT_GT(step, 40);
}

}  // namespace
}  // namespace strata
