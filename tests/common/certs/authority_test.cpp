// What the authority signs and refuses, and what a party's own check finds wrong with its folder.
#include "certs/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <ctime>
#include <fstream>

#include "certs/demo.h"
#include "certs/node.h"
#include "support/process.h"

namespace strata::certs {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::int64_t kDay = 86400;
constexpr std::int64_t kNow = 1790000000;  // 2026-09-21

class Authorities : public testing::Test {
 protected:
  void SetUp() override {
    auto made = Authority::init(*disk_, ca_, {.federation = "north"}, kNow);
    ASSERT_TRUE(made) << made.error().line();
  }

  Authority open() {
    auto out = Authority::open(*disk_, ca_);
    if (!out) throw std::runtime_error(out.error().line());
    return *std::move(out);
  }

  fs::path ask(const std::string& id, Role role = Role::kClient, const std::string& folder = "",
               std::vector<std::string> hosts = {}) {
    auto out = request(*disk_, root_.path() / (folder.empty() ? id : folder),
                       {.federation = "north", .role = role, .id = id, .hosts = std::move(hosts)},
                       KeyType::kEd25519, false);
    if (!out) throw std::runtime_error(out.error().line());
    return out->path;
  }

  // A party with its certificate installed; its folder.
  fs::path join(const std::string& id, Role role = Role::kClient, std::int64_t now = kNow,
                int days = 365) {
    std::vector<std::string> hosts;
    if (role == Role::kCoordinator) hosts = {"localhost", "127.0.0.1", "::1"};
    const auto path = ask(id, role, "", hosts);
    Authority authority = open();
    auto approved =
        authority.approve(path, {.expect_id = id, .expect_role = role, .days = days}, now);
    if (!approved) throw std::runtime_error(approved.error().line());
    const fs::path received = root_.path() / (id + ".crt");
    support::write_file(received, approved->pem);
    auto done = install(*disk_, received, path.parent_path(), hex(authority.fingerprint()), now);
    if (!done) throw std::runtime_error(done.error().line());
    return path.parent_path();
  }

  std::string wrong(const fs::path& folder, std::int64_t now = kNow,
                    std::optional<Role> role = std::nullopt) {
    auto node = load_node(*disk_, files_in(*disk_, folder), role, now);
    if (node) return "";
    EXPECT_EQ(node.error().code, ErrorCode::kAuth) << node.error().line();
    EXPECT_EQ(node.error().line().find('\n'), std::string::npos);
    return node.error().line();
  }

  std::string refusal(const fs::path& path, const ApproveOptions& options) {
    auto out = open().approve(path, options, kNow);
    EXPECT_FALSE(out);
    if (out) return "";
    EXPECT_EQ(out.error().code, ErrorCode::kAuth);
    return out.error().line();
  }

