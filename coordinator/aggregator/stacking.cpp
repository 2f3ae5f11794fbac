// FLoRA: exact aggregation by stacking (Wang et al. 2024, arXiv 2409.05976). The weight p_k goes
// into A, once, in float; the client has folded its scale into B. Clients that share rows of one A
// (frozen or seeded, same id) are summed in B: their rank together is that of the largest.
#include "coordinator/aggregator/stacking.h"

#include <algorithm>
#include <vector>

#include "coordinator/aggregator/for_each_tensor.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using adapter::Stack;
using tensor::Matrix;

// A run of rank-one terms of the stack: B's columns as sums in double until stored, A's rows
// already weighted.
struct Block {
  std::uint64_t id_a = 0;
  const LowRank* widest = nullptr;  // whose A it has: of the largest rank, of those the first
  double weight = 0.0;              // of `widest`, when the block is one client's own
  std::vector<double> summed_b;     // of a shared factor: sum_k p_k B_k
};

// Whether the smaller of two factors is the first rows of the larger.
bool nested(const Matrix& x, const Matrix& y) {
  const std::size_t shared = std::min(x.size(), y.size());
  return x.cols() == y.cols() && std::equal(x.data(), x.data() + shared, y.data());
}

// The same sums in rows of `to` columns instead of `from`.
std::vector<double> widened(const std::vector<double>& sums, std::size_t from, std::size_t to) {
  std::vector<double> out(sums.size() / from * to, 0.0);
  for (std::size_t i = 0; i < sums.size(); ++i) out[i / from * to + i % from] = sums[i];
  return out;
}

void add_block(std::vector<Block>& blocks, const LowRank& term, double weight) {
  if (term.id_a != 0) {
    auto block = std::find_if(blocks.begin(), blocks.end(),
                              [&](const Block& b) { return b.id_a == term.id_a; });
    if (block == blocks.end()) {
      blocks.push_back({.id_a = term.id_a,
                        .widest = &term,
                        .weight = 1.0,
                        .summed_b = std::vector<double>(term.b.size(), 0.0)});
      block = std::prev(blocks.end());
    }
    // The id promises rows of one factor; a client that breaks the promise keeps a block of its own
    // instead of corrupting the sum.
    if (nested(block->widest->a, term.a)) {
      const std::size_t own = term.b.cols();
      if (own > block->widest->b.cols()) {
        block->summed_b = widened(block->summed_b, block->widest->b.cols(), own);
        block->widest = &term;
      }
      const std::size_t rank = block->widest->b.cols();
      for (std::size_t i = 0; i < term.b.rows(); ++i) {
        const float* values = term.b.data() + i * own;
        double* sums = block->summed_b.data() + i * rank;
        for (std::size_t j = 0; j < own; ++j) sums[j] += weight * static_cast<double>(values[j]);
      }
      return;
    }
  }
  blocks.push_back({.id_a = 0, .widest = &term, .weight = weight, .summed_b = {}});
}

Stack build(const std::vector<Block>& blocks, std::size_t d_out, std::size_t d_in) {
  std::size_t rank = 0;
  for (const Block& block : blocks) rank += block.widest->a.rows();
  Stack out{Matrix(d_out, rank), Matrix(rank, d_in)};
  std::size_t at = 0;
  for (const Block& block : blocks) {
    const std::size_t r = block.widest->a.rows();
    const bool shared = !block.summed_b.empty();
    for (std::size_t i = 0; i < d_out; ++i) {
      for (std::size_t j = 0; j < r; ++j) {
        out.b(i, at + j) =
            shared ? static_cast<float>(block.summed_b[i * r + j]) : block.widest->b(i, j);
      }
    }
    for (std::size_t j = 0; j < r; ++j) {
      for (std::size_t i = 0; i < d_in; ++i) {
        out.a(at + j, i) =
            static_cast<float>(block.weight * static_cast<double>(block.widest->a(j, i)));
      }
    }
    at += r;
  }
  return out;
}

