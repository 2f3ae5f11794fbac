#pragma once
// Who may open a connection at all, before anything is known but the address: few at once whose
// name is not proved yet, and not too often from one address. Plain arithmetic; not thread-safe.
#include <map>
#include <optional>
#include <string>

#include "base/error.h"
#include "transport/tls.h"

namespace strata::transport {

class AddressGate {
 public:
  explicit AddressGate(const TlsLimits& limits) : limits_(limits) {}

  /// Whether one more connection from `address` is let in at `now` (seconds, growing). Each that is
  /// must be followed by one settled().
  [[nodiscard]] bool admit(const std::string& address, double now);
  /// The name of one of them is proved, or it is gone.
  void settled(const std::string& address);
  /// What to tell people about refusals since the last time; nothing most of the time: each address
  /// is told of once a minute.
  [[nodiscard]] std::optional<Error> news(const std::string& address, double now);

  [[nodiscard]] std::size_t known_addresses() const { return addresses_.size(); }

 private:
  struct Address {
    int unknown = 0;
    double tokens = 0;
    double counted = 0;  // when `tokens` was right
    double told = 0;     // when news() last said something; 0: never
    int refusals = 0;    // since then
    std::string why;     // of the last one
  };
  [[nodiscard]] Address& at(const std::string& address, double now);
  void forget_the_quiet(double now);

  TlsLimits limits_;
  std::map<std::string, Address> addresses_;
  int unknown_ = 0;
  double swept_ = 0;
};

}  // namespace strata::transport
