#pragma once
// How fast this machine trains a model on a fixed shape, beside the matrix-product peak the same
// process measures first.
#include <cstddef>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "base/result.h"
#include "model/model.h"
#include "sys/clock.h"
#include "sys/profile.h"
#include "tensor/team.h"

namespace strata::cli {

struct BenchTrainOptions {
  std::size_t records = 4;
  std::size_t length = 256;
  adapter::AdapterConfig adapter;
  int threads = 1;
  int steps = 5;  // timed, after one that warms up
  bool recompute = false;
  bool profile = false;  // record where the time of the timed steps goes
};

struct BenchTrainReport {
  double tokens_per_second = 0.0;  // median over steps
  double step_seconds = 0.0;       // median
  double gemm_peak_gflops = 0.0;
  double flops_per_step = 0.0;  // that the mathematics needs; see needed_flops
  double flop_utilization = 0.0;
  std::size_t peak_rss_bytes = 0;
  std::size_t trainable = 0;
  double first_loss = 0.0;
  double last_loss = 0.0;
  std::vector<sys::Profile::Row> profile;
  double profiled_seconds = 0.0;  // of the timed steps, times the threads
  std::string trace;              // for a trace viewer; empty unless profiled
};

/// Best of several large products, one on every thread at a time, 2 M N K / time, in GFLOP/s.
[[nodiscard]] double gemm_peak_gflops(tensor::DType dtype, const sys::Clock& clock,
                                      tensor::Team& team);

/// Floating-point operations one training step needs: frozen layers forward and input gradients
/// (none below the lowest adapter's input), adapters 3 x their forward, the head at trained
/// positions forward and backward, causal attention 3 x its forward. Recomputation is not counted.
[[nodiscard]] double needed_flops(const model::Model& model, const adapter::AdapterSet& adapters,
                                  std::size_t records, std::size_t length, std::size_t trained);

/// Trains on drawn token ids (every position but the first of a record is trained).
[[nodiscard]] Result<BenchTrainReport> bench_train(const model::Model& model,
                                                   const BenchTrainOptions& options,
                                                   const sys::Clock& clock);

}  // namespace strata::cli
