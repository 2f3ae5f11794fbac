// Coordinator and clients as processes of their own, over TLS on loopback: the same model as in one
// process, whoever is killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <thread>

#include "e2e/network_fixture.h"
#include "support/process.h"
#include "sys/random.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using support::read_file;
using support::Running;
using support::write_file;
using testing::HasSubstr;

TEST_F(Network, GivesTheModelOfOneProcess) {
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  auto clients = clients_of(names_);
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
  const Finished status = strata({"status", at("run")});
  EXPECT_THAT(status.out, HasSubstr("3 of 3 rounds committed; done"));
}

// A product's bits depend on its threads: the job's, whatever a process is given.
TEST_F(Network, TheJobsThreadsAreThoseOfItsClients) {
  job_["training"]["threads"] = 2;
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  auto clients = clients_of(names_);
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
}

TEST_F(Network, HeadsGiveTheModelOfOneProcessWhoeverIsKilled) {
  job_ = lte_of(job_);
  for (const char* restart : {"keep", "fresh"}) {
    job_["aggregation"]["restart"] = restart;
    write_job();
    for (const char* folder : {"plain", "run", "state"}) fs::remove_all(at(folder));
    const std::string expected = plain_hash();
    auto server = coordinator();
    auto clients = clients_of(names_);
    while (!fs::exists(at("run/rounds/0001")))
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    clients[1]->signal(SIGKILL);
    (void)clients[1]->wait();
    clients[1] = client(names_[1]);
    EXPECT_EQ(hash_in(server->wait()), expected) << restart;
    for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected) << restart;
  }
}

// What the optimizer remembers is nowhere told: who begins anew folds everything again.
TEST_F(Network, GradientsGiveTheModelOfOneProcessWhoeverIsKilled) {
  job_ = data_parallel_of(job_);
  job_["aggregation"]["encoding"] = "int8";  // what it loses is part of a client's state
  job_["aggregation"]["rounds"] = 6;
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  auto clients = clients_of(names_);
  while (!fs::exists(at("run/rounds/0002")))
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  clients[1]->signal(SIGKILL);
  (void)clients[1]->wait();
  server->signal(SIGKILL);
  (void)server->wait();
  server = coordinator();
  clients[1] = client(names_[1]);
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
}

// STRATA_KILLS=500 kills more often.
TEST_F(Network, WhoeverIsKilledTheModelIsTheSame) {
  job_["aggregation"]["rounds"] = 20;
  write_job();
  const std::string expected = plain_hash();
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets it
  const char* more = std::getenv("STRATA_KILLS");
  const int wanted = more == nullptr ? 30 : std::atoi(more);
  sys::Stream draw(2026);
  for (int kills = 0; kills < wanted;) {
    fs::remove_all(at("run"));
    fs::remove_all(at("state"));
    auto server = coordinator();
    std::map<std::string, std::unique_ptr<Running>> clients;
    for (const auto& name : names_) clients[name] = client(name);
    while (kills < wanted && !fs::exists(at("run/manifest.json"))) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + draw.below(200)));
      const std::size_t whom = draw.below(names_.size() + 1);
      if (whom == names_.size()) {
        server->signal(SIGKILL);
        (void)server->wait();
        server = coordinator();
      } else {
        clients[names_[whom]]->signal(SIGKILL);
        (void)clients[names_[whom]]->wait();
        clients[names_[whom]] = client(names_[whom]);
      }
      ++kills;
    }
    ASSERT_EQ(hash_in(server->wait()), expected) << "after " << kills << " kills";
    expect_every_contribution_once(20);
    for (auto& [name, one] : clients) one->signal(SIGKILL);
  }
}

