// The entry that libFuzzer calls. STRATA_FUZZ_TARGET names the target; one program for each.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "hostile/targets.h"

namespace {

const strata::hostile::Target& chosen() {
  const std::string_view name = STRATA_FUZZ_TARGET;
  if (name == "job") return strata::hostile::job_target();
  for (const auto& target : strata::hostile::targets()) {
    if (target.name == name) return target;
  }
  std::fprintf(stderr, "no target named %s\n", STRATA_FUZZ_TARGET);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto& target = chosen();
  (void)target.feed(std::as_bytes(std::span(data, size)));
  return 0;
}
