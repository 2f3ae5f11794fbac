#include "transport/tls_gate.h"

#include <fmt/format.h>

#include <algorithm>

namespace strata::transport {
namespace {

constexpr double kToldEverySeconds = 60;
constexpr std::size_t kAddressesMax = 4096;

}  // namespace

AddressGate::Address& AddressGate::at(const std::string& address, double now) {
  const auto [found, fresh] = addresses_.try_emplace(address);
  Address& out = found->second;
  if (fresh) {
    out.tokens = limits_.connects_burst;
  } else {
    out.tokens =
        std::min(limits_.connects_burst, out.tokens + (now - out.counted) * limits_.connects_per_s);
  }
  out.counted = now;
  return out;
}

// An address that is where a new one would begin need not be remembered.
void AddressGate::forget_the_quiet(double now) {
  const double pause = addresses_.size() < kAddressesMax ? kToldEverySeconds : 1.0;
  if (now - swept_ < pause) return;
  swept_ = now;
  std::erase_if(addresses_, [&](const auto& entry) {
    const Address& one = entry.second;
    const double refilled = one.tokens + (now - one.counted) * limits_.connects_per_s;
    return one.unknown == 0 && refilled >= limits_.connects_burst &&
           (one.told == 0 || now - one.told >= kToldEverySeconds);
  });
}

bool AddressGate::admit(const std::string& address, double now) {
  forget_the_quiet(now);
  Address& from = at(address, now);
  std::string why;
  if (from.tokens < 1) {
    why = fmt::format("more than {:g} new connections a second", limits_.connects_per_s);
  } else if (from.unknown >= limits_.unknown_per_address_max) {
    why = fmt::format("more than {} connections that have not said who they are",
                      limits_.unknown_per_address_max);
  } else if (unknown_ >= limits_.unknown_max) {
    why = fmt::format("{} connections of all addresses have not said who they are",
                      limits_.unknown_max);
  }
  if (!why.empty()) {  // costs no token: a crowd that comes again is let in as fast as any
    from.why = std::move(why);
    ++from.refusals;
    return false;
  }
  from.tokens -= 1;
  ++from.unknown;
  ++unknown_;
  return true;
}

void AddressGate::settled(const std::string& address) {
  const auto found = addresses_.find(address);
  if (found == addresses_.end() || found->second.unknown == 0) return;
  --found->second.unknown;
  --unknown_;
}

std::optional<Error> AddressGate::news(const std::string& address, double now) {
  const auto found = addresses_.find(address);
  if (found == addresses_.end() || found->second.refusals == 0) return std::nullopt;
  Address& from = found->second;
  if (from.told != 0 && now - from.told < kToldEverySeconds) return std::nullopt;
  from.told = now;
  const int count = std::exchange(from.refusals, 0);
  return Error{.code = ErrorCode::kPeer,
               .what = fmt::format("{} connection{} closed at once", count, count == 1 ? "" : "s"),
               .where = address,
               .rule = from.why,
               .remedy = "find out what runs there"};
}

}  // namespace strata::transport
