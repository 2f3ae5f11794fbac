#include "certs/issued.h"

#include <array>
#include <nlohmann/json.hpp>

namespace strata::certs {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr std::array kReasons{Reason::kUnspecified, Reason::kKeyCompromise, Reason::kSuperseded,
                              Reason::kCessationOfOperation};

// Typed reads of one object; the first that fails is remembered.
class Reading {
 public:
  explicit Reading(const Json& object) : object_(object) {}
  std::string text(const char* key) {
    const auto at = object_.find(key);
    if (at != object_.end() && at->is_string()) return at->get<std::string>();
    wrong_ = true;
    return "";
  }
  std::int64_t time(const char* key) {
    const auto out = parse_utc(text(key));
    wrong_ = wrong_ || !out;
    return out.value_or(0);
  }
  [[nodiscard]] bool has(const char* key) const { return object_.contains(key); }
  void refuse() { wrong_ = true; }
  [[nodiscard]] bool wrong() const { return wrong_; }

 private:
  const Json& object_;
  bool wrong_ = false;
};

std::optional<IssuedCertificate> read_entry(const Json& object) {
  if (!object.is_object()) return std::nullopt;
  Reading in(object);
  IssuedCertificate out;
  out.id = in.text("id");
  out.serial = in.text("serial");
  out.spki_sha256 = in.text("spki_sha256");
  out.not_before = in.time("not_before");
  out.not_after = in.time("not_after");
  const auto role = role_of(in.text("role"));
  if (!role || !valid_id(out.id)) return std::nullopt;
  out.role = *role;
  if (in.has("revoked_at")) {
    out.revoked_at = in.time("revoked_at");
    const auto reason = reason_of(in.text("reason"));
    if (!reason) return std::nullopt;
    out.reason = *reason;
  }
  if (in.wrong()) return std::nullopt;
  return out;
}

std::optional<IssuedIndex> read_root(const Json& root) {
  if (!root.is_object()) return std::nullopt;
  const auto version = root.find("version");
  const auto number = root.find("crl_number");
  const auto federation = root.find("federation");
  const auto list = root.find("certificates");
  if (version == root.end() || *version != kVersion || number == root.end() ||
      !number->is_number_integer() || federation == root.end() || !federation->is_string() ||
      list == root.end() || !list->is_array())
    return std::nullopt;
  IssuedIndex out;
  out.federation = federation->get<std::string>();
  out.crl_number = number->get<std::int64_t>();
  if (!valid_id(out.federation) || out.crl_number < 0) return std::nullopt;
  for (const auto& object : *list) {
    auto entry = read_entry(object);
    if (!entry) return std::nullopt;
    out.certificates.push_back(*std::move(entry));
  }
  return out;
}

Json as_json(const IssuedCertificate& entry) {
  Json out{{"id", entry.id},
           {"role", name(entry.role)},
           {"serial", entry.serial},
           {"spki_sha256", entry.spki_sha256},
           {"not_before", utc_text(entry.not_before)},
           {"not_after", utc_text(entry.not_after)}};
  if (entry.revoked_at) {
    out["revoked_at"] = utc_text(*entry.revoked_at);
    out["reason"] = name(entry.reason);
  }
  return out;
}

}  // namespace

std::string_view name(Reason reason) {
  switch (reason) {
    case Reason::kUnspecified:
      return "unspecified";
    case Reason::kKeyCompromise:
      return "key_compromise";
    case Reason::kSuperseded:
      return "superseded";
    case Reason::kCessationOfOperation:
      return "cessation_of_operation";
  }
  return "";
}

std::optional<Reason> reason_of(std::string_view text) {
  for (const Reason reason : kReasons) {
    if (name(reason) == text) return reason;
  }
  return std::nullopt;
}

Result<IssuedIndex> read_index(const sys::Disk& disk, const std::filesystem::path& path) {
  auto text = disk.read_text(path);
  if (!text) return fail(std::move(text).error());
  auto out = read_root(Json::parse(*text, nullptr, false));
  if (!out) {
    return fail({.code = ErrorCode::kDamaged,
                 .what = "is not the index that was written",
                 .where = path.string(),
                 .rule = "the authority's folder is changed by `strata certs` only",
                 .remedy = "restore it from a copy"});
  }
  return *std::move(out);
}

Result<void> write_index(sys::Disk& disk, const std::filesystem::path& path,
                         const IssuedIndex& index) {
  Json list = Json::array();
  for (const auto& entry : index.certificates) list.push_back(as_json(entry));
  const Json root{{"version", kVersion},
                  {"federation", index.federation},
                  {"crl_number", index.crl_number},
                  {"certificates", std::move(list)}};
  return disk.write_atomic(path, root.dump(2) + "\n");
}

}  // namespace strata::certs
