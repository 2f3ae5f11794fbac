#pragma once
// A small configuration with a field of every kind, described once: what the tests of reading and
// writing share.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/section.h"

namespace strata::config {

struct Cook {
  std::string name;
  std::int64_t age = 30;
};

struct Kitchen {
  std::int64_t ovens = 2;
  double heat = 0.5;
  std::optional<double> salt;
  std::optional<double> timer;
  bool open = true;
  std::string motto = "salt";
  std::string recipes;
  std::string fuel = "gas";
  std::vector<std::string> tools{"knife"};
  Entries<std::int64_t> spoons;
  Entries<double> weights;
  std::int64_t shelves = 4;
  std::string cellar_wine;
  std::vector<Cook> cooks;
};

inline void describe(Fields& f, Kitchen& k) {
  static constexpr std::array<std::string_view, 3> kFuels{"gas", "wood", "induction"};
  f.integer("ovens", k.ovens, {.min = 1, .max = 9}, "how many ovens");
  f.number("heat", k.heat, {.max = 1.0, .above = 0.0}, "share of full heat");
  f.number_or("salt", k.salt, "", {.max = 1.0, .above = 0.0}, "spoons of it");
  f.number_or("timer", k.timer, "never", {.min = 0.0}, "minutes until it rings");
  f.boolean("open", k.open, "whether guests may come");
  f.text("motto", k.motto, "over the door");
  f.path("recipes", k.recipes, "where the recipes lie");
  f.choice("fuel", k.fuel, kFuels, "what burns");
  f.texts("tools", k.tools, "in the drawer");
  f.integer_map("spoons", k.spoons, {.min = 0}, "per drawer");
  f.number_map("weights", k.weights, {.min = 0.0}, "per scale");
  f.object(
      "cellar",
      [&](Fields& inner) {
        inner.integer("shelves", k.shelves, {.min = 1}, "along the wall");
        inner.text("wine", k.cellar_wine, "on them");
        inner.required({"wine"});
      },
      "below");
  f.objects(
      "cooks", k.cooks.size(), [&](std::size_t n) { k.cooks.resize(n); },
      [&](std::size_t i, Fields& inner) {
        if (i >= k.cooks.size()) k.cooks.resize(i + 1);
        inner.text("name", k.cooks[i].name, "of the cook");
        inner.integer("age", k.cooks[i].age, {.min = 14}, "in years");
        inner.required({"name"});
      },
      "who cooks");
}

inline Result<Kitchen> read_kitchen(std::string_view json,
                                    const std::vector<std::string>& overrides = {},
                                    const std::string& file = "jobs/kitchen.json") {
  Kitchen kitchen;
  if (auto ok = read(json, file, overrides, [&](Fields& f) { describe(f, kitchen); }); !ok)
    return fail(std::move(ok).error());
  return kitchen;
}

}  // namespace strata::config
