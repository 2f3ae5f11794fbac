// Who is refused, and in which words on both sides: users read these lines, so they are here whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parties.h"
#include "raw_peer.h"
#include "transport/tls_error.h"

namespace strata::transport {
namespace {

using certs::Role;
using testing::HasSubstr;

class TlsRefusal : public testing::Test {
 protected:
  TlsOptions hub_options(const std::filesystem::path& folder) {
    return {.address = "127.0.0.1:0",
            .files = federation_.files(folder),
            .limits = wide_limits(),
            .refused = [this](const Error& error) { refused_.push_back(steady(error)); }};
  }
  void listen(TlsOptions options, int shifted_days = 0) {
    hub_clock_ = std::make_unique<ShiftedClock>(shifted_days);
    listener_ = Federation::value(
        make_tls_listener(pump_, *hub_clock_, federation_.disk(), std::move(options)));
    ASSERT_TRUE(listener_->listen(hub_));
  }
  // What a client's attempt ends with; "" when it is connected.
  std::string dial(const std::filesystem::path& folder, const std::string& address,
                   int shifted_days = 0) {
    dialer_.reset();  // before its clock
    site_clock_ = std::make_unique<ShiftedClock>(shifted_days);
    dialer_ = Federation::value(make_tls_dialer(
        pump_, *site_clock_, federation_.disk(),
        {.address = address, .files = federation_.files(folder), .limits = wide_limits()}));
    std::string out;
    const std::size_t before = site_.connections.size();
    dialer_->dial(site_, [&](const Error& error) { out = steady(error); });
    EXPECT_TRUE(pump_.run_until([&] { return !out.empty() || site_.connections.size() > before; }));
    return out;
  }
  std::string dial(const std::filesystem::path& folder, int shifted_days = 0) {
    return dial(folder, listener_->address(), shifted_days);
  }
  // The one line of the listener about it.
  std::string told() {
    EXPECT_TRUE(pump_.run_until([&] { return !refused_.empty(); }));
    EXPECT_TRUE(hub_.connections.empty());
    if (refused_.size() != 1) return "lines: " + std::to_string(refused_.size());
    return refused_.front();
  }
  // A raw client beside the executor.
  std::string raw(const RawTls& how) {
    std::string out;
    std::atomic<bool> done = false;
    std::thread other([&] {
      out = raw_client(listener_->address(), how);
      done = true;
    });
    EXPECT_TRUE(pump_.run_until([&] { return done.load(); }));
    other.join();
    return out;
  }

  Pump pump_;
  Federation federation_;
  std::unique_ptr<ShiftedClock> hub_clock_;
  std::unique_ptr<ShiftedClock> site_clock_;
  Notes hub_;
  Notes site_;
  std::vector<std::string> refused_;
  std::unique_ptr<TlsListener> listener_;
  std::unique_ptr<Dialer> dialer_;
};

// What a client says of each alert, also of those that a client with sound files never causes.
TEST(TlsAlerts, SayWhatIsWrongWithOurCertificate) {
  const std::pair<int, const char*> words[] = {
      {SSL_AD_UNKNOWN_CA,
       "it is from another certificate authority; compare the fingerprints of both sides' ca.crt"},
      {SSL_AD_DECRYPT_ERROR,
       "it is from another certificate authority; compare the fingerprints of both sides' ca.crt"},
      {SSL_AD_UNSUPPORTED_CERTIFICATE, "it is for another role; see `strata certs verify`"},
      {SSL_AD_CERTIFICATE_REQUIRED, "it got none; see `strata certs verify`"},
      {SSL_AD_CERTIFICATE_REVOKED,
       "it has been revoked; ask the federation's authority for a new one"},
      {SSL_AD_CERTIFICATE_EXPIRED,
       "it has expired; ask for a new one with `strata certs request --renew`"},
      {SSL_AD_INTERNAL_ERROR, "internal error; see the coordinator's log"}};
  for (const auto& [alert, said] : words) {
    const Error error = refusal_of_ours(alert, "hub:7700");
    EXPECT_EQ(error.code, ErrorCode::kAuth);
    EXPECT_EQ(error.line(),
              "hub:7700: the coordinator refused our certificate: " + std::string(said));
  }
}

TEST_F(TlsRefusal, ASoundClientIsLetIn) {
  listen(hub_options(federation_.coordinator()));
  EXPECT_EQ(dial(federation_.client()), "");
  EXPECT_EQ(dial(federation_.join("boss", Role::kAdmin)), "");
  pump_.run_for(0.05);
  EXPECT_TRUE(refused_.empty());
  EXPECT_EQ(hub_.connections.size(), 2u);
}

TEST_F(TlsRefusal, AnExpiredClient) {
  listen(hub_options(federation_.coordinator()));
  EXPECT_EQ(dial(federation_.join("clinic-a", Role::kClient, {}, -100), -90),
            "[E_AUTH] ADDRESS: the coordinator refused our certificate: it has expired; ask for a "
            "new one with `strata certs request --renew`");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the certificate (clinic-a, serial N) is expired since TIME; this "
            "machine's clock reads TIME; ask for a new one with `strata certs request`");
}

TEST_F(TlsRefusal, AClientOfTheFuture) {
  listen(hub_options(federation_.coordinator()));
  EXPECT_EQ(dial(federation_.join("clinic-a", Role::kClient, {}, 100), 110),
            "[E_AUTH] ADDRESS: the coordinator refused our certificate: it is not valid yet by the "
            "other side's clock, or its key is too weak; compare the clocks of both machines");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the certificate (clinic-a, serial N) is not valid before TIME; this "
            "machine's clock reads TIME; set the clock that is wrong");
}