Weights of_those_that_came(Weights weights) {
  double sum = 0.0;
  for (const auto& [client, weight] : weights) sum += weight;
  for (auto& [client, weight] : weights) weight /= sum;
  return weights;
}

class Stacking final : public Aggregator {
 public:
  explicit Stacking(Weights planned) : planned_(std::move(planned)) {}
  Result<void> accumulate(SharedUpdate update) override { return set_.add(std::move(update)); }
  std::size_t accepted() const override { return set_.updates().size(); }

  Result<Aggregate> report(tensor::Team* team) && override {
    if (set_.empty()) {
      return fail({.code = ErrorCode::kQuorum,
                   .what = "no client's update could be used",
                   .rule = "a round needs at least one"});
    }
    Aggregate out;
    out.weights = set_.normalised_weights(planned_);
    if (!planned_.empty()) out.dense_weights = of_those_that_came(out.weights);
    auto tensors = for_each_tensor(set_, team, [&](const TensorChanges& changes) {
      const bool dense = !out.dense_weights.empty() && changes.all_dense();
      return condense(stack_tensor(changes, dense ? out.dense_weights : out.weights));
    });
    if (!tensors) return fail(std::move(tensors).error());
    for (auto& [name, tensor] : *tensors) {
      const auto* stack = std::get_if<Stack>(&tensor.change);
      if (stack == nullptr || !stack->a.empty())
        out.packet.tensors.emplace(name, std::move(tensor));
    }
    return out;
  }

 private:
  Weights planned_;
  UpdateSet set_;
};

}  // namespace

adapter::PacketTensor stack_tensor(const TensorChanges& changes,
                                   const std::map<std::string, double>& weights) {
  const std::size_t d_out = changes.d_out, d_in = changes.d_in;
  std::vector<Block> blocks;
  std::vector<double> dense;  // sum of dense terms, when there is one
  for (const auto& [client, delta] : changes.clients) {
    const double weight = weights.at(client);
    for (const auto& term : delta->terms) {
      if (const auto* low_rank = std::get_if<LowRank>(&term)) {
        add_block(blocks, *low_rank, weight);
      } else {
        dense.resize(d_out * d_in, 0.0);
        const auto values = std::get<Dense>(term).values.values();
        for (std::size_t i = 0; i < values.size(); ++i)
          dense[i] += weight * static_cast<double>(values[i]);
      }
    }
  }
  if (dense.empty()) return {d_out, d_in, build(blocks, d_out, d_in)};
  // Full-parameter and adapter clients together: one dense change.
  if (!blocks.empty()) {
    std::vector<double> stacked(d_out * d_in);
    adapter::packet_rows({d_out, d_in, build(blocks, d_out, d_in)}, 0, d_out, stacked);
    for (std::size_t i = 0; i < dense.size(); ++i) dense[i] += stacked[i];
  }
  Matrix values(d_out, d_in);
  std::transform(dense.begin(), dense.end(), values.data(),
                 [](double v) { return static_cast<float>(v); });
  return {d_out, d_in, Dense{std::move(values)}};
}

adapter::PacketTensor condense(adapter::PacketTensor tensor) {
  const auto* stack = std::get_if<Stack>(&tensor.change);
  const std::size_t d_out = tensor.d_out, d_in = tensor.d_in;
  if (stack == nullptr || stack->a.rows() <= std::min(d_out, d_in)) return tensor;
  Matrix product(d_out, d_in);
  constexpr std::size_t kRows = 64;
  std::vector<double> rows(kRows * d_in);
  for (std::size_t first = 0; first < d_out; first += kRows) {
    const std::size_t count = std::min(kRows, d_out - first);
    adapter::packet_rows(tensor, first, count, std::span(rows).first(count * d_in));
    std::transform(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count * d_in),
                   product.data() + first * d_in, [](double v) { return static_cast<float>(v); });
  }
  return {d_out, d_in, adapter::StackProduct{std::move(product)}};
}

std::unique_ptr<Aggregator> make_stacking(const Weights& planned) {
  return std::make_unique<Stacking>(planned);
}

}  // namespace strata::coordinator
