// `strata certs ...` as people use it: the whole way of one federation, and what goes wrong on it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;

class Certs : public testing::Test {
 protected:
  // The data of a command that must succeed.
  static json ok(std::vector<std::string> args) {
    args.insert(args.begin(), "certs");
    args.insert(args.end(), {"--format", "json"});
    const Finished done = strata(args);
    EXPECT_EQ(done.status, 0) << done.out << done.err;
    return json::parse(done.out).at("data");
  }
  static Finished run(std::vector<std::string> args) {
    args.insert(args.begin(), "certs");
    return strata(args);
  }
  std::string at(const std::string& name) const { return (root_.path() / name).string(); }

  ScratchFolder root_;
};

TEST_F(Certs, AFederationFromNothingToARevokedClient) {
  const auto ca = ok({"init", "--federation", "north", "-o", at("ca")});
  const std::string fingerprint = ca["ca_fingerprint"];
  EXPECT_EQ(fingerprint.size(), 64u);
  ok({"request", "--federation", "north", "--id", "hub", "--role", "coordinator", "--host",
      "hub.example.org", "--host", "10.0.0.1", "-o", at("hub")});
  const auto asked =
      ok({"request", "--federation", "north", "--id", "clinic-a", "-o", at("clinic")});
  EXPECT_EQ(asked["name"], "strata://north/client/clinic-a");
  const auto approved =
      ok({"approve", asked["request"], "--ca", at("ca"), "--expect-id", "clinic-a"});
  EXPECT_EQ(approved["spki_sha256"], asked["spki_sha256"]);
  ok({"approve", at("hub/hub.csr"), "--ca", at("ca"), "--expect-id", "hub", "--role",
      "coordinator"});
  ok({"install", approved["certificate"], "--ca-fingerprint", fingerprint, "-o", at("clinic")});
  ok({"install", at("hub/hub.crt"), "--ca-fingerprint", fingerprint, "-o", at("hub")});
  EXPECT_EQ(ok({"verify", at("clinic"), "--role", "client"})["crl_checked"], false);
  EXPECT_EQ(ok({"verify", at("hub")})["hosts"], json({"hub.example.org", "10.0.0.1"}));
  EXPECT_EQ(ok({"list", "--ca", at("ca")})["certificates"].size(), 2u);
  EXPECT_EQ(ok({"list", "--ca", at("ca"), "--expiring", "30d"})["certificates"].size(), 0u);
  EXPECT_EQ(ok({"list", "--ca", at("ca"), "--expiring", "365d"})["certificates"].size(), 2u);

  const auto revoked = ok({"revoke", "clinic-a", "--ca", at("ca"), "--reason", "key_compromise"});
  EXPECT_EQ(revoked["revoked"], json({approved["serial"]}));
  EXPECT_EQ(revoked["crl_number"], 2);
  const auto listed = ok({"list", "--ca", at("ca")})["certificates"];
  EXPECT_EQ(listed[0]["state"], "revoked");
  EXPECT_EQ(listed[0]["reason"], "key_compromise");
  const Finished refused = run({"verify", at("clinic"), "--crl", at("ca/crl.pem")});
  EXPECT_EQ(refused.status, 6);
  EXPECT_THAT(refused.err, HasSubstr("has been revoked; ask the federation's authority for a new "
                                     "one [E_AUTH]"));
}

TEST_F(Certs, WrongUseIsOneLineWithARemedy) {
  ok({"demo", "--names", "anna,berta", "-o", at("kit")});
  const std::vector<std::tuple<std::vector<std::string>, int, std::string>> rows{
      {{"init", "--federation", "No Way", "-o", at("x")}, 2, "cannot name a federation"},
      {{"init", "--federation", "n", "--days", "9999", "-o", at("x")}, 2, "between 1 and 3650"},
      {{"init", "--federation", "n", "-o", at("kit/ca")}, 1, "a private key is never replaced"},
      {{"request", "--federation", "n", "--id", "hub", "--role", "coordinator", "-o", at("x")},
       2,
       "give --host NAME"},
      {{"request", "--federation", "n", "--id", "A", "-o", at("x")}, 2, "--id: \"A\" cannot be"},
      {{"request", "--federation", "n", "--id", "a", "--role", "root", "-o", at("x")}, 2, "--role"},
      {{"approve", at("none.csr"), "--ca", at("kit/ca"), "--expect-id", "a"}, 7, "no such file"},
      {{"approve", at("kit/ca/ca.crt"), "--ca", at("kit/ca"), "--expect-id", "a"},
       6,
       "holds no request"},
      {{"install", at("kit/anna/identity.crt"), "--ca-fingerprint", "00", "-o", at("kit/anna")},
       6,
       "holds 1 certificates"},
      {{"revoke", "carl", "--ca", at("kit/ca")}, 6, "has no certificate to take back"},
      {{"list", "--ca", at("kit/ca"), "--expiring", "soon"}, 2, "for example --expiring 30d"},
      {{"list", "--ca", at("kit/anna")}, 7, "no such file"},
      {{"verify", at("kit/anna"), "--role", "coordinator"}, 6, "a coordinator's is needed here"},
      {{"demo", "-o", at("y")}, 2, "give --clients N or --names a,b,c"},
      {{"demo", "--clients", "3", "--names", "a,b", "-o", at("y")}, 2, "2 names for 3 clients"},
      {{"demo", "--clients", "3", "-o", at("kit")}, 1, "keys are never replaced"},
  };
  for (const auto& [args, status, says] : rows) {
    const Finished done = run(args);
    EXPECT_EQ(done.status, status) << args[0] << ": " << done.err;
    EXPECT_THAT(done.err, HasSubstr(says));
    EXPECT_EQ(std::count(done.err.begin(), done.err.end(), '\n'), 1) << done.err;
  }
}

TEST_F(Certs, TextSaysWhatToDoNext) {
  const Finished made = run({"init", "--federation", "north", "-o", at("ca")});
  EXPECT_THAT(made.out, HasSubstr("Tell the fingerprint to every party by another way"));
  const Finished kit = run({"demo", "--clients", "2", "-o", at("kit")});
  EXPECT_THAT(kit.out, HasSubstr("client-1, client-2"));
  EXPECT_THAT(kit.out, HasSubstr("DEMO"));
  const Finished sound = run({"verify", at("kit/client-2")});
  EXPECT_THAT(sound.out, HasSubstr("name        strata://demo/client/client-2\n"));
}

}  // namespace
}  // namespace strata::cli
