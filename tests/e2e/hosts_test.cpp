// Coordinator and clients on hosts of their own: network namespaces with an address each, joined by
// a switch, whose cables are pulled and plugged in again. The same model as in one process.
//
//   hub 10.77.0.1 ─┐
//   anna 10.77.0.2 ┼─ switch (a bridge in a namespace of its own)
//   berta ...     ─┘
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <thread>

#include "e2e/federation_fixture.h"

namespace strata {
namespace {

using support::Finished;

constexpr const char* kPrefix = "strata-test-";

Finished run(const std::vector<std::string>& words) {
  std::vector<std::string> args{
      "/usr/bin/env"};  // a missing program is a status then, no exception
  args.insert(args.end(), words.begin(), words.end());
  return support::run_program(args);
}

// The namespaces of one test. Everything is inside them, nothing in the machine's own network; with
// a namespace go its devices, and what still runs in it is killed first.
class Hosts {
 public:
  Hosts() { remove_those_of_the_dead(); }
  ~Hosts() {
    for (const auto& name : made_) remove(name);
  }
  Hosts(const Hosts&) = delete;
  Hosts& operator=(const Hosts&) = delete;

  /// Why there can be none here; empty when there can.
  std::string make_switch() {
    if (run({"ip", "-V"}).status != 0) return "no ip (Debian package iproute2) here";
    const std::string name = space("switch");
    made_.push_back(name);
    for (const std::vector<std::string>& step : std::vector<std::vector<std::string>>{
             {"ip", "netns", "add", name},
             {"ip", "netns", "exec", name, "true"},
             {"ip", "-n", name, "link", "add", "switch", "type", "bridge"},
             {"ip", "-n", name, "link", "add", "end", "type", "veth", "peer", "name", "other"},
             {"ip", "-n", name, "link", "del", "end"},
             {"ip", "-n", name, "link", "set", "switch", "up"}}) {
      const Finished done = run(step);
      if (done.status == 0) continue;
      std::string all;
      for (const auto& word : step) all += (all.empty() ? "" : " ") + word;
      return "`" + all + "` is not permitted or not known here: " + done.err;
    }
    return {};
  }
  void add_host(const std::string& name, const std::string& address) {
    const std::string own = space(name);
    made_.push_back(own);
    expect_done({"ip", "netns", "add", own});
    expect_done({"ip", "-n", own, "link", "set", "lo", "up"});
    expect_done({"ip", "-n", own, "link", "add", "eth0", "type", "veth", "peer", "name", name,
                 "netns", space("switch")});
    expect_done({"ip", "-n", own, "address", "add", address + "/24", "dev", "eth0"});
    expect_done({"ip", "-n", own, "link", "set", "eth0", "up"});
    expect_done({"ip", "-n", space("switch"), "link", "set", name, "master", "switch", "up"});
  }
  static void unplug(const std::string& name) {
    expect_done({"ip", "-n", space("switch"), "link", "set", name, "down"});
  }
  static void plug_in(const std::string& name) {
    expect_done({"ip", "-n", space("switch"), "link", "set", name, "up"});
  }
  [[nodiscard]] static std::vector<std::string> inside(const std::string& name) {
    return {"ip", "netns", "exec", space(name)};
  }

 private:
  [[nodiscard]] static std::string space(const std::string& name) {
    return kPrefix + std::to_string(::getpid()) + "-" + name;
  }
  static void expect_done(const std::vector<std::string>& words) {
    const Finished done = run(words);
    EXPECT_EQ(done.status, 0) << testing::PrintToString(words) << done.err;
  }
  static void remove(const std::string& name) {
    std::istringstream inside(run({"ip", "netns", "pids", name}).out);
    for (pid_t process = 0; inside >> process;) ::kill(process, SIGKILL);
    (void)run({"ip", "netns", "delete", name});
  }
  // A test that was killed could not clean up; the number in the name is its process, or was until
  // this one got it.
  static void remove_those_of_the_dead() {
    std::istringstream spaces(run({"ip", "netns", "list"}).out);
    const std::regex ours(std::string(kPrefix) + "([0-9]{1,9})-[a-z]+");
    for (std::string line; std::getline(spaces, line);) {
      const std::string name = line.substr(0, line.find(' '));
      std::smatch match;
      if (!std::regex_match(name, match, ours)) continue;
      const pid_t process = std::stoi(match[1]);
      const bool dead = ::kill(process, 0) != 0 && errno == ESRCH;
      if (dead || process == ::getpid()) remove(name);
    }
  }

  std::vector<std::string> made_;
};

class HostsTest : public Federation {
 protected:
  void SetUp() override {
    if (const std::string why = hosts_.make_switch(); !why.empty()) GTEST_SKIP() << why;
    host_ = "10.77.0.1";
    port_ = "7700";
    hosts_.add_host("coordinator", host_);
    inside_["coordinator"] = Hosts::inside("coordinator");
    for (std::size_t i = 0; i < names_.size(); ++i) {
      hosts_.add_host(names_[i], "10.77.0." + std::to_string(i + 2));
      inside_[names_[i]] = Hosts::inside(names_[i]);
    }
    Federation::SetUp();
  }
  void start_all() {
    server_ = coordinator();
    for (const auto& name : names_) clients_[name] = client(name);
  }

  Hosts hosts_;
  std::unique_ptr<Running> server_;  // goes before its host
  std::map<std::string, std::unique_ptr<Running>> clients_;
};

TEST_F(HostsTest, ACableThatIsPulledAndPluggedInAgainChangesNothing) {
  job_["aggregation"]["rounds"] = 12;
  write_job();
  const std::string expected = plain_hash();
  start_all();
  ASSERT_TRUE(await_round(2));
  Hosts::unplug("berta");
  // What was sent before may still count: one round more, and none after it.
  const std::uint32_t done = rounds_done();
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  EXPECT_LE(rounds_done(), done + 1);
  Hosts::plug_in("berta");
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(12);
}

TEST_F(HostsTest, ACoordinatorWithoutACableIsWaitedFor) {
  job_["aggregation"]["rounds"] = 12;
  write_job();
  const std::string expected = plain_hash();
  start_all();
  ASSERT_TRUE(await_round(2));
  Hosts::unplug("coordinator");
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  Hosts::plug_in("coordinator");
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(12);
}

// The coordinator cannot hear of the old process's end, and the new one finds no way at first.
TEST_F(HostsTest, AClientKilledAndStartedWhileItsCableIsPulledGoesOn) {
  job_["aggregation"]["rounds"] = 12;
  write_job();
  const std::string expected = plain_hash();
  start_all();
  ASSERT_TRUE(await_round(2));
  Hosts::unplug("berta");
  clients_["berta"]->signal(SIGKILL);
  (void)clients_["berta"]->wait();
  clients_["berta"] = client("berta");
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  Hosts::plug_in("berta");
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(12);
}

}  // namespace
}  // namespace strata
