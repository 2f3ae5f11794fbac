#pragma once
// How fast this machine trains a model on a fixed shape, beside the matrix-product peak the same
// process measures first.
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "base/result.h"
#include "model/model.h"
#include "sys/clock.h"
#include "sys/profile.h"
#include "tensor/team.h"
#include "text/example.h"

namespace strata::cli {

struct BenchTrainOptions {
  std::size_t records = 4;  // a step
  std::size_t length = 256;
  std::vector<text::Example> examples;  // in order, over and over; empty: drawn ids of `length`
  adapter::AdapterConfig adapter;
  std::map<std::string, adapter::Factors> initial;  // by module; empty: fresh factors
  int threads = 1;
  int steps = 5;   // timed
  int warmup = 1;  // before them
  double learning_rate = 1e-4;
  double record_max_norm = 0.0;   // clip each record's own gradient; 0: plain training
  double noise_multiplier = 0.0;  // above 0: private steps, clipped to record_max_norm and noised
  std::size_t pass_tokens = 0;    // 0: as training does
  bool recompute = false;
  bool profile = false;  // record where the time of the timed steps goes
};

struct BenchTrainReport {
  double tokens_per_second = 0.0;  // of records, whole timed steps
  double step_seconds = 0.0;       // median
  double start_seconds = 0.0;      // from the call to the end of the first step's preparation
  double gemm_peak_gflops = 0.0;
  double flops_per_step = 0.0;  // mean of what the mathematics needs; see needed_flops
  double flop_utilization = 0.0;
  std::size_t peak_rss_bytes = 0;
  std::size_t trainable = 0;
  std::vector<double> losses;  // of every step, warm-up included; none of private steps
  std::vector<sys::Profile::Row> profile;
  double profiled_seconds = 0.0;  // of the timed steps, times the threads
  std::string trace;              // for a trace viewer; empty unless profiled
  adapter::DeltaTerms initial;    // the adapters before the first step
};

/// Best of several large products, one on every thread at a time, 2 M N K / time, in GFLOP/s.
[[nodiscard]] double gemm_peak_gflops(tensor::DType dtype, const sys::Clock& clock,
                                      tensor::Team& team);

/// Floating-point operations one training step on `records` needs: frozen layers forward and input
/// gradients (none below the lowest adapter's input), adapters 3 x their forward, the head at
/// trained positions forward and backward, causal attention 3 x its forward. Recomputation is not
/// counted.
[[nodiscard]] double needed_flops(const model::Model& model, const adapter::AdapterSet& adapters,
                                  std::span<const text::Example> records);

/// Trains on the given examples, or on drawn token ids (every position but the first of a record is
/// trained).
[[nodiscard]] Result<BenchTrainReport> bench_train(const model::Model& model,
                                                   const BenchTrainOptions& options,
                                                   const sys::Clock& clock);

}  // namespace strata::cli
