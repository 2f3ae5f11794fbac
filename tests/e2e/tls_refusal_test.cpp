// Who is refused at the door, as processes: what the refused one prints and ends with, what the
// coordinator prints, and that it goes on for the others. All the reasons: the tests of transport.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <sstream>
#include <thread>

#include "common/transport/parties.h"
#include "common/transport/raw_peer.h"
#include "e2e/network_fixture.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using certs::Role;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using transport::RawServer;
using transport::RawTls;
using transport::steady;
using Parties = transport::Federation;

constexpr const char* kOtherAuthority =
    "is not from this federation's certificate authority; only its own are taken; compare the "
    "fingerprints of both sides' ca.crt";

class TlsRefusals : public Network {
 protected:
  void SetUp() override {
    Network::SetUp();
    fs::remove_all(at("certs"));
    for (const auto& name : names_) (void)folder_of(name, parties_.client(name));
    job_["aggregation"]["rounds"] = 1;
    write_job();
    expected_ = plain_hash();
  }
  // Where the fixture looks for it.
  Path folder_of(const std::string& name, const Path& made) {
    fs::create_directories(at("certs"));
    fs::copy(made, at("certs/" + name), fs::copy_options::recursive);
    return at("certs/" + name);
  }
  // Valid from long ago, for clocks that are wrong.
  void serve(const std::vector<std::string>& hosts = {"127.0.0.1", "localhost"},
             const std::string& shifted_days = "0") {
    (void)folder_of("coordinator",
                    parties_.join("hub", Role::kCoordinator, hosts, -200, /*days=*/390));
    take_list_of_revoked();
    if (shifted_days != "0") inside_["coordinator"] = shifted(shifted_days);
    server_ = coordinator();
    const auto there = [&] { return fs::exists(at("run/state/lock")); };
    while (!there()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  void take_list_of_revoked() {
    parties_.revoke("");
    fs::copy_file(parties_.crl(), at("certs/coordinator/crl.pem"));
  }
  [[nodiscard]] static std::vector<std::string> shifted(const std::string& days) {
    return {"/usr/bin/env", "LD_PRELOAD=" STRATA_SHIFT_CLOCK,
            "ASAN_OPTIONS=verify_asan_link_order=0", "STRATA_TEST_DAYS=" + days};
  }

  // Ends by itself, at once, with the status of its kind and one line.
  void expect_refused(const std::string& party, const Path& folder, const std::string& line,
                      const std::string& address = {}) {
    json job = job_;  // its own: a stranger would not find itself in the coordinator's
    job["clients"] = {{{"name", folder.filename()}, {"data", "anna.jsonl"}}};
    support::write_file(at("stranger.json"), job.dump());
    const auto began = std::chrono::steady_clock::now();
    const Finished done =
        start(party,
              {"client", at("stranger.json"), "--coordinator",
               address.empty() ? host_ + ":" + port_ : address, "--certs", folder, "--state",
               at("strangers"), "--attempts", "3", "--threads", "1", "-q"},
              0)
            ->wait();
    EXPECT_EQ(done.status, 6) << party;
    EXPECT_THAT(done.out, IsEmpty()) << party;
    EXPECT_EQ(steady(done.err), "strata: error: " + line + " [E_AUTH]\n") << party;
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5)) << party;
  }
  void told(const std::string& line) { told_.push_back("ADDRESS: " + line); }
  void raw(const RawTls& how, const std::string& alert, const std::string& line) {
    std::string why;
    std::thread([&] { why = transport::raw_client(host_ + ":" + port_, how); }).join();
    EXPECT_THAT(why, HasSubstr(alert));
    told(line);
  }

  // Afterwards the good ones come to their model, and the coordinator has a line of each of the
  // others: one a connection.
  void expect_the_run_goes_on() {
    auto clients = clients_of(names_);
    const Finished done = server_->wait();
    EXPECT_EQ(hash_in(done), expected_);
    for (auto& one : clients) EXPECT_EQ(hash_in(one->wait()), expected_);
    const std::string mark = "not let in: ";
    std::vector<std::string> lines;
    std::istringstream err(done.err);
    for (std::string line; std::getline(err, line);) {
      if (line.starts_with(mark)) lines.push_back(steady(line.substr(mark.size())));
    }
    EXPECT_THAT(lines, ElementsAreArray(told_));
  }

  Parties parties_;
  std::string expected_;
  std::unique_ptr<Running> server_;
  std::vector<std::string> told_;
};

