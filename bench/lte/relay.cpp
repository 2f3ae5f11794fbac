// A line between a worker and its coordinator, for bench/lte/link: relays TCP connections, shaped
// as the tests' relay shapes them. Prints its address, and at the end of its input what went over
// it.
//   strata_relay TARGET BYTES_PER_SECOND DELAY_MS
#include "support/relay.h"

#include <cstdio>
#include <iostream>
#include <string>

int main(int count, char** args) {
  if (count != 4) {
    std::fprintf(stderr, "strata_relay TARGET BYTES_PER_SECOND DELAY_MS\n");
    return 2;
  }
  const strata::support::Shape shape{.bytes_per_s_max = std::stod(args[2]),
                                     .delay_ms = std::stod(args[3])};
  strata::support::Relay relay({.target = args[1], .up = shape, .down = shape});
  std::cout << relay.address() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  const auto counts = relay.counts();
  std::cout << "{\"up\": " << counts.up_bytes << ", \"down\": " << counts.down_bytes << "}"
            << std::endl;
  return 0;
}