TEST_F(TlsRefusal, ARevokedClient) {
  const auto client = federation_.client();
  federation_.revoke("clinic-a");
  auto options = hub_options(federation_.coordinator());
  options.files.crl = federation_.crl();
  listen(options);
  EXPECT_EQ(dial(client),
            "[E_AUTH] ADDRESS: the coordinator refused our certificate: it has been revoked; ask "
            "the federation's authority for a new one");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the certificate (clinic-a, serial N) has been revoked; ask the "
            "federation's authority for a new one");
}

TEST_F(TlsRefusal, AnIdThatIsNotOnTheList) {
  auto options = hub_options(federation_.coordinator());
  options.allowed = {"clinic-b", "clinic-c"};
  listen(options);
  EXPECT_EQ(dial(federation_.client()),
            "[E_AUTH] ADDRESS: the coordinator refused our certificate: our id is not on its list, "
            "or stands there with another key; ask its operator what the job says of us");
  EXPECT_EQ(
      told(),
      "[E_AUTH] ADDRESS: \"clinic-a\" is not on the list; only the ids that the job names are "
      "let in; add it to the job");
  EXPECT_EQ(dial(federation_.client("clinic-c")), "");
}

// The authority has signed a second key for an id, by mistake or in other hands.
TEST_F(TlsRefusal, AnIdWithAnotherKeyThanTheJobs) {
  const auto folder = federation_.client();
  const Sha256 key =
      Federation::value(certs::load_node(federation_.disk(), federation_.files(folder),
                                         Role::kClient, ShiftedClock().now()))
          .identity.spki;
  auto options = hub_options(federation_.coordinator());
  options.keys = {{"clinic-a", Sha256{std::byte{0xab}}}, {"clinic-b", key}};
  listen(options);
  EXPECT_EQ(dial(folder),
            "[E_AUTH] ADDRESS: the coordinator refused our certificate: our id is not on its list, "
            "or stands there with another key; ask its operator what the job says of us");
  EXPECT_EQ(told(), "[E_AUTH] ADDRESS: \"clinic-a\" has a certificate for the key " + hex(key) +
                        "; the job names " + hex(options.keys["clinic-a"]) +
                        "; ask its owner which is right; a new key has to be put into the job");
  EXPECT_EQ(dial(federation_.client("clinic-c")), "");  // of whose key nothing is said
  options.keys["clinic-a"] = key;
  listener_.reset();  // before its clock
  listen(options);
  EXPECT_EQ(dial(folder), "");
}

TEST_F(TlsRefusal, EverybodyWhenTheListOfRevokedRunsOut) {
  federation_.revoke("", -100, 30);
  auto options = hub_options(federation_.join("hub", Role::kCoordinator, {"127.0.0.1"}, -100, 300));
  options.files.crl = federation_.crl();
  // At the start it is an error of the coordinator's own ...
  const ShiftedClock today;
  auto made = make_tls_listener(pump_, today, federation_.disk(), options);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kAuth);
  EXPECT_THAT(made.error().line(), HasSubstr("the list of revoked certificates is out of date"));
  // ... and nobody is let in when it happens later.
  listen(options, -90);
  EXPECT_EQ(dial(federation_.client()),
            "[E_AUTH] ADDRESS: the coordinator refused our certificate: it cannot be checked there "
            "now; tell the coordinator's operator to renew the list of revoked certificates");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the certificate (clinic-a, serial N) cannot be checked: the list of "
            "revoked certificates is out of date; without a current list nobody is let in; renew "
            "crl.pem with `strata certs revoke` and fetch it");
}

