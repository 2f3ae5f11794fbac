#pragma once
// Makers of the adapter methods, for registry.cpp only.
#include <memory>

#include "adapter/adapter.h"

namespace strata::adapter {

std::unique_ptr<Adapter> make_lora(const LinearShape& shape, const AdapterSpec& spec);
std::unique_ptr<Adapter> make_rslora(const LinearShape& shape, const AdapterSpec& spec);
std::unique_ptr<Adapter> make_frozen_a(const LinearShape& shape, const AdapterSpec& spec);
std::unique_ptr<Adapter> make_seeded_a(const LinearShape& shape, const AdapterSpec& spec);
std::unique_ptr<Adapter> make_lte(const LinearShape& shape, const AdapterSpec& spec);

}  // namespace strata::adapter