  support::ScratchFolder root_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  fs::path ca_ = root_.path() / "ca";
};

TEST_F(Authorities, TellWhatRunsOutSoon) {
  const auto folder = join("hub", Role::kCoordinator, kNow, 100);
  support::write_file(folder / "crl.pem", support::read_file(ca_ / "crl.pem"));  // for 90 days
  const NodeFiles files = files_in(*disk_, folder);
  auto node = load_node(*disk_, files, Role::kCoordinator, kNow);
  ASSERT_TRUE(node) << node.error().line();
  EXPECT_THAT(expiring(*node, files, kNow + 59 * kDay), testing::IsEmpty());
  EXPECT_THAT(
      expiring(*node, files, kNow + 61 * kDay),
      testing::ElementsAre(testing::AllOf(HasSubstr("crl.pem"), HasSubstr("strata certs revoke"))));
  EXPECT_THAT(expiring(*node, files, kNow + 88 * kDay + 1),
              testing::ElementsAre(testing::AllOf(HasSubstr("identity.crt runs out on 2026-12-30T"),
                                                  HasSubstr("in 11 days"), HasSubstr("--renew")),
                                   HasSubstr("in 1 day;")));
}

TEST_F(Authorities, SignWhatAPartyCanUse) {
  const auto folder = join("clinic-a");
  EXPECT_EQ(wrong(folder), "");
  auto node = load_node(*disk_, files_in(*disk_, folder), Role::kClient, kNow);
  ASSERT_TRUE(node);
  EXPECT_EQ(uri_of(node->identity), "strata://north/client/clinic-a");
  EXPECT_EQ(node->identity.not_after - node->identity.not_before, 365 * kDay);
  EXPECT_LT(node->identity.not_before, kNow);
  EXPECT_FALSE(node->identity.demo);
  const auto coordinator = join("hub", Role::kCoordinator);
  auto hub = load_node(*disk_, files_in(*disk_, coordinator), Role::kCoordinator, kNow);
  ASSERT_TRUE(hub) << hub.error().line();
  EXPECT_THAT(hub->identity.hosts,
              testing::ElementsAre("localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"));
  const IssuedIndex index = open().index();
  ASSERT_EQ(index.certificates.size(), 2u);
  EXPECT_EQ(index.certificates[0].id, "clinic-a");
  EXPECT_EQ(index.certificates[0].spki_sha256, hex(node->identity.spki));
}

TEST_F(Authorities, KeepKeysFromOthersAndNeverReplaceThem) {
  const auto path = ask("clinic-a");
  for (const auto& key : {path.parent_path() / "identity.key", ca_ / "ca.key"}) {
    struct stat found {};
    ASSERT_EQ(stat(key.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777u, 0600u) << key;
  }
  auto again = Authority::init(*disk_, ca_, {.federation = "south"}, kNow);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kFileExists);
  EXPECT_EQ(open().federation(), "north");
  auto twice = request(*disk_, path.parent_path(), {.federation = "north", .id = "clinic-a"},
                       KeyType::kEd25519, false);
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, ErrorCode::kFileExists);
  EXPECT_THAT(twice.error().line(), HasSubstr("--renew"));
}

TEST_F(Authorities, RefuseAnUnexpectedIdRoleOrFederation) {
  const auto path = ask("clinic-a");
  EXPECT_THAT(refusal(path, {.expect_id = "clinic-b"}),
              HasSubstr("asks for id \"clinic-a\"; \"clinic-b\" is expected"));
  const auto admin = ask("boss", Role::kAdmin);
  EXPECT_THAT(refusal(admin, {.expect_id = "boss"}),
              HasSubstr("asks for role admin; client is expected; if that is meant, approve it "
                        "with --role admin"));
  auto foreign = request(*disk_, root_.path() / "x", {.federation = "south", .id = "clinic-a"},
                         KeyType::kP256, false);
  ASSERT_TRUE(foreign);
  EXPECT_THAT(refusal(foreign->path, {.expect_id = "clinic-a"}),
              HasSubstr("asks for federation \"south\""));
  EXPECT_TRUE(open().index().certificates.empty());
}

TEST_F(Authorities, RefuseAnIdWithAnotherKeyUnlessRekeyed) {
  join("clinic-a");
  const auto other = ask("clinic-a", Role::kClient, "elsewhere");
  EXPECT_THAT(refusal(other, {.expect_id = "clinic-a"}), HasSubstr("with another key than before"));
  const auto number = open().index().crl_number;
  auto approved = open().approve(other, {.expect_id = "clinic-a", .rekey = true}, kNow);
  ASSERT_TRUE(approved) << approved.error().line();
  EXPECT_EQ(approved->revoked.size(), 1u);
  EXPECT_EQ(open().index().crl_number, number + 1);
  // The key that was taken back is never signed again, nor under another name.
  EXPECT_THAT(refusal(root_.path() / "clinic-a" / "clinic-a.csr", {.expect_id = "clinic-a"}),
              HasSubstr("comes with a key that was revoked"));
}

TEST_F(Authorities, RefuseAKeyOfAnotherId) {
  const auto folder = join("clinic-a");
  fs::create_directory(root_.path() / "clinic-b");
  fs::copy(folder / "identity.key", root_.path() / "clinic-b" / "identity.key");
  auto asked = request(*disk_, root_.path() / "clinic-b", {.federation = "north", .id = "clinic-b"},
                       KeyType::kEd25519, true);
  ASSERT_TRUE(asked) << asked.error().line();
  EXPECT_THAT(refusal(asked->path, {.expect_id = "clinic-b"}),
              HasSubstr("comes with the key of \"clinic-a\"; every id has a key of its own"));
}