TEST_F(TlsRefusal, AnUnreadableListOfRevoked) {
  auto options = hub_options(federation_.coordinator());
  options.files.crl = options.files.ca;
  const ShiftedClock clock;
  auto made = make_tls_listener(pump_, clock, federation_.disk(), options);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().line(), HasSubstr("holds no list of revoked certificates"));
}

TEST_F(TlsRefusal, ACoordinatorOfAnotherHost) {
  listen(hub_options(federation_.join("hub", Role::kCoordinator, {"other.example"})));
  EXPECT_EQ(dial(federation_.client()),
            "[E_AUTH] ADDRESS: the certificate (hub, serial N) does not name the host that was "
            "called; call the coordinator by a name in its certificate, or give it one with "
            "`strata certs request --host`");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the client refused our certificate: it does not name the host that "
            "was called (handshake failure); ask for one with `strata certs request --host` for "
            "every name that clients call");
}

TEST_F(TlsRefusal, ACoordinatorOfAnotherAuthority) {
  listen(hub_options(federation_.coordinator()));
  Federation other;
  EXPECT_EQ(dial(other.client()),
            "[E_AUTH] ADDRESS: the certificate (hub, serial N) is not from this federation's "
            "certificate authority; only its own are taken; compare the fingerprints of both "
            "sides' ca.crt");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the client refused our certificate: it is from another certificate "
            "authority (unknown CA); compare the fingerprints of both sides' ca.crt");
}

TEST_F(TlsRefusal, AnExpiredCoordinator) {
  listen(hub_options(federation_.join("hub", Role::kCoordinator, {"127.0.0.1"}, -100)), -90);
  EXPECT_EQ(dial(federation_.client()),
            "[E_AUTH] ADDRESS: the certificate (hub, serial N) is expired since TIME; this "
            "machine's clock reads TIME; ask for a new one with `strata certs request`");
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the client refused our certificate: it has expired (certificate "
            "expired); ask for a new one with `strata certs request --renew`");
}

TEST_F(TlsRefusal, ACoordinatorOfTheFuture) {
  listen(hub_options(federation_.join("hub", Role::kCoordinator, {"127.0.0.1"}, 100)), 110);
  EXPECT_EQ(dial(federation_.client()),
            "[E_AUTH] ADDRESS: the certificate (hub, serial N) is not valid before TIME; this "
            "machine's clock reads TIME; set the clock that is wrong");
  EXPECT_EQ(
      told(),
      "[E_AUTH] ADDRESS: the client refused our certificate: it is not valid yet by the other "
      "side's clock, or its key is too weak (bad certificate); compare the clocks of both "
      "machines");
}

TEST_F(TlsRefusal, AClientThatPlaysTheCoordinator) {
  RawServer server(raw_tls_server({.folder = federation_.client("clinic-b")}));
  EXPECT_EQ(dial(federation_.client(), server.address()),
            "[E_AUTH] ADDRESS: the certificate (clinic-b, serial N) is for another role; ask for "
            "one with the right `strata certs request --role`");
}

TEST_F(TlsRefusal, AServerThatDoesNotSpeakStrata) {
  RawServer server(raw_tls_server({.folder = federation_.coordinator()}));
  EXPECT_EQ(
      dial(federation_.client(), server.address()),
      "[E_AUTH] ADDRESS: speaks TLS but not strata/1; both sides offer the protocol strata/1; "
      "check the address and the port");
}

TEST_F(TlsRefusal, AServerOfAnOlderTls) {
  RawServer server(
      raw_tls_server({.folder = federation_.coordinator(), .version = TLS1_2_VERSION}));
  EXPECT_EQ(dial(federation_.client(), server.address()),
            "[E_AUTH] ADDRESS: speaks an older TLS only; TLS 1.3 is needed; check the address; a "
            "proxy that ends TLS cannot stand between");
}

TEST_F(TlsRefusal, AServerOfPlainText) {
  RawServer server([](int socket) {
    const std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
    char room[4096];
    (void)::recv(socket, room, sizeof room, 0);
    (void)::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    while (::recv(socket, room, sizeof room, 0) > 0) continue;
  });
  EXPECT_EQ(dial(federation_.client(), server.address()),
            "[E_AUTH] ADDRESS: does not speak TLS; every connection is TLS 1.3 with certificates; "
            "check the address and the port");
}