TEST_F(TlsRefusals, ClientsThatAreNotLetInEndAtOnceAndTheOthersGoOn) {
  const Path late = parties_.join("late", Role::kClient, {}, -100);
  const Path early = parties_.join("early", Role::kClient, {}, 100);
  const Path gone = parties_.client("gone");
  parties_.revoke("gone");
  serve();
  const std::string refused = "ADDRESS: the coordinator refused our certificate: ";

  inside_["late"] = shifted("-90");
  expect_refused("late", late,
                 refused + "it has expired; ask for a new one with `strata certs request --renew`");
  told(
      "the certificate (late, serial N) is expired since TIME; this machine's clock reads TIME; "
      "ask for a new one with `strata certs request`");
  inside_["early"] = shifted("110");
  expect_refused("early", early,
                 refused +
                     "it is not valid yet by the other side's clock, or its key is too weak; "
                     "compare the clocks of both machines");
  told(
      "the certificate (early, serial N) is not valid before TIME; this machine's clock reads "
      "TIME; set the clock that is wrong");
  expect_refused("gone", gone,
                 refused + "it has been revoked; ask the federation's authority for a new one");
  told(
      "the certificate (gone, serial N) has been revoked; ask the federation's authority for a "
      "new one");
  expect_refused("unlisted", parties_.client("unlisted"),
                 refused +
                     "our id is not on its list, or stands there with another key; ask its "
                     "operator what the job says of us");
  told(
      "\"unlisted\" is not on the list; only the ids that the job names are let in; add it to "
      "the job");
  Parties others;
  expect_refused("other", others.client("anna"),
                 std::string("ADDRESS: the certificate (hub, serial N) ") + kOtherAuthority);
  told(
      "the client refused our certificate: it is from another certificate authority (unknown "
      "CA); compare the fingerprints of both sides' ca.crt");
  expect_the_run_goes_on();
}