TEST_F(Authorities, RenewTheSameKeyWithoutQuestions) {
  const auto folder = join("clinic-a");
  auto asked =
      request(*disk_, folder, {.federation = "north", .id = "clinic-a"}, KeyType::kEd25519, true);
  ASSERT_TRUE(asked);
  EXPECT_TRUE(open().approve(asked->path, {.expect_id = "clinic-a"}, kNow + 300 * kDay));
  EXPECT_EQ(open().index().certificates.size(), 2u);
}

TEST_F(Authorities, KeepTheLimitsOfTime) {
  for (const int days : {0, 398}) {
    auto out = open().approve(ask("c" + std::to_string(days)),
                              {.expect_id = "c" + std::to_string(days), .days = days}, kNow);
    ASSERT_FALSE(out);
    EXPECT_EQ(out.error().code, ErrorCode::kUsage);
  }
  auto out = Authority::init(*disk_, root_.path() / "ca2", {.federation = "n", .days = 3651}, kNow);
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().line(), HasSubstr("between 1 and 3650"));
  // A leaf ends with its authority at the latest.
  auto late = open().approve(ask("late"), {.expect_id = "late"}, kNow + 3600 * kDay);
  ASSERT_TRUE(late);
  EXPECT_EQ(late->identity.not_after, open().not_after());
}

TEST_F(Authorities, RevokeIntoAListThatCounts) {
  const auto folder = join("clinic-a");
  join("clinic-b");
  Authority authority = open();
  const auto before = authority.index().crl_number;
  auto out = authority.revoke("clinic-a", Reason::kKeyCompromise, kNow + kDay);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->serials.size(), 1u);
  EXPECT_EQ(out->crl_number, before + 1);
  fs::copy(ca_ / "crl.pem", folder / "crl.pem");
  fs::copy(ca_ / "crl.pem", root_.path() / "clinic-b" / "crl.pem");
  EXPECT_THAT(wrong(folder, kNow + 2 * kDay), HasSubstr("has been revoked"));
  EXPECT_EQ(wrong(root_.path() / "clinic-b", kNow + 2 * kDay), "");
  // A list that has run out lets nobody in, until it is renewed.
  EXPECT_THAT(wrong(root_.path() / "clinic-b", kNow + 92 * kDay),
              HasSubstr("the list of revoked certificates is out of date"));
  ASSERT_TRUE(authority.revoke("", Reason::kUnspecified, kNow + 92 * kDay));
  fs::copy(ca_ / "crl.pem", root_.path() / "clinic-b" / "crl.pem",
           fs::copy_options::overwrite_existing);
  EXPECT_EQ(wrong(root_.path() / "clinic-b", kNow + 92 * kDay), "");
  EXPECT_FALSE(authority.revoke("clinic-x", Reason::kUnspecified, kNow));
}

TEST_F(Authorities, InstallOnlyWithTheRightFingerprint) {
  const auto path = ask("clinic-a");
  Authority authority = open();
  auto approved = authority.approve(path, {.expect_id = "clinic-a"}, kNow);
  ASSERT_TRUE(approved);
  const fs::path received = root_.path() / "received.crt";
  support::write_file(received, approved->pem);
  auto out = install(*disk_, received, path.parent_path(), std::string(64, '0'), kNow);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code, ErrorCode::kAuth);
  EXPECT_THAT(out.error().line(), HasSubstr(hex(authority.fingerprint())));
  EXPECT_FALSE(fs::exists(path.parent_path() / "identity.crt"));
  // With colons and capitals, as other tools print it.
  std::string spelt;
  for (const char c : hex(authority.fingerprint()))
    spelt += std::string(spelt.size() % 3 == 2 ? ":" : "") +
             static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  EXPECT_TRUE(install(*disk_, received, path.parent_path(), spelt, kNow));
}

