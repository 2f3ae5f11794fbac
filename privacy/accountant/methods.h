#pragma once
// Every accountant's maker, for registry.cpp only.
#include "privacy/accountant/accountant.h"

namespace strata::privacy {

std::unique_ptr<Accountant> make_pld_accountant(const AccountantConfig& config);
std::unique_ptr<Accountant> make_rdp_accountant(const AccountantConfig& config);

}  // namespace strata::privacy