TEST_F(Network, ASignalEndsBothSidesAndTheSameCommandsGoOn) {
  job_["aggregation"]["rounds"] = 8;
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  auto clients = clients_of(names_);
  while (!fs::exists(at("run/rounds/0002")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  server->signal(SIGTERM);
  clients[0]->signal(SIGTERM);
  EXPECT_EQ(server->wait().status, 75);
  EXPECT_EQ(clients[0]->wait().status, 75);
  server = coordinator();
  clients[0] = client(names_[0]);
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
}

// A folder that lost what the coordinator has is not taken for a new one.
// Its clients have all it made; one that was cut off may come again.
TEST_F(Network, ACoordinatorThatWaitsAtTheEndHasWrittenItsResultAndMayBeStopped) {
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  auto clients = clients_of(names_);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
  EXPECT_EQ(hash_in(server->wait()), expected);
  const std::string manifest = support::read_file(at("run/manifest.json"));
  fs::remove(at("run/manifest.json"));  // as after a kill just before it
  server = coordinator();
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!fs::exists(at("run/manifest.json")) && std::chrono::steady_clock::now() < patience)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(json::parse(support::read_file(at("run/manifest.json"))).at("final_model_hash"),
            json::parse(manifest).at("final_model_hash"));
  server->signal(SIGTERM);
  EXPECT_EQ(hash_in(server->wait()), expected);
}

TEST_F(Network, AClientWhoseStateWasDamagedSaysSo) {
  job_["aggregation"]["rounds"] = 60;  // more than can be done before the kill
  write_job();
  auto server = coordinator();
  std::map<std::string, std::unique_ptr<Running>> clients;
  for (const auto& name : names_) clients[name] = client(name);
  ASSERT_TRUE(await_round(2));
  clients["anna"]->signal(SIGKILL);
  (void)clients["anna"]->wait();
  for (const char* slot : {"state/anna/a", "state/anna/b"}) {
    std::string bytes = read_file(at(slot));
    bytes[bytes.size() / 2] ^= 1;
    write_file(at(slot), bytes);
  }
  const Finished ended = client("anna")->wait();
  EXPECT_EQ(ended.status, 8) << ended.out;
  EXPECT_THAT(ended.out, HasSubstr("the coordinator has this client's update of round"));
  EXPECT_THAT(ended.out, HasSubstr("restore the folder from a copy, or remove it"));
}

// What the clients sent gives the same bytes again; one changed bit of it does not go unnoticed.
TEST_F(Network, RoundsAreRecomputedFromTheJournal) {
  job_["output"]["keep_updates"] = true;
  write_job();
  ASSERT_EQ(strata({"run", at("job.json"), "-o", at("plain")}).status, 0);
  const Finished all = strata({"replay", at("plain"), "--format", "json"});
  ASSERT_EQ(all.status, 0) << all.out << all.err;
  const json rounds = json::parse(all.out).at("data").at("rounds");
  ASSERT_EQ(rounds.size(), 3u);
  EXPECT_EQ(rounds[1].at("clients"), json(names_));
  EXPECT_THAT(strata({"replay", at("plain"), "--round", "2"}).out, HasSubstr("the same"));
  EXPECT_EQ(strata({"replay", at("plain"), "--round", "4"}).status, 2);
  std::string bytes = read_file(at("plain/state/updates/0003"));
  bytes[bytes.size() - 20] ^= 1;
  write_file(at("plain/state/updates/0003"), bytes);
  EXPECT_EQ(strata({"replay", at("plain"), "--round", "2"}).status, 0);
  const Finished damaged = strata({"replay", at("plain"), "--round", "3"});
  EXPECT_EQ(damaged.status, 8) << damaged.out;
  // Whoever's came last lies at the end.
  EXPECT_THAT(damaged.err, testing::ContainsRegex("the update of (anna|berta|carla) has hash "
                                                  "[0-9a-f]+; the journal says [0-9a-f]+"));
  fs::remove(at("plain/state/updates/0001"));
  EXPECT_THAT(strata({"replay", at("plain")}).err, HasSubstr("output.keep_updates: true"));
}

TEST_F(Network, ASecondCoordinatorIsRefusedByTheName) {
  write_job();
  auto server = coordinator();
  while (!fs::exists(at("run/state/lock")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const Finished second =
      strata({"coordinator", at("job.json"), "--listen", "127.0.0.1:0", "--certs",
              at("certs/coordinator"), "-o", at("run"), "--format", "json"});
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.out, HasSubstr("is held by process"));
  server->signal(SIGKILL);
}

// Whom it let in, what came from whom, and which model it came to, over a restart.
TEST_F(Network, TheCoordinatorKeepsAnAuditTrail) {
  job_["aggregation"]["rounds"] = 12;
  write_job();
  auto first = coordinator();
  auto clients = clients_of(names_);
  ASSERT_TRUE(await_round(1));
  first->signal(SIGTERM);
  EXPECT_EQ(first->wait().status, 75);
  job_["network"] = {{"silence", 30}};  // may change while the run is stopped
  write_job();
  auto second = coordinator();
  const std::string hash = hash_in(second->wait());
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), hash);

  const auto audit = [&] { return strata({"audit", at("run"), "--format", "json"}); };
  const Finished told = audit();
  ASSERT_EQ(told.status, 0) << told.err;
  const json records = json::parse(told.out).at("data").at("records");
  std::map<std::string, std::size_t> events;
  for (const json& record : records) ++events[record.at("event")];
  EXPECT_EQ(events["run_opened"], 2u);
  EXPECT_EQ(events["run_stopped"], 1u);
  EXPECT_EQ(events["client_joined"], 2 * names_.size());
  EXPECT_EQ(events["aggregate"], 12u);
  EXPECT_EQ(events["client_round"], 12 * names_.size());
  EXPECT_TRUE(std::any_of(records.begin(), records.end(),
                          [&](const json& r) { return r.value("final_model_hash", "") == hash; }));
  std::string bytes = read_file(at("run/audit.log"));
  bytes[bytes.find("run_opened")] = 'R';
  write_file(at("run/audit.log"), bytes);
  EXPECT_EQ(audit().status, 8) << "a changed record is found";
}

