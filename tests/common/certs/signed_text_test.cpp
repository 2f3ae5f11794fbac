// A signed text, and lists of revoked certificates beside it.
#include "certs/signed_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "certs/demo.h"
#include "support/process.h"

namespace strata::certs {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::int64_t kDay = 86400;
constexpr std::int64_t kNow = 1790000000;  // 2026-09-21
constexpr std::string_view kText = "what was promised";

class SignedTexts : public testing::Test {
 protected:
  SignedTexts() {
    make(kit_);
    auto node = load_node(*disk_, files_in(*disk_, kit_ / "anna"), Role::kClient, kNow);
    if (!node) throw std::runtime_error(node.error().line());
    with_ = sign_text(*node, kText).value();
  }
  void make(const fs::path& folder) {
    auto made = make_demo(*disk_, folder, {.clients = {"anna", "berta"}}, kNow);
    if (!made) throw std::runtime_error(made.error().line());
  }
  void revoke(const std::string& id, std::int64_t now) {
    auto authority = Authority::open(*disk_, kit_ / "ca");
    ASSERT_TRUE(authority);
    ASSERT_TRUE(authority->revoke(id, Reason::kKeyCompromise, now));
  }
  // Signed at kNow, read at `now`; the error's line, or nothing.
  std::string wrong(const fs::path& crl, std::int64_t now, std::string_view text = kText) {
    const auto signer = check_signed_text(
        *disk_, text, with_, {.ca = kit_ / "ca" / "ca.crt", .crl = crl, .now = now}, kNow, "it");
    if (signer) {
      EXPECT_EQ(signer->id, "anna");
      return "";
    }
    EXPECT_TRUE(signer.error().code == ErrorCode::kAuth ||
                signer.error().code == ErrorCode::kFileMissing);
    return signer.error().line();
  }
  fs::path list() const { return kit_ / "ca" / "crl.pem"; }

  support::ScratchFolder root_;
  const fs::path kit_ = root_.path() / "kit";
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  SignedText with_;
};

TEST_F(SignedTexts, HoldUntilTheirSignerIsRevoked) {
  EXPECT_EQ(wrong("", kNow), "");
  EXPECT_EQ(wrong(list(), kNow + kDay), "");
  EXPECT_THAT(wrong(list(), kNow + kDay, "what was premised"), HasSubstr("is not what "));
  revoke("berta", kNow + kDay);
  EXPECT_EQ(wrong(list(), kNow + 2 * kDay), "");
  revoke("anna", kNow + 3 * kDay);
  // Signed before that, if its holder is to be believed; a thief of the key writes any time.
  EXPECT_THAT(wrong(list(), kNow + 4 * kDay), HasSubstr("has been revoked"));
  EXPECT_EQ(wrong("", kNow + 4 * kDay), "");  // nobody asked
}

// The list is judged by the reader's clock, not by the time of the text; the signer's certificate
// may have run out since.
TEST_F(SignedTexts, NeedAListThatIsCurrentNow) {
  EXPECT_THAT(wrong(list(), kNow + 200 * kDay), HasSubstr("out of date"));
  revoke("", kNow + 500 * kDay);
  EXPECT_EQ(wrong(list(), kNow + 501 * kDay), "");
}

TEST_F(SignedTexts, NeedAListOfTheirAuthority) {
  make(root_.path() / "other");
  EXPECT_THAT(wrong(root_.path() / "other" / "ca" / "crl.pem", kNow),
              HasSubstr("not of its authority"));
  EXPECT_THAT(wrong(kit_ / "ca" / "ca.crt", kNow), HasSubstr("holds no list of revoked"));
  EXPECT_NE(wrong(root_.path() / "nowhere.pem", kNow), "");
}

}  // namespace
}  // namespace strata::certs
