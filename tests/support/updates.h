#pragma once
// Client updates made up for tests of aggregation, and the dense weighted mean that aggregates are
// compared with.
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "adapter/delta_terms.h"
#include "adapter/packet.h"
#include "protocol/messages.h"

namespace strata::support {

[[nodiscard]] inline tensor::Matrix random_matrix(std::size_t rows, std::size_t cols,
                                                  unsigned seed) {
  std::mt19937 draw(seed);
  std::normal_distribution<float> normal;
  tensor::Matrix out(rows, cols);
  for (float& value : out.values()) value = normal(draw);
  return out;
}

/// What a client of an adapter trained: (s B, A) of `rank`, drawn from `seed`.
[[nodiscard]] inline adapter::LowRank random_pair(std::size_t d_out, std::size_t d_in,
                                                  std::size_t rank, unsigned seed,
                                                  double scale = 1.0) {
  adapter::LowRank out{.b = random_matrix(d_out, rank, seed),
                       .a = random_matrix(rank, d_in, seed + 1000)};
  for (float& value : out.b.values())
    value = static_cast<float>(scale * static_cast<double>(value));
  return out;
}

[[nodiscard]] inline protocol::Update update_of(const std::string& client, double weight,
                                                const std::string& tensor, std::size_t d_out,
                                                std::size_t d_in,
                                                std::vector<adapter::Term> terms) {
  protocol::Update out{.client = client, .weight = weight};
  out.delta[tensor] = {d_out, d_in, std::move(terms)};
  return out;
}

/// sum_k p_k Delta_k of one tensor in double, p_k over all of `updates`.
[[nodiscard]] inline std::vector<double> dense_mean(const std::vector<protocol::Update>& updates,
                                                    const std::string& tensor) {
  double weights = 0.0;
  for (const auto& update : updates) weights += update.weight;
  std::vector<double> out;
  for (const auto& update : updates) {
    const auto found = update.delta.find(tensor);
    if (found != update.delta.end())
      adapter::add_dense(found->second, update.weight / weights, out);
  }
  return out;
}

[[nodiscard]] inline std::vector<double> dense(const adapter::PacketTensor& change) {
  std::vector<double> out(change.d_out * change.d_in);
  adapter::packet_rows(change, 0, change.d_out, out);
  return out;
}

[[nodiscard]] inline std::vector<double> dense(const adapter::LowRank& pair) {
  std::vector<double> out;
  adapter::add_dense({pair.b.rows(), pair.a.cols(), {pair}}, 1.0, out);
  return out;
}

/// ||x - y||_F / ||y||_F.
[[nodiscard]] inline double relative_distance(const std::vector<double>& x,
                                              const std::vector<double>& y) {
  if (x.size() != y.size()) return INFINITY;
  double part = 0.0, whole = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    part += (x[i] - y[i]) * (x[i] - y[i]);
    whole += y[i] * y[i];
  }
  return std::sqrt(part / whole);
}

}  // namespace strata::support