// The coordinator's job says whose key is whose. Clients need not know, and it may change while the
// run is stopped.
TEST_F(Network, AKeyThatTheJobDoesNotNameIsRefused) {
  write_job();
  const std::string expected = plain_hash();
  const json listed = json::parse(
      strata({"certs", "list", "--ca", at("certs/ca"), "--format", "json"}).out)["data"];
  std::map<std::string, std::string> keys;
  for (const json& entry : listed.at("certificates"))
    keys[entry.at("id")] = entry.at("spki_sha256");
  const auto serve = [&](const std::string& anothers) {
    json job = job_;
    for (auto& entry : job["clients"]) entry["key_sha256"] = keys.at(entry.at("name"));
    job["clients"][1]["key_sha256"] = keys.at(anothers);
    write_file(at("keys.json"), job.dump());
    return start("coordinator",
                 {"coordinator", at("keys.json"), "--listen", host_ + ":" + port_, "--certs",
                  at("certs/coordinator"), "-o", at("run"), "--format", "json"},
                 0);
  };
  auto wrong = serve(names_[0]);
  const Finished refused = client(names_[1])->wait();
  EXPECT_EQ(refused.status, 6);
  EXPECT_THAT(refused.out, HasSubstr("stands there with another key"));
  wrong->signal(SIGTERM);
  (void)wrong->wait();
  auto server = serve(names_[1]);
  auto clients = clients_of(names_);
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
}

