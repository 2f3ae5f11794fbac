#pragma once
// A ledger on a simulated disk, whose epsilon is a tenth of the steps: sums can be done by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "privacy/ledger/ledger.h"
#include "sim/disk.h"

namespace strata::ledger {

inline constexpr double kPerStep = 0.1;

inline Result<double> tenth_of_steps(const std::vector<Charge>& charges, double) {
  double out = 0.0;
  for (const auto& charge : charges) out += kPerStep * static_cast<double>(charge.steps);
  return out;
}

class StillClock final : public sys::Clock {
 public:
  [[nodiscard]] double seconds() const override { return 0.0; }
  [[nodiscard]] std::string utc() const override { return "2026-01-31T12:34:56Z"; }
};

inline Reservation round_of(const std::string& dataset, std::uint64_t round,
                            std::uint64_t steps = 10, const std::string& run = "run-1") {
  return {.dataset = dataset,
          .run = run,
          .round = round,
          .charge = {.mechanism = "gaussian", .q = 0.01, .z = 1.1, .steps = steps}};
}

inline Dataset terms_of(const std::string& id, double cap = 8.0) {
  return {
      .id = id, .unit = "example", .adjacency = "add_remove", .epsilon_cap = cap, .delta = 1e-6};
}

class LedgerTest : public testing::Test {
 protected:
  sim::Disk disk_{sys::Stream(1)};
  StillClock clock_;
  EpsilonOf epsilon_of_ = tenth_of_steps;
  const std::filesystem::path folder_ = "/ledger";
  const std::filesystem::path file_ = folder_ / "ledger.jsonl";

  Tools tools() {
    return {.disk = disk_,
            .clock = clock_,
            .epsilon_of = epsilon_of_,
            .host = "clinic",
            .filesystem_of = {},
            .access_of = {},
            .pause = [] {}};
  }
  Ledger created() {
    if (auto made = Ledger::create(tools(), folder_); !made)
      throw std::runtime_error(made.error().line());
    return opened();
  }
  Ledger opened() {
    auto out = Ledger::open(tools(), folder_);
    if (!out) throw std::runtime_error(out.error().line());
    return std::move(*out);
  }
  static Fingerprint rows(const Ledger& ledger, int first, int last) {
    Fingerprinter out = ledger.fingerprinter();
    for (int i = first; i < last; ++i) out.add("row " + std::to_string(i));
    return std::move(out).finish();
  }
  // With one data set, "wards", of rows 0 to 9.
  Ledger with_wards(double cap = 8.0) {
    Ledger out = created();
    const auto added = out.add_dataset(terms_of("wards", cap), rows(out, 0, 10));
    if (!added) throw std::runtime_error(added.error().line());
    return out;
  }
  std::string text() const { return disk_.read_text(file_).value(); }
  void write(const std::string& text) {
    auto file = disk_.open(file_).value();
    ASSERT_TRUE(file->resize(0));
    ASSERT_TRUE(file->write(0, std::as_bytes(std::span(text.data(), text.size()))));
    ASSERT_TRUE(file->sync());
  }
};

}  // namespace strata::ledger
