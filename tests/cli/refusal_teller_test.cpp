// A flood of calls is told by its number.
#include "cli/refusal_teller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::cli {
namespace {

struct HandClock final : sys::Clock {
  double seconds() const override { return now; }
  std::string utc() const override { return "2026-01-01T00:00:00Z"; }
  double now = 1000.0;
};

struct Reasons final : observe::Observer {
  void on(const observe::Event& event) override {
    all.push_back(std::get<std::string>(event.fields.at(0).second));
  }
  std::vector<std::string> all;
};

TEST(RefusalTeller, TellsTheFirstOfAMinuteAndThenHowMany) {
  HandClock clock;
  Reasons reasons;
  RefusalTeller teller(reasons, clock);
  const auto call = [&] { teller.tell({.code = ErrorCode::kAuth, .what = "has no certificate"}); };
  for (int i = 0; i < RefusalTeller::kTold + 300; ++i) call();
  EXPECT_EQ(reasons.all.size(), std::size_t{RefusalTeller::kTold});
  clock.now += 61.0;
  call();
  ASSERT_EQ(reasons.all.size(), std::size_t{RefusalTeller::kTold} + 2);
  EXPECT_EQ(reasons.all[RefusalTeller::kTold], "300 more calls since then");
  EXPECT_EQ(reasons.all.back(), "has no certificate");
}

TEST(RefusalTeller, TellsTheRestAtItsEnd) {
  HandClock clock;
  Reasons reasons;
  {
    RefusalTeller teller(reasons, clock);
    for (int i = 0; i < RefusalTeller::kTold + 7; ++i)
      teller.tell({.code = ErrorCode::kAuth, .what = "has no certificate"});
  }
  ASSERT_EQ(reasons.all.size(), std::size_t{RefusalTeller::kTold} + 1);
  EXPECT_EQ(reasons.all.back(), "7 more calls since then");
}

}  // namespace
}  // namespace strata::cli
