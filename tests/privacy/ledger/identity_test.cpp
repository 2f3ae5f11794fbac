// Rows are known again under another name, in another order, in another file; file systems that
// cannot hold a ledger are refused.
#include "privacy/ledger/filesystem.h"
#include "privacy/ledger/ledger_fixture.h"
#include "support/process.h"

namespace strata::ledger {
namespace {

using testing::HasSubstr;

class IdentityTest : public LedgerTest {
 protected:
  static ErrorCode code_of(const Result<void>& result) {
    return result ? throw std::logic_error("no error") : result.error().code;
  }
  static void charge(Ledger& ledger, const std::string& dataset, std::uint64_t steps) {
    const auto receipt = ledger.reserve(round_of(dataset, 1, steps, "run of " + dataset));
    ASSERT_TRUE(receipt) << receipt.error().line();
  }
  static Fingerprint of(const Ledger& ledger, const std::vector<std::string>& texts) {
    Fingerprinter out = ledger.fingerprinter();
    for (const auto& text : texts) out.add(text);
    return std::move(out).finish();
  }
};

TEST_F(IdentityTest, ShuffledRowsAreTheSameRows) {
  Ledger ledger = with_wards();
  const auto a = of(ledger, {"one", "two", "three", "two"});
  const auto b = of(ledger, {"two", "three", "two", "one"});
  EXPECT_EQ(a.root, b.root);
  EXPECT_EQ(a.prefixes, b.prefixes);
  EXPECT_EQ(a.rows, 4u);
  EXPECT_EQ(a.prefixes.size(), 3u);
  EXPECT_NE(a.root, of(ledger, {"one", "two", "three"}).root);
  EXPECT_NE(a.root, of(ledger, {"one", "two", "three", "Two"}).root);
}

TEST_F(IdentityTest, AnotherOwnersKeyGivesOtherNames) {
  Ledger ledger = with_wards();
  Fingerprinter other(RowKey::draw().value());
  other.add("one");
  EXPECT_NE(std::move(other).finish().prefixes, of(ledger, {"one"}).prefixes);
}

// HMAC-SHA256 of RFC 4231 cannot be asked for a drawn key; the key written as a file can be chosen.
TEST_F(IdentityTest, NamesAreHmacSha256AndTheRootThatOfRfc6962) {
  const std::string key = std::string(64, '0') + "\n";
  auto file = disk_.open("/key").value();
  ASSERT_TRUE(file->write(0, std::as_bytes(std::span(key.data(), key.size()))));
  const RowKey zeros = RowKey::read(disk_, "/key").value();
  // HMAC with 32 zero bytes of "": a key of zeros and an empty one are the same to HMAC.
  EXPECT_EQ(hex(zeros.hmac("")),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  Fingerprinter one(zeros);
  one.add("");
  Hasher leaf;
  leaf.add(std::string_view("\0", 1));
  leaf.add(zeros.hmac(""));
  EXPECT_EQ(std::move(one).finish().root, leaf.finish());
}

TEST_F(IdentityTest, AnEditedDataSetKeepsWhatItSpent) {
  Ledger ledger = with_wards(8.0);
  charge(ledger, "wards", 30);
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards"), rows(ledger, 5, 20))) << "rows came and went";
  EXPECT_NEAR(opened().spent("wards").value(), 3.0, 1e-12);
  charge(ledger, "wards", 20);
  EXPECT_NEAR(opened().spent("wards").value(), 5.0, 1e-12);
  const Head before = ledger.head();
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards"), rows(ledger, 0, 10))) << "known already";
  EXPECT_EQ(ledger.head(), before);
}

TEST_F(IdentityTest, ANewNameForKnownRowsIsRefusedUnlessItInherits) {
  Ledger ledger = with_wards(8.0);
  charge(ledger, "wards", 50);
  const Fingerprint renamed = rows(ledger, 9, 30);  // one row in common
  const auto refused = ledger.add_dataset(terms_of("patients"), renamed);
  EXPECT_EQ(code_of(refused), ErrorCode::kBudget);
  EXPECT_THAT(refused.error().line(), HasSubstr("has rows of dataset wards"));
  EXPECT_FALSE(ledger.spent("patients"));
  ASSERT_TRUE(ledger.add_dataset(terms_of("patients"), renamed, Inherit::kYes));
  EXPECT_NEAR(opened().spent("patients").value(), 5.0, 1e-12);
  EXPECT_NEAR(ledger.reserve(round_of("patients", 1))->epsilon_after, 6.0, 1e-12);
  EXPECT_NEAR(opened().spent("wards").value(), 6.0, 1e-12) << "its rows went through that too";
}

TEST_F(IdentityTest, UnknownRowsHaveSpentNothing) {
  Ledger ledger = with_wards();
  charge(ledger, "wards", 50);
  ASSERT_TRUE(ledger.add_dataset(terms_of("others"), rows(ledger, 10, 20)));
  EXPECT_EQ(ledger.spent("others").value(), 0.0);
}

TEST_F(IdentityTest, TheMostThatAnyRowWentThroughCounts) {
  Ledger ledger = with_wards(80.0);  // rows 0..9
  ASSERT_TRUE(ledger.add_dataset(terms_of("b", 80.0), rows(ledger, 10, 20)));
  ASSERT_TRUE(ledger.add_dataset(terms_of("c", 80.0), rows(ledger, 20, 30)));
  charge(ledger, "wards", 30);
  charge(ledger, "b", 50);
  charge(ledger, "c", 70);
  // Rows of wards and of b, none of both: the larger of the two.
  ASSERT_TRUE(ledger.add_dataset(terms_of("mix", 80.0), rows(ledger, 5, 15), Inherit::kYes));
  EXPECT_NEAR(ledger.spent("mix").value(), 5.0, 1e-12);
  charge(ledger, "mix", 10);
  EXPECT_NEAR(ledger.spent("mix").value(), 6.0, 1e-12);
  EXPECT_NEAR(ledger.spent("wards").value(), 4.0, 1e-12);
  EXPECT_NEAR(ledger.spent("c").value(), 7.0, 1e-12);
  // Rows of b and of mix at once (10..14): both were charged with them.
  ASSERT_TRUE(ledger.add_dataset(terms_of("last", 80.0), rows(ledger, 14, 16), Inherit::kYes));
  EXPECT_NEAR(ledger.spent("last").value(), 6.0, 1e-12);
  charge(ledger, "b", 100);
  EXPECT_NEAR(opened().spent("last").value(), 16.0, 1e-12) << "charges that come later too";
  EXPECT_NEAR(opened().spent("wards").value(), 4.0, 1e-12) << "no row of it is in b";
}

TEST_F(IdentityTest, TheCapOfWhoeverSharesTheRowsHoldsToo) {
  Ledger ledger = with_wards(2.0);
  ASSERT_TRUE(ledger.add_dataset(terms_of("patients", 50.0), rows(ledger, 9, 30), Inherit::kYes));
  charge(ledger, "patients", 15);
  const auto refused = ledger.reserve(round_of("patients", 2, 10, "run of patients"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().line(),
            "budget: dataset wards would reach eps 2.50 > cap 2.00 (delta 1e-6) after round 2; "
            "1 round fits");
}

TEST_F(IdentityTest, RowsOfAnotherSetDoNotSlipIntoAKnownOne) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.add_dataset(terms_of("others"), rows(ledger, 10, 20)));
  charge(ledger, "others", 40);
  const Fingerprint grown = rows(ledger, 0, 12);
  EXPECT_EQ(code_of(ledger.add_dataset(terms_of("wards"), grown)), ErrorCode::kBudget);
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards"), grown, Inherit::kYes));
  EXPECT_NEAR(opened().spent("wards").value(), 4.0, 1e-12);
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards"), rows(ledger, 0, 13))) << "said once";
}

TEST_F(IdentityTest, TermsAreFixed) {
  Ledger ledger = with_wards(8.0);
  EXPECT_EQ(code_of(ledger.add_dataset(terms_of("wards", 9.0), rows(ledger, 0, 10))),
            ErrorCode::kConfig);
  Dataset other = terms_of("wards", 8.0);
  other.unit = "user";
  EXPECT_EQ(code_of(ledger.add_dataset(other, rows(ledger, 0, 10))), ErrorCode::kConfig);
}

TEST_F(IdentityTest, RowsThatWereChangedOnTheDiskAreNoticed) {
  Ledger ledger = with_wards();
  for (const auto& file : disk_.all_files()) {
    if (file.find("rows-") != std::string::npos) {
      ASSERT_TRUE(disk_.rot(file));
    }
  }
  EXPECT_EQ(code_of(ledger.add_dataset(terms_of("others"), rows(ledger, 10, 20))),
            ErrorCode::kDamaged);
}

TEST(Filesystem, ThoseThatCannotHoldALedgerAreRefusedByName) {
  const auto on = [](std::uint64_t number) {
    return check_filesystem("/data",
                            [number](const auto&) { return Result<std::uint64_t>(number); });
  };
  for (const auto& [number, name] : std::map<std::uint64_t, std::string>{
           {0x6969, "nfs"}, {0x794c7630, "overlay"}, {0x01021994, "tmpfs"}, {0xff534d42, "cifs"}}) {
    const auto refused = on(number);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(refused.error().line(), HasSubstr("lies on " + name));
  }
  for (const std::uint64_t number : {0xef53, 0x58465342, 0x2fc12fc1}) EXPECT_TRUE(on(number));
  const auto unknown = check_filesystem("/data", [](const auto&) -> Result<std::uint64_t> {
    return fail({.code = ErrorCode::kIo, .what = "who knows"});
  });
  EXPECT_EQ(unknown.error().code, ErrorCode::kIo);
  EXPECT_EQ(posix_filesystem("/proc").value(), 0x9fa0u);
}

TEST_F(IdentityTest, ALedgerIsNeitherBegunNorOpenedThere) {
  Tools bad = tools();
  bad.filesystem_of = [](const auto&) { return Result<std::uint64_t>(0x6969); };
  EXPECT_EQ(code_of(Ledger::create(bad, folder_)), ErrorCode::kUnsupported);
  (void)created();
  EXPECT_EQ(Ledger::open(bad, folder_).error().code, ErrorCode::kUnsupported);
}

// Whoever reads the key can try rows against their names.
TEST_F(IdentityTest, AKeyThatOthersMayReadIsRefused) {
  const auto with = [](FileAccess access) {
    return check_secret("/ledger/key",
                        [access](const auto&) { return Result<FileAccess>(access); });
  };
  const FileAccess sound{.regular = true, .owner = 7, .self = 7, .mode = 0600};
  EXPECT_TRUE(with(sound));
  EXPECT_TRUE(with({.regular = true, .owner = 7, .self = 7, .mode = 0400}));
  for (const std::uint32_t mode : {0640u, 0604u, 0610u, 0602u, 0666u}) {
    const auto open = with({.regular = true, .owner = 7, .self = 7, .mode = mode});
    ASSERT_FALSE(open) << mode;
    EXPECT_EQ(open.error().code, ErrorCode::kAuth);
  }
  EXPECT_EQ(with({.regular = true, .owner = 7, .self = 7, .mode = 0644}).error().line(),
            "/ledger/key: has mode 0644; who reads the key that rows are named with can tell which "
            "rows are in the data; run: chmod 600 /ledger/key");
  EXPECT_EQ(with({.regular = true, .owner = 0, .self = 7, .mode = 0600}).error().what,
            "belongs to user 0");
  EXPECT_EQ(with({.regular = false, .owner = 7, .self = 7, .mode = 0600}).error().what,
            "is no plain file");
  EXPECT_EQ(posix_access("/no/such/file").error().code, ErrorCode::kFileMissing);
}

TEST_F(IdentityTest, ALedgerWithAnOpenKeyIsNotOpened) {
  namespace fs = std::filesystem;
  const support::ScratchFolder scratch;
  const auto disk = sys::make_posix_disk();
  const fs::path folder = scratch.path() / "owner" / "ledger";
  fs::create_directories(folder.parent_path());
  const Tools real{
      .disk = *disk, .clock = clock_, .epsilon_of = tenth_of_steps, .filesystem_of = {}};
  ASSERT_TRUE(Ledger::create(real, folder));
  ASSERT_TRUE(Ledger::open(real, folder));
  fs::permissions(folder / "key", fs::perms(0640));
  const auto open = Ledger::open(real, folder);
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().code, ErrorCode::kAuth);
  EXPECT_EQ(open.error().what, "has mode 0640");
  fs::permissions(folder / "key", fs::perms(0600));
  EXPECT_TRUE(Ledger::open(real, folder));
  fs::rename(folder / "key", folder / "elsewhere");
  fs::create_symlink(folder / "elsewhere", folder / "key");
  EXPECT_EQ(Ledger::open(real, folder).error().what, "is no plain file");
}

}  // namespace
}  // namespace strata::ledger
