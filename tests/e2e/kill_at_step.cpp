// Loaded before the C library (LD_PRELOAD): ends the process, as kill -9 does, at one of the calls
// by which it makes something durable. STRATA_TEST_KILL_AT=2n-1: before the n-th; 2n: after it.
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace {

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): all calls count together
std::atomic<long> steps{0};

long chosen() {
  static const long kAt = [] {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets it
    const char* text = std::getenv("STRATA_TEST_KILL_AT");
    return text == nullptr ? 0L : std::atol(text);
  }();
  return kAt;
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

int fsync(int fd) { return around("fsync", &::fsync, fd); }
int fdatasync(int fildes) { return around("fdatasync", &::fdatasync, fildes); }
int ftruncate(int fd, off_t length) noexcept {
  return around("ftruncate", static_cast<int (*)(int, off_t)>(nullptr), fd, length);
}
// The header's parameter is __new, and a keyword cannot be one here: the name is the linker's
// alone.
int rename_file(const char* from, const char* to) noexcept __asm__("rename");
int rename_file(const char* from, const char* to) noexcept {
  return around("rename", static_cast<int (*)(const char*, const char*)>(nullptr), from, to);
}
int unlink(const char* name) noexcept {
  return around("unlink", static_cast<int (*)(const char*)>(nullptr), name);
}

}  // extern "C"
