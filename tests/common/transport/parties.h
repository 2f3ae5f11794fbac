#pragma once
// What tests of transports need: a handler that writes down what it hears, and parties with
// certificates of a small federation.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "certs/authority.h"
#include "certs/node.h"
#include "support/process.h"
#include "support/pump.h"
#include "transport/tls.h"

namespace strata::transport {

using support::Pump;

/// Keeps its connections and what comes on them.
class Notes final : public Handler {
 public:
  void on_open(const std::shared_ptr<Connection>& connection) override {
    connections.push_back(connection);
    if (opened) opened(*connection);
  }
  void on_frame(Connection& connection, wire::Frame frame) override {
    bytes += frame.payload.size();
    if (heard) return heard(connection, std::move(frame));
    frames.push_back(std::move(frame));
  }
  void on_end(Connection&, const Error& why) override { ends.push_back(why); }

  std::vector<std::shared_ptr<Connection>> connections;
  std::vector<wire::Frame> frames;
  std::vector<Error> ends;
  std::size_t bytes = 0;
  std::function<void(Connection&)> opened;
  std::function<void(Connection&, wire::Frame)> heard;
};

inline wire::Frame frame_of(std::size_t bytes, std::uint16_t type = 0x100,
                            std::uint64_t round = 0) {
  wire::Frame out;
  out.header.type = type;
  out.header.round = round;
  out.payload.resize(bytes);
  for (std::size_t i = 0; i < bytes; i += 997) out.payload[i] = static_cast<std::byte>(i % 251);
  return out;
}

/// A clock whose calendar is `days` off, and that may go on by days.
class ShiftedClock final : public sys::Clock {
 public:
  explicit ShiftedClock(int days = 0) : days_(days) {}
  double seconds() const override { return real_->seconds() + 86400.0 * gone_by_; }
  std::string utc() const override {
    return certs::utc_text(*certs::parse_utc(real_->utc()) +
                           std::int64_t{86400} * (days_ + gone_by_));
  }
  [[nodiscard]] std::int64_t now() const { return *certs::parse_utc(utc()); }
  void let_pass(int days) { gone_by_ += days; }

 private:
  std::unique_ptr<sys::Clock> real_ = sys::make_posix_clock();
  int days_;
  std::atomic<int> gone_by_ = 0;
};

/// An authority in a scratch folder, and parties with its certificates.
class Federation {
 public:
  explicit Federation(const std::string& name = "test", std::int64_t now = ShiftedClock(-300).now())
      : name_(name),
        authority_(
            value(certs::Authority::init(*disk_, root_.path() / "ca", {.federation = name}, now))) {
  }

  /// A party's folder, its certificate made at `now` for `days`.
  std::filesystem::path join(const std::string& id, certs::Role role,
                             std::vector<std::string> hosts = {}, int shifted_days = 0,
                             int days = 30) {
    const std::int64_t now = ShiftedClock(shifted_days).now();
    auto folder = root_.path() / id;
    const auto asked = value(certs::request(
        *disk_, folder, {.federation = name_, .role = role, .id = id, .hosts = std::move(hosts)},
        certs::KeyType::kEd25519, false));
    const auto approved = value(
        authority_.approve(asked.path, {.expect_id = id, .expect_role = role, .days = days}, now));
    support::write_file(folder / "received", approved.pem);
    (void)value(
        certs::install(*disk_, folder / "received", folder, hex(authority_.fingerprint()), now));
    return folder;
  }
  std::filesystem::path coordinator() {
    return join("hub", certs::Role::kCoordinator, {"localhost", "127.0.0.1"});
  }
  std::filesystem::path client(const std::string& id = "clinic-a") {
    return join(id, certs::Role::kClient);
  }
  void revoke(const std::string& id, int shifted_days = 0, int crl_days = 30) {
    (void)value(authority_.revoke(id, certs::Reason::kKeyCompromise,
                                  ShiftedClock(shifted_days).now(), crl_days));
  }
  [[nodiscard]] std::filesystem::path crl() const { return root_.path() / "ca" / "crl.pem"; }
  [[nodiscard]] sys::Disk& disk() { return *disk_; }
  [[nodiscard]] certs::NodeFiles files(const std::filesystem::path& folder) const {
    return certs::files_in(*disk_, folder);
  }

  template <class T>
  static T value(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().line());
    return *std::move(result);
  }

 private:
  std::string name_;
  support::ScratchFolder root_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  certs::Authority authority_;
};

/// Limits that loopback tests do not run into.
inline TlsLimits wide_limits() {
  TlsLimits out;
  out.connects_per_s = 1e6;
  out.connects_burst = 1e6;
  out.unknown_per_address_max = 1000;
  out.unknown_max = 1000;
  return out;
}

/// A line with what differs between runs replaced: ports, serials, times.
inline std::string steady(const std::string& line) {
  std::string out =
      std::regex_replace(line, std::regex(R"((127\.0\.0\.1|localhost):\d+)"), "ADDRESS");
  out = std::regex_replace(out, std::regex("serial [0-9a-f]+"), "serial N");
  return std::regex_replace(out, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"), "TIME");
}
inline std::string steady(const Error& error) {
  return steady("[" + std::string(name(error.code)) + "] " + error.line());
}

}  // namespace strata::transport
