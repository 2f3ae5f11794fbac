#include "cli/network_limits.h"

#include <algorithm>

namespace strata::cli {
namespace {

// A third of the silence, so that two words may be lost; no seldomer than by default.
double heartbeat(const NetworkSection& network, double by_default) {
  return std::min(by_default, network.silence / 3);
}

}  // namespace

transport::TlsLimits tls_limits(const NetworkSection& network) {
  transport::TlsLimits out;
  out.connect_s = network.connect;
  out.handshake_s = out.first_frame_s = network.handshake;
  out.heartbeat_s = heartbeat(network, out.heartbeat_s);
  out.dead_s = network.silence;
  out.reload_s = network.reload;
  return out;
}

transport::MpiOptions mpi_options(const NetworkSection& network) {
  transport::MpiOptions out;
  out.heartbeat_s = heartbeat(network, out.heartbeat_s);
  out.dead_s = network.silence;
  return out;
}

}  // namespace strata::cli
