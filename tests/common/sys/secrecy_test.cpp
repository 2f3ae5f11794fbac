#include "sys/secrecy.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace strata::sys {
namespace {

// In a process of its own: there is no way back.
TEST(SecrecyDeathTest, MemoryIsNeitherDumpedNorReadByOthers) {
#ifndef NDEBUG
  GTEST_SKIP() << "debuggers and sanitizers need what it forbids";
#endif
  EXPECT_EXIT(
      {
        shut_memory();
        rlimit cores{};
        getrlimit(RLIMIT_CORE, &cores);
        _exit(prctl(PR_GET_DUMPABLE) == 0 && cores.rlim_cur == 0 && cores.rlim_max == 0 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace strata::sys
