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

/// Who signed: the holder of the certificate, which `ca` (a file) made and which was valid at `at`,
/// seconds since 1970. kAuth for a certificate that does not hold or another text than was signed;
/// `where` names the text in errors.
[[nodiscard]] Result<Identity> check_signed_text(const sys::Disk& disk, std::string_view text,
                                                 const SignedText& with,
                                                 const std::filesystem::path& ca, std::int64_t at,
                                                 const std::string& where);

}  // namespace strata::certs
