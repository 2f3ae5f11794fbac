// Certificates that say who somebody is in any way but the one: each is refused with its reason.
#include "certs/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "certs/key_file.h"
#include "certs/x509.h"

namespace strata::certs {
namespace {

using testing::HasSubstr;

struct Crafted {
  std::vector<std::string> common_names{"clinic-a"};
  std::string alternative = "URI:strata://north/client/clinic-a";  // empty: none
};

CertificatePtr craft(const Crafted& what) {
  const KeyPtr key = make_key(KeyType::kEd25519);
  CertificatePtr out(X509_new());
  X509_set_version(out.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 255);
  ASN1_TIME_set(X509_getm_notBefore(out.get()), 1790000000);
  ASN1_TIME_set(X509_getm_notAfter(out.get()), 1790086400);
  X509_set_pubkey(out.get(), key.get());
  for (const auto& common : what.common_names)
    X509_NAME_add_entry_by_txt(X509_get_subject_name(out.get()), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(common.data()),
                               static_cast<int>(common.size()), -1, 0);
  if (!what.alternative.empty()) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, out.get(), out.get(), nullptr, nullptr, 0);
    X509_EXTENSION* names =
        X509V3_EXT_nconf_nid(nullptr, &context, NID_subject_alt_name, what.alternative.c_str());
    EXPECT_NE(names, nullptr) << what.alternative;
    X509_add_ext(out.get(), names, -1);
    X509_EXTENSION_free(names);
  }
  X509_sign(out.get(), key.get(), nullptr);
  return out;
}

TEST(Identity, IsReadFromASoundCertificate) {
  auto out = identity_of(*craft({}), "x.crt");
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(uri_of(*out), "strata://north/client/clinic-a");
  EXPECT_EQ(out->serial, "ff");
  EXPECT_EQ(utc_text(out->not_before), "2026-09-21T14:13:20Z");
  EXPECT_EQ(out->not_after - out->not_before, 86400);
}

struct Row {
  const char* name;
  Crafted what;
  const char* says;
};

class IdentityRefused : public testing::TestWithParam<Row> {};

TEST_P(IdentityRefused, WithItsReason) {
  auto out = identity_of(*craft(GetParam().what), "x.crt");
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code, ErrorCode::kAuth);
  EXPECT_THAT(out.error().line(), HasSubstr(GetParam().says));
  EXPECT_THAT(out.error().line(), testing::StartsWith("x.crt: "));
}

const std::string kGood = "URI:strata://north/client/clinic-a";

INSTANTIATE_TEST_SUITE_P(
    Rows, IdentityRefused,
    testing::Values(
        Row{"NoName", {.alternative = ""}, "has no name strata://"},
        Row{"HostOnly", {.alternative = "DNS:clinic-a"}, "has 0 names strata://"},
        Row{"TwoNames", {.alternative = kGood + "," + kGood}, "has 2 names strata://"},
        Row{"AnotherUriBeside",
            {.alternative = kGood + ",URI:https://example.org"},
            "names \"https://example.org\""},
        Row{"UnknownRole",
            {.alternative = "URI:strata://north/root/clinic-a"},
            "names \"strata://north/root/clinic-a\""},
        Row{"Capitals", {.alternative = "URI:strata://north/client/Clinic-A"}, "names \"strata"},
        Row{"AnotherCommonName",
            {.common_names = {"clinic-b"}},
            "has the common name \"clinic-b\" and the id \"clinic-a\""},
        Row{"NoCommonName", {.common_names = {}}, "has no common name"},
        Row{"TwoCommonNames", {.common_names = {"clinic-a", "clinic-a"}}, "has two common names"},
        Row{"ZeroByte",
            {.common_names = {std::string("clinic-a\0.evil", 14)}},
            "has the common name \"clinic-a\\x00.evil\""}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(KeyTypes, OtherThanTheTwoAreRefused) {
  const KeyPtr rsa(EVP_RSA_gen(2048));
  auto refused = check_key_type(*rsa, "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().line(), "x: has a key of type RSA; keys are Ed25519 or P-256");
  const KeyPtr curve(EVP_EC_gen("P-384"));
  EXPECT_FALSE(check_key_type(*curve, "x"));
  for (const auto type : {KeyType::kEd25519, KeyType::kP256})
    EXPECT_TRUE(check_key_type(*make_key(type), "x"));
}

}  // namespace
}  // namespace strata::certs
