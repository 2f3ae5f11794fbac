#include <array>

#include "adapter/adapter.h"
#include "adapter/methods/methods.h"
#include "config/section.h"

namespace strata::adapter {
namespace {

constexpr std::array kMethods{
    AdapterMethod{"lora", "two trained factors, scale alpha/r", make_lora},
    AdapterMethod{"rslora", "LoRA with scale alpha/sqrt(r)", make_rslora},
    AdapterMethod{"ffa", "A frozen and shared by all clients, only B trained", make_frozen_a, false,
                  false},
    AdapterMethod{"seeded-a", "A drawn anew each round from the seed, only B trained and sent",
                  make_seeded_a, true, false},
    AdapterMethod{"lte", "LoRA whose A starts with orthogonal rows of length sqrt(d_in/r)",
                  make_lte},
};

}  // namespace

std::span<const AdapterMethod> methods() { return kMethods; }

Result<const AdapterMethod*> find_method(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& method : kMethods) {
    if (method.name == name) return &method;
    names.emplace_back(method.name);
  }
  const auto near = config::nearest(name, names);
  return fail({.code = ErrorCode::kConfig,
               .what = "\"" + printable(name, 60) + "\" is not an adapter method",
               .where = "adapter.method",
               .rule = near ? "did you mean \"" + *near + "\"?" : "see `strata schema`"});
}

}  // namespace strata::adapter