TEST_F(Network, AnotherPlanIsRefusedWithItsKey) {
  write_job();
  auto server = coordinator();
  while (!fs::exists(at("run/state/lock")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  job_["training"]["learning_rate"] = 0.011;
  write_job();
  const Finished other = client("anna")->wait();
  EXPECT_EQ(other.status, 3);
  EXPECT_THAT(other.out, HasSubstr("training.learning_rate is 0.01 there and 0.011 here"));
  server->signal(SIGKILL);
}

// Noise of their own at each client: all still come to one model. Whose owner does not go on keeps
// the reasons to itself.
// Each client's statement holds, and none does once a byte of it is another.
void expect_signed_statement(const fs::path& file, const fs::path& ca, const std::string& name) {
  const auto verify = [&](const fs::path& what) {
    return support::run_program(
        {STRATA_BINARY, "privacy", "verify", what, "--ca", ca, "--format", "json"});
  };
  const support::Finished right = verify(file);
  ASSERT_EQ(right.status, 0) << right.err << right.out;
  const json data = json::parse(right.out).at("data");
  EXPECT_THAT(data.at("signed_by").get<std::string>(), testing::EndsWith("/client/" + name));
  EXPECT_LE(data.at("statement").at("epsilon").get<double>(), 8.0);
  std::string text = read_file(file);
  text.replace(text.find("add_remove"), 10, "add_rename");
  const fs::path other = file.string() + ".changed";
  write_file(other, text);
  const support::Finished wrong = verify(other);
  EXPECT_EQ(wrong.status, 6);
  EXPECT_THAT(wrong.out, HasSubstr("is not what "));
}

// Nor once its signer's certificate is on the list of revoked ones, if that is asked for.
void expect_revocation_counts(const fs::path& file, const fs::path& kit, const std::string& name) {
  const auto verify = [&](std::vector<std::string> more) {
    std::vector<std::string> args{STRATA_BINARY, "privacy", "verify",
                                  file,          "--ca",    kit / "ca" / "ca.crt"};
    args.insert(args.end(), more.begin(), more.end());
    return support::run_program(args);
  };
  const fs::path list = kit / "ca" / "crl.pem";
  EXPECT_THAT(verify({}).out, HasSubstr("not looked up"));
  const support::Finished valid = verify({"--crl", list, "--format", "json"});
  ASSERT_EQ(valid.status, 0) << valid.err << valid.out;
  EXPECT_EQ(json::parse(valid.out).at("data").at("crl_checked"), true);
  ASSERT_EQ(
      support::run_program({STRATA_BINARY, "certs", "revoke", name, "--ca", kit / "ca"}).status, 0);
  const support::Finished revoked = verify({"--crl", list});
  EXPECT_EQ(revoked.status, 6);
  EXPECT_THAT(revoked.err, HasSubstr("has been revoked"));
  EXPECT_EQ(verify({}).status, 0);
}

TEST_F(Network, PrivateClientsChargeTheirLedgersAndSpentOnesSayNoMore) {
  write_private_job({{"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}});
  auto server = coordinator();
  auto clients = clients_of(names_);
  const std::string hash = hash_in(server->wait());
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), hash);
  EXPECT_EQ(json::parse(read_file(at("run/privacy.json"))).at("private"), true);
  for (const auto& name : names_)
    expect_signed_statement(at("state/" + name + "/privacy.signed.json"),
                            at("certs/coordinator/ca.crt"), name);
  expect_revocation_counts(at("state/" + names_.front() + "/privacy.signed.json"), at("certs"),
                           names_.front());

  fs::remove_all(at("run"));
  fs::remove_all(at("state"));
  write_file(at("ledger/policy.json"), R"({"lifetime_epsilon": 9, "lifetime_delta": 1e-3})");
  server = coordinator();
  clients.clear();
  for (const auto& name : names_) clients.push_back(client(name));
  const Finished coordinated = server->wait();
  EXPECT_EQ(coordinated.status, 5) << coordinated.err;  // nobody was left
  EXPECT_THAT(coordinated.out + coordinated.err, HasSubstr("REFUSED_BUDGET"));
  EXPECT_THAT(coordinated.out + coordinated.err, testing::Not(HasSubstr("eps ")));
  for (auto& one : clients) {
    const Finished refused = one->wait();
    EXPECT_EQ(refused.status, 4) << refused.err;
    EXPECT_THAT(refused.out, HasSubstr("would reach eps"));
  }
}

// A copy of the ledger from before the run is whole in itself; the coordinator has seen more of it.
TEST_F(Network, ALedgerThatWasPutBackIsNoticedInTheNextRun) {
  write_private_job({{"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}});
  const auto run = [&] {
    auto server = coordinator();
    auto clients = clients_of(names_);
    std::vector<Finished> out;
    out.reserve(clients.size() + 1);
    for (auto& one : clients) out.push_back(one->wait());
    server->signal(SIGTERM);
    out.push_back(server->wait());
    fs::remove_all(at("run"));
    fs::remove_all(at("state"));
    return out;
  };
  ASSERT_EQ(run().back().status, 0);
  fs::copy(at("ledger"), at("copy"), fs::copy_options::recursive);
  ASSERT_EQ(run().back().status, 0);
  fs::remove_all(at("ledger"));
  fs::rename(at("copy"), at("ledger"));
  const auto after = run();
  EXPECT_THAT(after.back().out + after.back().err, HasSubstr("LEDGER_ROLLED_BACK"));
  EXPECT_THAT(after.back().out + after.back().err, testing::Not(HasSubstr("records of")));
  for (std::size_t i = 0; i + 1 < after.size(); ++i) {
    EXPECT_EQ(after[i].status, 8) << after[i].err;
    EXPECT_THAT(after[i].out + after[i].err, HasSubstr("was rolled back: it has "));
  }
}

// The coordinator's noise, where it is seeded, is that of one process.
TEST_F(Network, HiddenClientsGiveTheModelOfOneProcess) {
  write_central_job({{"test_mode", {{"seeded_noise", true}, {"i_understand", true}}}});
  const std::string expected = plain_hash();
  auto server = coordinator();
  auto clients = clients_of(names_);
  EXPECT_EQ(hash_in(server->wait()), expected);
  for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected);
  EXPECT_EQ(json::parse(read_file(at("run/privacy.json"))).at("PRIVATE"), "NO");
}

// The coordinator pays, and what was spent stays with it.
TEST_F(Network, ACoordinatorThatHidesItsClientsStopsWhereItsLedgerDoes) {
  write_central_job({{"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}});
  for (const int status : {0, 4}) {
    fs::remove_all(at("run"));
    fs::remove_all(at("state"));
    auto server = coordinator();
    auto clients = clients_of(names_);
    const Finished coordinated = server->wait();
    EXPECT_EQ(coordinated.status, status) << coordinated.out;
    for (auto& one : clients) {
      const Finished told = one->wait();
      EXPECT_EQ(told.status, status) << told.out;
      EXPECT_THAT(told.out, testing::Not(HasSubstr("would reach")));
      EXPECT_THAT(told.out, HasSubstr(status == 0 ? "" : "REFUSED_BUDGET"));
    }
    EXPECT_THAT(coordinated.out,
                HasSubstr(status == 0 ? "" : "dataset federation/run would reach eps"));
    for (const auto& name : names_)
      EXPECT_FALSE(fs::exists(at("state/" + name + "/privacy.signed.json")));
    write_file(at("ledger/policy.json"), R"({"lifetime_epsilon": 10.3, "lifetime_delta": 1e-3})");
  }
}

TEST_F(Network, SeededNoiseStaysOnTheMachine) {
  write_private_job({{"test_mode", {{"seeded_noise", true}, {"i_understand", true}}}});
  for (const char* elsewhere : {"hub.example:7700", "127.0.0.1.example:7700", "10.0.0.1:7700"}) {
    const Finished refused =
        strata({"client", at("job.json"), "--coordinator", elsewhere, "--certs",
                at("certs/" + names_[0]), "--state", at("state"), "--attempts", "1"});
    EXPECT_EQ(refused.status, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("privacy.test_mode.seeded_noise: is true"));
  }
}

TEST_F(Network, AClientsOwnFileIsEnough) {
  job_["clients"].erase(2);
  job_["clients"].erase(1);
  names_ = {"anna"};
  write_job();
  const std::string expected = plain_hash();
  write_file(at("anna.json"), json{{"version", 1},
                                   {"model", {{"path", "model"}}},
                                   {"data", "anna.jsonl"},
                                   {"coordinator", "127.0.0.1:" + port_},
                                   {"certificates", "certs/anna"},
                                   {"network", {{"silence", 30.0}}},
                                   {"state", "state"}}
                                  .dump());
  auto server = coordinator();
  const Finished done =
      strata({"client", at("anna.json"), "--save-model", at("final"), "--format", "json"});
  EXPECT_EQ(hash_in(done), expected);
  EXPECT_EQ(hash_in(server->wait()), expected);
  EXPECT_TRUE(fs::exists(at("final/model.safetensors")));
}

TEST_F(Network, AMissingClientIsNamedAtTheDeadline) {
  job_["aggregation"]["deadline"] = 2.0;
  job_["aggregation"]["min_clients"] = 2;
  job_["aggregation"]["rounds"] = 2;
  write_job();
  auto server = coordinator();
  auto clients = clients_of({"anna", "berta"});
  const Finished done = server->wait();
  ASSERT_EQ(done.status, 0) << done.out;
  EXPECT_THAT(done.out, HasSubstr("round 1: client carla: nothing came before the deadline"));
}

// Whichever is fewer bytes: the rounds that it missed, or the tensors as they are now.
TEST_F(Network, AClientThatMissedManyRoundsGetsTheModel) {
  job_["aggregation"]["min_clients"] = 2;
  const auto has_snapshot = [&] {
    for (const auto& entry : fs::directory_iterator(at("run/state"))) {
      if (entry.path().filename().string().starts_with("snapshot-")) return true;
    }
    return false;
  };
  for (const auto& [rounds, missed] : {std::pair{16, 10}, {6, 1}}) {
    fs::remove_all(at("run"));
    fs::remove_all(at("state"));
    job_["aggregation"]["rounds"] = rounds;
    job_["aggregation"]["deadline"] = missed == 1 ? 2.0 : 0.3;
    write_job();
    auto server = coordinator();
    auto clients = clients_of({"anna", "berta"});
    char folder[16];
    std::snprintf(folder, sizeof folder, "run/rounds/%04d", missed);
    while (!fs::exists(at(folder))) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_FALSE(has_snapshot()) << "nobody has asked for it";
    clients.push_back(client("carla"));
    const std::string hash = hash_in(server->wait());
    EXPECT_EQ(hash_in(clients[2]->wait()), hash);
    EXPECT_EQ(has_snapshot(), missed == 10);
  }
}

TEST_F(Network, AMissingClientIsNamedAlsoOfRoundsBeforeARestart) {
  job_["aggregation"]["deadline"] = 1.0;
  job_["aggregation"]["min_clients"] = 2;
  job_["aggregation"]["rounds"] = 3;
  write_job();
  auto server = coordinator();
  auto clients = clients_of({"anna", "berta"});
  while (!fs::exists(at("run/rounds/0001")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  server->signal(SIGKILL);
  (void)server->wait();
  server = coordinator();
  ASSERT_EQ(server->wait().status, 0);
  const auto refused = json::parse(read_file(at("run/manifest.json"))).at("refused");
  std::vector<std::string> wanted;
  for (const char* round : {"1", "2", "3"})
    wanted.push_back("round " + std::string(round) +
                     ": client carla: nothing came before the deadline");
  EXPECT_EQ(refused.get<std::vector<std::string>>(), wanted);
}

// The same where clients are hidden: the round closes with whoever came, and the manifest is
// silent.
TEST_F(Network, AMissingClientOfHiddenOnesIsNotTold) {
  job_["aggregation"]["deadline"] = 2.0;
  job_["aggregation"]["rounds"] = 1;
  write_central_job({{"test_mode", {{"seeded_noise", true}, {"i_understand", true}}}});
  auto server = coordinator();
  auto anna = client("anna");
  EXPECT_EQ(server->wait().status, 0);
  const auto manifest = json::parse(support::read_file(at("run/manifest.json")));
  EXPECT_EQ(manifest.at("refused"), json::array());
  EXPECT_EQ(support::read_file(at("run/manifest.json")).find("carla"), std::string::npos);
}

TEST_F(Network, BelowTheQuorumTheRunEndsAndCanGoOn) {
  job_["aggregation"]["deadline"] = 1.0;
  job_["aggregation"]["min_clients"] = 3;
  job_["aggregation"]["rounds"] = 60;  // more than can be done before the kill
  write_job();
  auto server = coordinator();
  auto clients = clients_of(names_);
  while (!fs::exists(at("run/rounds/0001")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  clients[2]->signal(SIGKILL);
  const Finished ended = server->wait();
  EXPECT_EQ(ended.status, 5) << ended.out;
  const Finished status = strata({"status", at("run")});
  EXPECT_THAT(status.out, HasSubstr("missing   carla"));
  (void)clients[2]->wait();
  clients[2] = client("carla");
  server = coordinator();
  EXPECT_EQ(server->wait().status, 0);
}

}  // namespace
}  // namespace strata