// Programs that are no strata client, or one that does not look at its own files.
TEST_F(TlsRefusals, PeersThatDoNotKeepToTheRulesAreTurnedAway) {
  Parties others;
  const Path self_signed = at("self");
  fs::create_directories(self_signed);
  fs::copy_file(others.crl().parent_path() / "ca.crt", self_signed / "identity.crt");
  fs::copy_file(others.crl().parent_path() / "ca.key", self_signed / "identity.key");
  const Path second = parties_.join("hub2", Role::kCoordinator, {"localhost"});
  serve();

  raw({}, "certificate required",
      "sent no certificate; every client has one of the federation; the client is set up with "
      "`strata certs request`");
  raw({.folder = others.client("anna")}, "unknown ca",
      std::string("the certificate (anna, serial N) ") + kOtherAuthority);
  raw({.folder = self_signed}, "unknown ca",
      std::string("the certificate (test, serial N) ") + kOtherAuthority);
  raw({.folder = second}, "unsupported certificate",
      "the certificate (hub2, serial N) is for another role; ask for one with the right `strata "
      "certs request --role`");
  raw({.folder = at("certs/anna"), .version = TLS1_2_VERSION}, "protocol version",
      "speaks an older TLS only; TLS 1.3 is needed; check the address; a proxy that ends TLS "
      "cannot stand between");
  {
    const transport::RawSocket plain(host_ + ":" + port_);
    EXPECT_TRUE(plain.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_TRUE(plain.closed());
    told(
        "does not speak TLS; every connection is TLS 1.3 with certificates; check the address "
        "and the port");
  }
  expect_the_run_goes_on();
}

// Before anybody is called.
TEST_F(TlsRefusals, FilesThatCannotServeAreNoticedAtHome) {
  serve();
  const Path open = parties_.client("open");
  fs::permissions(open / "identity.key", fs::perms(0644));
  const std::string key = (open / "identity.key").string();
  expect_refused(
      "open", open,
      key + ": has mode 0644; nobody but its owner may read a private key; run: chmod 600 " + key);
  const Path old = parties_.join("old", Role::kClient, {}, -100);
  expect_refused("old", old,
                 (old / "identity.crt").string() +
                     ": the certificate (old, serial N) is expired since TIME; this machine's "
                     "clock reads TIME; ask for a new one with `strata certs request`");
  const Path hub = at("certs/coordinator");
  expect_refused("hub", hub,
                 (hub / "identity.crt").string() +
                     ": is of role coordinator; a client's is needed here; ask for one with "
                     "`strata certs request --role client`");
  const auto coordinate = [&](const Path& folder) {
    if (!fs::exists(folder / "crl.pem")) fs::copy_file(parties_.crl(), folder / "crl.pem");
    const Finished done = strata({"coordinator", at("job.json"), "--listen", host_ + ":0",
                                  "--certs", folder, "-o", at("another"), "-q"});
    EXPECT_EQ(done.status, 6) << done.out;
    return done.err;
  };
  EXPECT_THAT(coordinate(at("certs/anna")), HasSubstr("is of role client; a coordinator's is"));
  EXPECT_THAT(coordinate(open), HasSubstr("run: chmod 600 " + key));
  expect_the_run_goes_on();  // and no line of any of them
}

TEST_F(TlsRefusals, ACoordinatorOfAnotherNameIsRefusedUntilItIsCalledByItsOwn) {
  serve({"localhost"});
  expect_refused("anna", at("certs/anna"),
                 "ADDRESS: the certificate (hub, serial N) does not name the host that was called; "
                 "call the coordinator by a name in its certificate, or give it one with `strata "
                 "certs request --host`");
  told(
      "the client refused our certificate: it does not name the host that was called (handshake "
      "failure); ask for one with `strata certs request --host` for every name that clients call");
  for (const auto& name : names_) calls_[name] = "localhost:" + port_;
  expect_the_run_goes_on();
}

TEST_F(TlsRefusals, ACoordinatorWhoseCertificateHasRunOutIsRefused) {
  const std::string before = "-250";  // with the clock of that day all is well
  parties_.revoke("", -250, 90);
  (void)folder_of("coordinator", parties_.join("hub", Role::kCoordinator, {"127.0.0.1"}, -260, 30));
  fs::copy_file(parties_.crl(), at("certs/coordinator/crl.pem"));
  inside_["coordinator"] = shifted(before);
  server_ = coordinator();
  while (!fs::exists(at("run/state/lock")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  expect_refused("anna", at("certs/anna"),
                 "ADDRESS: the certificate (hub, serial N) is expired since TIME; this machine's "
                 "clock reads TIME; ask for a new one with `strata certs request`");
  server_->signal(SIGTERM);
  const Finished done = server_->wait();
  EXPECT_EQ(done.status, 75) << done.out;
  EXPECT_THAT(steady(done.err),
              HasSubstr("not let in: ADDRESS: the client refused our certificate: it has expired "
                        "(certificate expired); ask for a new one with `strata certs request "
                        "--renew`"));
}

// Who answers at the address is no coordinator: a client calls once, says so and ends.
TEST_F(TlsRefusals, WhateverElseAnswersIsNotCalledAgain) {
  const auto call = [&](const std::function<void(int)>& talk, const std::string& line) {
    RawServer server(talk);
    expect_refused("anna", at("certs/anna"), "ADDRESS: " + line, server.address());
  };
  call(transport::raw_tls_server({.folder = at("certs/berta")}),
       "the certificate (berta, serial N) is for another role; ask for one with the right `strata "
       "certs request --role`");
  call(transport::raw_tls_server({.folder = at("certs/berta"), .version = TLS1_2_VERSION}),
       "speaks an older TLS only; TLS 1.3 is needed; check the address; a proxy that ends TLS "
       "cannot stand between");
  call(
      [](int socket) {
        char room[4096];
        (void)::recv(socket, room, sizeof room, 0);
        const std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
        (void)::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
        while (::recv(socket, room, sizeof room, 0) > 0) continue;
      },
      "does not speak TLS; every connection is TLS 1.3 with certificates; check the address and "
      "the port");
}

// The list of revoked certificates is looked at while the run goes on.
TEST_F(TlsRefusals, AClientThatIsRevokedDuringTheRunIsCutOff) {
  job_["aggregation"].update({{"rounds", 2000}, {"min_clients", 2}, {"deadline", 0.5}});
  job_["network"]["reload"] = 0.2;
  write_job();
  serve();
  job_.erase("network");  // each process has its own
  write_job();
  auto clients = clients_of(names_);
  ASSERT_TRUE(await_round(2));
  parties_.revoke("carla");
  fs::copy_file(parties_.crl(), at("new.pem"));
  fs::rename(at("new.pem"), at("certs/coordinator/crl.pem"));
  const auto began = std::chrono::steady_clock::now();
  const Finished revoked = clients[2]->wait();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
  EXPECT_EQ(revoked.status, 6) << revoked.out;
  EXPECT_THAT(revoked.out, HasSubstr("the coordinator refused our certificate: it has been "
                                     "revoked"));
  const auto before = rounds_done();
  ASSERT_TRUE(await_round(before + 2)) << "the others go on";
  server_->signal(SIGTERM);
  const Finished done = server_->wait();
  EXPECT_EQ(done.status, 75) << done.out;
  EXPECT_THAT(done.err, HasSubstr("the certificate (carla, serial "));
  EXPECT_THAT(done.err, HasSubstr("has been revoked"));
  const auto seen = contributions(at("run"));
  const auto last = static_cast<int>(rounds_done());
  EXPECT_TRUE(seen.contains({last, "anna"}));
  EXPECT_FALSE(seen.contains({last, "carla"}));
}

}  // namespace
}  // namespace strata
