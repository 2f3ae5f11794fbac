#pragma once
// The job's section network as the limits of each transport.
#include "cli/job.h"
#include "transport/mpi.h"
#include "transport/tls.h"

namespace strata::cli {

[[nodiscard]] transport::TlsLimits tls_limits(const NetworkSection& network);
[[nodiscard]] transport::MpiOptions mpi_options(const NetworkSection& network);

}  // namespace strata::cli
