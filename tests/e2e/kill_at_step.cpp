// Loaded before the C library (LD_PRELOAD): ends the process, as kill -9 does, at one of the calls
// by which it makes something durable. STRATA_TEST_KILL_AT=2n-1: before the n-th; 2n: after it.
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<long> steps{0};

long chosen() {
  static const long at = [] {
    const char* text = std::getenv("STRATA_TEST_KILL_AT");
    return text == nullptr ? 0L : std::atol(text);
  }();
  return at;
}

void step() {
  if (++steps == chosen()) ::kill(::getpid(), SIGKILL);
}

template <class Function, class... Arguments>
int around(const char* name, Function* /*type*/, Arguments... arguments) {
  const auto real = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
  step();
  const int result = real(arguments...);
  step();
  return result;
}

}  // namespace

extern "C" {

int fsync(int file) { return around("fsync", &::fsync, file); }
int fdatasync(int file) { return around("fdatasync", &::fdatasync, file); }
int ftruncate(int file, off_t size) noexcept {
  return around("ftruncate", static_cast<int (*)(int, off_t)>(nullptr), file, size);
}
int rename(const char* from, const char* to) noexcept {
  return around("rename", static_cast<int (*)(const char*, const char*)>(nullptr), from, to);
}
int unlink(const char* path) noexcept {
  return around("unlink", static_cast<int (*)(const char*)>(nullptr), path);
}

}  // extern "C"
