#include <fmt/format.h>

#include <array>

#include "privacy/accountant/methods.h"

namespace strata::privacy {
namespace {

constexpr std::array kAccountants{
    AccountantEntry{"pld", "privacy loss distributions by FFT: the tightest bound",
                    make_pld_accountant},
    AccountantEntry{"rdp", "Renyi divergences at the best order: looser, quick",
                    make_rdp_accountant},
};

}  // namespace

std::span<const AccountantEntry> accountants() { return kAccountants; }

Result<std::unique_ptr<Accountant>> make_accountant(std::string_view name,
                                                    const AccountantConfig& config) {
  if (!(config.eps_tolerance >= 1e-6 && config.eps_tolerance <= 1.0)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("eps_tolerance is {}", config.eps_tolerance),
                 .rule = "it is between 1e-6 and 1",
                 .remedy = "1e-3 is the default"});
  }
  Error unknown{.code = ErrorCode::kConfig,
                .what = "unknown accountant \"" + printable(name) + "\"",
                .rule = "one of:"};
  for (const auto& entry : kAccountants) {
    if (entry.name == name) return entry.make(config);
    unknown.rule += " " + std::string(entry.name);
  }
  return fail(std::move(unknown));
}

}  // namespace strata::privacy
