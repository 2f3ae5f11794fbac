// Loaded before the C library (LD_PRELOAD): a calendar that is STRATA_TEST_DAYS days off. Durations
// are what they are.
#include <dlfcn.h>

#include <cstdlib>
#include <ctime>

namespace {

long days() {
  static const long kDays = [] {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets it
    const char* text = std::getenv("STRATA_TEST_DAYS");
    return text == nullptr ? 0L : std::atol(text);
  }();
  return kDays;
}

}  // namespace

extern "C" {

// The header's parameter names are reserved, and so are not ours: the name is the linker's alone.
int shifted_clock(clockid_t clock, timespec* out) noexcept __asm__("clock_gettime");
int shifted_clock(clockid_t clock, timespec* out) noexcept {
  static const auto kReal =
      reinterpret_cast<int (*)(clockid_t, timespec*)>(::dlsym(RTLD_NEXT, "clock_gettime"));
  const int result = kReal(clock, out);
  if (result == 0 && clock == CLOCK_REALTIME) out->tv_sec += days() * 86400;
  return result;
}

}  // extern "C"
