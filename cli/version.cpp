#include "cli/version.h"

#include "tensor/gemm.h"

namespace strata::cli {

std::string instruction_set() { return tensor::instruction_set(); }

}  // namespace strata::cli