TEST_F(TlsRefusal, AServerThatClosesAtOnceIsWorthAnotherTry) {
  RawServer server([](int socket) { ::shutdown(socket, SHUT_RDWR); });
  EXPECT_THAT(dial(federation_.client(), server.address()),
              HasSubstr("[E_PEER] ADDRESS: closed the connection before both sides were known"));
}

TEST_F(TlsRefusal, NobodyThere) {
  std::string address;
  {
    RawServer server([](int) {}), other([](int) {});
    RawSocket a(server.address()), b(other.address());
    address = server.address();
  }
  EXPECT_EQ(dial(federation_.client(), address),
            "[E_PEER] ADDRESS: cannot be reached: Connection refused; is the coordinator running, "
            "and does a firewall stand between");
}

TEST_F(TlsRefusal, AClientWithoutACertificate) {
  listen(hub_options(federation_.coordinator()));
  EXPECT_THAT(raw({}), HasSubstr("certificate required"));
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: sent no certificate; every client has one of the federation; the "
            "client is set up with `strata certs request`");
}

TEST_F(TlsRefusal, AClientOfAnotherAuthority) {
  listen(hub_options(federation_.coordinator()));
  Federation other;
  EXPECT_THAT(raw({.folder = other.client()}), HasSubstr("unknown ca"));
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the certificate (clinic-a, serial N) is not from this federation's "
            "certificate authority; only its own are taken; compare the fingerprints of both "
            "sides' ca.crt");
}

TEST_F(TlsRefusal, ACoordinatorThatPlaysAClient) {
  listen(hub_options(federation_.coordinator()));
  EXPECT_THAT(raw({.folder = federation_.join("hub2", Role::kCoordinator, {"localhost"})}),
              HasSubstr("unsupported certificate"));
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: the certificate (hub2, serial N) is for another role; ask for one "
            "with the right `strata certs request --role`");
}

TEST_F(TlsRefusal, AClientOfAnOlderTls) {
  listen(hub_options(federation_.coordinator()));
  EXPECT_THAT(raw({.folder = federation_.client(), .version = TLS1_2_VERSION}),
              HasSubstr("protocol version"));
  EXPECT_EQ(told(),
            "[E_AUTH] ADDRESS: speaks an older TLS only; TLS 1.3 is needed; check the address; a "
            "proxy that ends TLS cannot stand between");
}

TEST_F(TlsRefusal, AClientWithoutTheProtocolsName) {
  listen(hub_options(federation_.coordinator()));
  (void)raw({.folder = federation_.client(), .alpn = false});
  EXPECT_EQ(
      told(),
      "[E_AUTH] ADDRESS: speaks TLS but not strata/1; both sides offer the protocol strata/1; "
      "check the address and the port");
}

TEST_F(TlsRefusal, AClientOfPlainText) {
  listen(hub_options(federation_.coordinator()));
  for (const char* text :
       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "hello, coordinator, are you there"}) {
    refused_.clear();
    RawSocket socket(listener_->address());
    ASSERT_TRUE(socket.send(text));
    EXPECT_EQ(told(),
              "[E_AUTH] ADDRESS: does not speak TLS; every connection is TLS 1.3 with "
              "certificates; check the address and the port");
  }
}

TEST_F(TlsRefusal, OwnFilesThatCannotServe) {
  const ShiftedClock clock;
  const auto client = federation_.client();
  const auto error = [&](const std::filesystem::path& folder) {
    auto made = make_tls_dialer(pump_, clock, federation_.disk(),
                                {.address = "localhost:1", .files = federation_.files(folder)});
    EXPECT_FALSE(made);
    return made ? "" : steady(made.error());
  };
  EXPECT_THAT(error(federation_.coordinator()), HasSubstr("is of role coordinator; a client's is"));
  EXPECT_THAT(error(federation_.join("old", Role::kClient, {}, -100)), HasSubstr("is expired"));
  std::filesystem::permissions(client / "identity.key", std::filesystem::perms(0644));
  EXPECT_THAT(error(client), HasSubstr("run: chmod 600 "));
  for (const char* bad :
       {"localhost", "localhost:", ":7", "localhost:x", "a b:1", "::1:7", "localhost:70000"}) {
    auto made = make_tls_dialer(pump_, clock, federation_.disk(), {.address = bad});
    ASSERT_FALSE(made) << bad;
    EXPECT_EQ(made.error().code, ErrorCode::kConfig) << bad;
  }
}

}  // namespace
}  // namespace strata::transport
