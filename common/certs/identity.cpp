#include "certs/identity.h"

#include <openssl/asn1.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <ctime>

namespace strata::certs {
namespace {

constexpr std::array kRoles{Role::kCoordinator, Role::kClient, Role::kAdmin};
constexpr std::string_view kScheme = "strata://";
constexpr std::size_t kIdCharsMax = 63;
constexpr std::size_t kHostCharsMax = 253;

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

}  // namespace

std::string_view name(Role role) {
  switch (role) {
    case Role::kCoordinator:
      return "coordinator";
    case Role::kClient:
      return "client";
    case Role::kAdmin:
      return "admin";
  }
  return "";
}

std::optional<Role> role_of(std::string_view text) {
  for (const Role role : kRoles) {
    if (name(role) == text) return role;
  }
  return std::nullopt;
}

bool valid_id(std::string_view text) {
  if (text.empty() || text.size() > kIdCharsMax || !is_lower_or_digit(text.front())) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_lower_or_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

bool is_ip_address(std::string_view text) {
  ASN1_OCTET_STRING* address = a2i_IPADDRESS(std::string(text).c_str());
  ASN1_OCTET_STRING_free(address);
  return address != nullptr;
}

bool valid_host(std::string_view text) {
  if (text.empty() || text.size() > kHostCharsMax) return false;
  if (text.find('\0') != std::string_view::npos) return false;
  if (is_ip_address(text)) return true;
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
  });
  return plain && text.front() != '.' && text.front() != '-' && text.back() != '.' &&
         text.find("..") == std::string_view::npos;
}

std::string uri_of(const Identity& identity) {
  return std::string(kScheme) + identity.federation + "/" + std::string(name(identity.role)) + "/" +
         identity.id;
}

std::optional<Identity> parse_uri(std::string_view uri) {
  if (!uri.starts_with(kScheme)) return std::nullopt;
  uri.remove_prefix(kScheme.size());
  const auto first = uri.find('/');
  const auto second = first == std::string_view::npos ? first : uri.find('/', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  Identity out;
  out.federation = uri.substr(0, first);
  out.id = uri.substr(second + 1);
  const auto role = role_of(uri.substr(first + 1, second - first - 1));
  if (!role || !valid_id(out.federation) || !valid_id(out.id)) return std::nullopt;
  out.role = *role;
  return out;
}

std::string utc_text(std::int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::optional<std::int64_t> parse_utc(std::string_view text) {
  std::tm parts{};
  const std::string owned(text);
  const char* end = strptime(owned.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return timegm(&parts);
}

}  // namespace strata::certs
