#include <sys/prctl.h>
#include <sys/resource.h>

#include "sys/secrecy.h"

namespace strata::sys {

void shut_memory() {
#ifdef NDEBUG
  // Neither can fail for a process that asks for less than it has.
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0);
#endif
}

}  // namespace strata::sys
