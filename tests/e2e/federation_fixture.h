#pragma once
// A small federation of processes over TLS, as tests start, disturb and compare it: three clients
// with six records each, a golden model, and the same job in one process to compare with. A test
// changes job_, writes it, and starts whom it needs.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/letters_tokenizer.h"
#include "support/process.h"

namespace strata {

class Federation : public testing::Test {
 protected:
  using json = nlohmann::json;
  using Running = support::Running;
  using Finished = support::Finished;
  using Path = std::filesystem::path;

  void SetUp() override {
    const Path golden = Path(STRATA_SOURCE_DIR) / "tests" / "golden" / "model" / "llama";
    std::filesystem::create_directories(at("model"));
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(golden / name, at("model") / name);
    support::write_file(at("model/tokenizer.json"), support::letters_tokenizer().dump());
    for (const auto& name : names_) {
      std::string lines;
      for (int i = 0; i < 6; ++i)
        lines +=
            json{{"text", name + " word " + std::string(1, static_cast<char>('a' + i))}}.dump() +
            "\n";
      support::write_file(at(name + ".jsonl"), lines);
    }
    job_ = {{"version", 1},
            {"model", {{"path", "model"}}},
            {"adapter", {{"rank", 2}, {"alpha", 4}, {"targets", {"q_proj", "v_proj"}}}},
            {"clients", json::array()},
            {"training", {{"local_steps", 2}, {"batch_size", 2}, {"learning_rate", 0.01}}},
            {"aggregation", {{"method", "flora"}, {"restart", "keep"}, {"rounds", 3}}},
            {"privacy", {{"mode", "none"}}}};
    for (const auto& name : names_)
      job_["clients"].push_back({{"name", name}, {"data", name + ".jsonl"}});
    job_["clients"][1]["adapter"]["rank"] = 3;
    std::string all;
    for (const auto& name : names_) all += (all.empty() ? "" : ",") + name;
    ASSERT_EQ(strata({"certs", "demo", "--names", all, "--host", host_, "-o", at("certs")}).status,
              0);
  }

  [[nodiscard]] Path at(const std::string& name) const { return scratch_.path() / name; }
  [[nodiscard]] static Finished strata(std::vector<std::string> args) {
    args.insert(args.begin(), STRATA_BINARY);
    return support::run_program(args);
  }
  void write_job() { support::write_file(at("job.json"), job_.dump(1)); }

  /// Of the job in one process.
  std::string plain_hash() {
    const Finished done = strata({"run", at("job.json"), "-o", at("plain"), "--format", "json"});
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out).at("data").at("final_model_hash");
  }

  std::unique_ptr<Running> start(const std::string& party, std::vector<std::string> args,
                                 int kill_at) const {
    args.insert(args.begin(), STRATA_BINARY);
    if (kill_at > 0) {
      args.insert(args.begin(), {"/usr/bin/env", "LD_PRELOAD=" STRATA_KILL_AT_STEP,
                                 "ASAN_OPTIONS=verify_asan_link_order=0",
                                 "STRATA_TEST_KILL_AT=" + std::to_string(kill_at)});
    }
    if (const auto words = inside_.find(party); words != inside_.end())
      args.insert(args.begin(), words->second.begin(), words->second.end());
    return std::make_unique<Running>(args);
  }

  /// `kill_at`: killed at that one of its durable steps (kill_at_step.cpp); 0: at none.
  std::unique_ptr<Running> coordinator(int kill_at = 0) {
    return start("coordinator",
                 {"coordinator", at("job.json"), "--listen", host_ + ":" + port_, "--certs",
                  at("certs/coordinator"), "-o", at("run"), "--format", "json"},
                 kill_at);
  }
  std::unique_ptr<Running> client(const std::string& name, int kill_at = 0) {
    const auto call = calls_.find(name);
    return start(
        name,
        {"client", at("job.json"), "--coordinator",
         call == calls_.end() ? host_ + ":" + port_ : call->second, "--certs", at("certs/" + name),
         "--state", at("state"), "--threads", "1", "--format", "json"},
        kill_at);
  }
  std::vector<std::unique_ptr<Running>> clients_of(const std::vector<std::string>& names) {
    std::vector<std::unique_ptr<Running>> out;
    out.reserve(names.size());
    for (const auto& name : names) out.push_back(client(name));
    return out;
  }
  static std::string hash_in(const Finished& done) {
    EXPECT_EQ(done.status, 0) << done.out << done.err;
    const json result = json::parse(done.out, nullptr, false);
    return result.is_object() && result.contains("data")
               ? result.at("data").value("final_model_hash", "")
               : "";
  }

  /// The coordinator and every client have come to the model with that hash.
  static void expect_model(Running& server,
                           std::map<std::string, std::unique_ptr<Running>>& clients,
                           const std::string& expected) {
    EXPECT_EQ(hash_in(server.wait()), expected);
    for (auto& [name, one] : clients) EXPECT_EQ(hash_in(one->wait()), expected) << name;
  }

  [[nodiscard]] std::uint32_t rounds_done() const {
    std::uint32_t round = 0;
    while (std::filesystem::exists(at("run/rounds") / padded(round + 1))) ++round;
    return round;
  }
  /// Until that round is done. False: the run was over before, or nothing comes.
  [[nodiscard]] bool await_round(std::uint32_t round) const {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (rounds_done() < round) {
      if (std::chrono::steady_clock::now() > patience) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return !is_over();
  }
  [[nodiscard]] bool is_over() const { return std::filesystem::exists(at("run/manifest.json")); }

  /// By the run's own account: how often each client's contribution to each round counted. Each
  /// round's aggregate is told of once.
  [[nodiscard]] static std::map<std::pair<int, std::string>, int> contributions(const Path& run) {
    std::map<std::pair<int, std::string>, int> out;
    std::map<int, int> aggregates;
    std::istringstream lines(support::read_file(run / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const json event = json::parse(line, nullptr, false);
      if (!event.is_object()) continue;  // being written just now
      if (event.at("event") == "client_round") ++out[{event.at("round"), event.at("client")}];
      if (event.at("event") == "aggregate") ++aggregates[event.at("round")];
    }
    for (const auto& [round, times] : aggregates) EXPECT_EQ(times, 1) << "round " << round;
    return out;
  }
  /// Each contribution once.
  void expect_every_contribution_once(std::size_t rounds) const {
    expect_every_contribution_once(at("run"), rounds);
  }
  void expect_every_contribution_once(const Path& run, std::size_t rounds) const {
    const auto seen = contributions(run);
    EXPECT_EQ(seen.size(), rounds * names_.size());
    for (const auto& [which, times] : seen)
      EXPECT_EQ(times, 1) << which.second << " in round " << which.first;
  }

  support::ScratchFolder scratch_;
  std::vector<std::string> names_{"anna", "berta", "carla"};
  json job_;
  std::string host_ = "127.0.0.1";  // the coordinator's
  // One of its own for each process of tests that runs beside others, below what the system deals
  // out by itself.
  std::string port_ = std::to_string(12000 + ::getpid() % 20000);
  std::map<std::string, std::string> calls_;  // HOST:PORT by client, where it is another
  std::map<std::string, std::vector<std::string>> inside_;  // what starts a party's command

 private:
  [[nodiscard]] static std::string padded(std::uint32_t round) {
    const std::string digits = std::to_string(round);
    return std::string(4 - std::min<std::size_t>(4, digits.size()), '0') + digits;
  }
};

}  // namespace strata