TEST_F(Authorities, NameWhatIsWrongWithAFolder) {
  const auto folder = join("clinic-a");
  EXPECT_THAT(wrong(folder, kNow + 400 * kDay), HasSubstr("is expired since 2027-09-21T"));
  EXPECT_THAT(wrong(folder, kNow - 2 * kDay), HasSubstr("this machine's clock reads 2026-09-19T"));
  EXPECT_THAT(wrong(folder, kNow, Role::kCoordinator),
              HasSubstr("is of role client; a coordinator's is needed here"));
  const fs::path key = folder / "identity.key";
  chmod(key.c_str(), 0640);
  EXPECT_THAT(wrong(folder), HasSubstr("has mode 0640; nobody but its owner may read a private "
                                       "key; run: chmod 600 " +
                                       key.string()));
  chmod(key.c_str(), 0600);
  fs::rename(key, folder / "real.key");
  fs::create_symlink(folder / "real.key", key);
  EXPECT_THAT(wrong(folder), HasSubstr("is a link"));
  fs::remove(key);
  const auto other = join("clinic-b");
  fs::copy(other / "identity.key", key);
  EXPECT_THAT(wrong(folder), HasSubstr("is not the key of"));
  ASSERT_TRUE(Authority::init(*disk_, root_.path() / "ca2", {.federation = "north"}, kNow));
  fs::copy(root_.path() / "ca2" / "ca.crt", other / "ca.crt", fs::copy_options::overwrite_existing);
  EXPECT_THAT(wrong(other), HasSubstr("is not from this federation's certificate authority"));
}

TEST_F(Authorities, SayWhenTheirFolderWasChangedByHand) {
  join("clinic-a");
  support::write_file(ca_ / "issued.json", R"({"version": 1, "federation": "north"})");
  auto out = Authority::open(*disk_, ca_);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code, ErrorCode::kDamaged);
}

TEST_F(Authorities, TakeP256Keys) {
  auto asked = request(*disk_, root_.path() / "p", {.federation = "north", .id = "p"},
                       KeyType::kP256, false);
  ASSERT_TRUE(asked);
  EXPECT_TRUE(open().approve(asked->path, {.expect_id = "p"}, kNow));
}

TEST(DemoKit, IsWholeAndMarked) {
  const support::ScratchFolder root;
  const auto disk = sys::make_posix_disk();
  const fs::path kit = root.path() / "kit";
  auto made = make_demo(*disk, kit, {.clients = {"a", "b"}}, kNow);
  ASSERT_TRUE(made) << made.error().line();
  for (const char* id : {"coordinator", "a", "b"}) {
    auto node = load_node(*disk, files_in(*disk, kit / id), std::nullopt, kNow);
    ASSERT_TRUE(node) << node.error().line();
    EXPECT_TRUE(node->identity.demo);
    EXPECT_EQ(node->identity.id, id);
    EXPECT_EQ(node->crl != nullptr, std::string(id) == "coordinator");
  }
  EXPECT_EQ(make_demo(*disk, kit, {}, kNow).error().code, ErrorCode::kFileExists);
  for (const char* bad : {"ca", "coordinator", "A", "../x", ""})
    EXPECT_EQ(make_demo(*disk, root.path() / "k2", {.clients = {bad}}, kNow).error().code,
              ErrorCode::kUsage)
        << bad;
}

TEST(Names, AreStrict) {
  for (const char* good : {"a", "clinic-a", "0.x_y-z"}) EXPECT_TRUE(valid_id(good)) << good;
  for (const std::string& bad : {std::string(""), std::string("-a"), std::string("A"),
                                 std::string("a/b"), std::string("a\0b", 3), std::string(64, 'a')})
    EXPECT_FALSE(valid_id(bad)) << bad;
  EXPECT_TRUE(valid_id(std::string(63, 'a')));
  ASSERT_TRUE(parse_uri("strata://north/admin/x"));
  EXPECT_EQ(parse_uri("strata://north/admin/x")->role, Role::kAdmin);
  for (const char* bad : {"strata://north/root/x", "strata://north/client/", "strata:/n/client/x",
                          "strata://n/client/x/y", "https://n/client/x", "strata://N/client/x"})
    EXPECT_FALSE(parse_uri(bad)) << bad;
  for (const char* bad : {"a,DNS:b", "*.example.org", "a b", "", ".a", "a.", "a..b"})
    EXPECT_FALSE(valid_host(bad)) << bad;
  for (const char* good : {"localhost", "hub.example.org", "10.0.0.1", "::1", "hub_1"})
    EXPECT_TRUE(valid_host(good)) << good;
  EXPECT_EQ(utc_text(*parse_utc("2026-01-31T12:34:56Z")), "2026-01-31T12:34:56Z");
  EXPECT_FALSE(parse_utc("2026-01-31"));
}

}  // namespace
}  // namespace strata::certs
