#include "sys/clock.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

namespace strata::sys {
namespace {

TEST(PosixClock, SecondsMeasureDurationsAndNeverGoBack) {
  const auto clock = make_posix_clock();
  const double start = clock->seconds();
  double last = start;
  for (int i = 0; i < 1000; ++i) {
    const double now = clock->seconds();
    EXPECT_GE(now, last);
    last = now;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GE(clock->seconds() - start, 0.020);
}

TEST(PosixClock, UtcIsTheWallTimeWithoutAnOffset) {
  const auto clock = make_posix_clock();
  // Not std::time(): it may lag by a tick, and with that by a second, behind other clocks.
  const auto now = [] {
    return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  };
  const std::time_t before = now();
  const std::string text = clock->utc();
  const std::time_t after = now();
  std::tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  ASSERT_NE(rest, nullptr) << text;
  EXPECT_STREQ(rest, "");
  EXPECT_GE(timegm(&parts), before);
  EXPECT_LE(timegm(&parts), after);
}

TEST(PosixClock, UtcDoesNotDependOnTheLocalTimeZone) {
  // NOLINTBEGIN(concurrency-mt-unsafe): no other thread runs
  const char* set = std::getenv("TZ");
  const std::string zone = set == nullptr ? "" : set;
  setenv("TZ", "XXX-11:30", 1);
  tzset();
  const std::string text = make_posix_clock()->utc();
  const std::time_t now = std::time(nullptr);
  if (set == nullptr) {
    unsetenv("TZ");
  } else {
    setenv("TZ", zone.c_str(), 1);
  }
  // NOLINTEND(concurrency-mt-unsafe)
  tzset();
  std::tm parts{};
  ASSERT_NE(strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts), nullptr) << text;
  EXPECT_NEAR(std::difftime(now, timegm(&parts)), 0.0, 5.0);
}

TEST(PeakMemory, GrowsWithWhatIsTouchedAndStaysWhenItIsFreed) {
  constexpr std::size_t kBytes = 64u << 20;
  const std::size_t before = peak_memory_bytes();
  std::size_t during = 0;
  {
    const std::vector<char> touched(kBytes, 'x');
    during = peak_memory_bytes();
    EXPECT_EQ(touched.back(), 'x');
  }
  EXPECT_GE(during, kBytes);
  EXPECT_GE(during, before);
  EXPECT_GE(peak_memory_bytes(), during);
}

}  // namespace
}  // namespace strata::sys
