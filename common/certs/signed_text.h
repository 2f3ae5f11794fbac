#pragma once
// A text that a party signed with the key of its certificate, for people who get it without a
// connection: the certificate comes along, and who trusts the authority can check it.
// No thread rules.
#include <string>
#include <string_view>

#include "certs/node.h"

namespace strata::certs {

struct SignedText {
  std::string signature;    // base64 of what EVP_DigestSign gives: Ed25519, or ECDSA with SHA-256
  std::string certificate;  // PEM
};

/// kInternal only when the library refuses.
[[nodiscard]] Result<SignedText> sign_text(Node& node, std::string_view text);

/// Whom to believe. Without a `crl` nothing is looked up; `now` is only for that.
struct TrustFiles {
  std::filesystem::path ca;
  std::filesystem::path crl;
  std::int64_t now = 0;  // seconds since 1970
};

/// Who signed: the holder of the certificate, which `trust.ca` made, which was valid at `at`,
/// seconds since 1970, and which a current `trust.crl` does not name. kAuth for a certificate that
/// does not hold, a list that is old or not the authority's, or another text than was signed;
/// `where` names the text in errors.
[[nodiscard]] Result<Identity> check_signed_text(const sys::Disk& disk, std::string_view text,
                                                 const SignedText& with, const TrustFiles& trust,
                                                 std::int64_t at, const std::string& where);

}  // namespace strata::certs
