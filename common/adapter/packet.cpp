#include "adapter/packet.h"

#include <algorithm>
#include <cstring>

#include "base/simd.h"
#include "tensor/parallel.h"

namespace strata::adapter {
namespace {

constexpr std::size_t kRows = 4;     // rows of W in registers
constexpr std::size_t kCols = 16;    // columns of W in registers: vectors run over columns, never over the sum
constexpr std::size_t kRowTask = 64;

template <class Number>
void add_number(Hasher& hasher, Number value) {
  hasher.add(std::as_bytes(std::span(&value, 1)));
}

void add_matrix(Hasher& hasher, const tensor::Matrix& m) { hasher.add(std::as_bytes(m.values())); }

// acc[r][c] += sum_j b[r * r_stride + j] * a[j * kCols + c], j from 0 to n.
STRATA_SIMD void block(double* acc, const double* b, const double* a, std::size_t n) {
  double sums[kRows][kCols];
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t c = 0; c < kCols; ++c) sums[r][c] = acc[r * kCols + c];
  }
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t r = 0; r < kRows; ++r) {
      const double factor = b[r * n + j];
      for (std::size_t c = 0; c < kCols; ++c) sums[r][c] += factor * a[j * kCols + c];
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t c = 0; c < kCols; ++c) acc[r * kCols + c] = sums[r][c];
  }
}

// Visits all of `stack`'s product in blocks: load(i, j, rows, cols, acc) fills the start values, store(...) takes the result.
template <class Load, class Store>
void for_blocks(const Stack& stack, std::size_t first_row, std::size_t row_count, const Load& load, const Store& store) {
  const std::size_t rank = stack.a.rows();
  const std::size_t d_in = stack.a.cols();
  const std::size_t panels = (d_in + kCols - 1) / kCols;
  // A as panels of kCols columns in double, zero-filled at the edge: made once, read by every row.
  std::vector<double> a(panels * rank * kCols, 0.0);
  tensor::parallel_for(panels, 1, [&](std::size_t p0, std::size_t p1) {
    for (std::size_t p = p0; p < p1; ++p) {
      const std::size_t cols = std::min(kCols, d_in - p * kCols);
      for (std::size_t j = 0; j < rank; ++j) {
        for (std::size_t c = 0; c < cols; ++c) a[(p * rank + j) * kCols + c] = stack.a(j, p * kCols + c);
      }
    }
  });
  const std::size_t groups = (row_count + kRows - 1) / kRows;
  tensor::parallel_for(groups, kRowTask / kRows, [&](std::size_t g0, std::size_t g1) {
    std::vector<double> b(kRows * rank);
    double acc[kRows * kCols];
    for (std::size_t g = g0; g < g1; ++g) {
      const std::size_t row = first_row + g * kRows;
      const std::size_t rows = std::min(kRows, first_row + row_count - row);
      std::fill(b.begin(), b.end(), 0.0);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t j = 0; j < rank; ++j) b[r * rank + j] = stack.b(row + r, j);
      }
      for (std::size_t p = 0; p < panels; ++p) {
        const std::size_t cols = std::min(kCols, d_in - p * kCols);
        std::fill(std::begin(acc), std::end(acc), 0.0);
        load(row, p * kCols, rows, cols, &acc[0]);
        block(&acc[0], b.data(), a.data() + p * rank * kCols, rank);
        store(row, p * kCols, rows, cols, &acc[0]);
      }
    }
  });
}

}  // namespace

std::size_t Packet::byte_count() const {
  std::size_t n = 0;
  for (const auto& [name, tensor] : tensors) {
    n += 4 + name.size() + 1 + 16;
    if (const auto* stack = std::get_if<Stack>(&tensor.change)) {
      n += 8 + 4 * (stack->a.size() + stack->b.size());
    } else {
      n += 4 * std::get<Dense>(tensor.change).values.size();
    }
  }
  return n;
}

std::size_t Packet::max_rank() const {
  std::size_t rank = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto* stack = std::get_if<Stack>(&tensor.change);
    rank = std::max(rank, stack != nullptr ? stack->a.rows() : std::min(tensor.d_out, tensor.d_in));
  }
  return rank;
}

Sha256 Packet::hash() const {
  Hasher hasher;
  for (const auto& [name, tensor] : tensors) {
    add_number(hasher, static_cast<std::uint32_t>(name.size()));
    hasher.add(name);
    const auto* stack = std::get_if<Stack>(&tensor.change);
    add_number(hasher, static_cast<std::uint8_t>(stack != nullptr ? 0 : 1));
    add_number(hasher, static_cast<std::uint64_t>(tensor.d_out));
    add_number(hasher, static_cast<std::uint64_t>(tensor.d_in));
    if (stack != nullptr) {
      add_number(hasher, static_cast<std::uint64_t>(stack->a.rows()));
      add_matrix(hasher, stack->b);
      add_matrix(hasher, stack->a);
    } else {
      add_matrix(hasher, std::get<Dense>(tensor.change).values);
    }
  }
  return hasher.finish();
}

DeltaTerms Packet::terms() const {
  DeltaTerms out;
  for (const auto& [name, tensor] : tensors) {
    TensorDelta delta{tensor.d_out, tensor.d_in, {}};
    if (const auto* stack = std::get_if<Stack>(&tensor.change)) {
      delta.terms.emplace_back(LowRank{.b = stack->b, .a = stack->a});
    } else {
      delta.terms.emplace_back(std::get<Dense>(tensor.change));
    }
    out.emplace(name, std::move(delta));
  }
  return out;
}

Sha256 chain_hash(const Sha256& previous, std::uint64_t round, const Sha256& packet) {
  Hasher hasher;
  hasher.add(previous);
  add_number(hasher, round);
  hasher.add(packet);
  return hasher.finish();
}

void merge(std::span<float> w, bool transposed, const PacketTensor& change) {
  check(w.size() == change.d_out * change.d_in, "merge: the tensor has another size than the change");
  const std::size_t row_step = transposed ? 1 : change.d_in;
  const std::size_t col_step = transposed ? change.d_out : 1;
  if (const auto* dense = std::get_if<Dense>(&change.change)) {
    tensor::parallel_for(change.d_out, kRowTask, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) {
        for (std::size_t j = 0; j < change.d_in; ++j) {
          float& value = w[i * row_step + j * col_step];
          value = static_cast<float>(static_cast<double>(value) + static_cast<double>(dense->values(i, j)));
        }
      }
    });
    return;
  }
  const auto visit = [&](std::size_t i, std::size_t j, std::size_t rows, std::size_t cols, const auto& each) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) each(r * kCols + c, w[(i + r) * row_step + (j + c) * col_step]);
    }
  };
  for_blocks(
      std::get<Stack>(change.change), 0, change.d_out,
      [&](std::size_t i, std::size_t j, std::size_t rows, std::size_t cols, double* acc) {
        visit(i, j, rows, cols, [&](std::size_t at, float& value) { acc[at] = static_cast<double>(value); });
      },
      [&](std::size_t i, std::size_t j, std::size_t rows, std::size_t cols, const double* acc) {
        visit(i, j, rows, cols, [&](std::size_t at, float& value) { value = static_cast<float>(acc[at]); });
      });
}

void packet_rows(const PacketTensor& change, std::size_t first, std::size_t count, std::span<double> out) {
  check(out.size() == count * change.d_in && first + count <= change.d_out, "packet_rows: wrong output size");
  if (const auto* dense = std::get_if<Dense>(&change.change)) {
    const auto values = dense->values.values().subspan(first * change.d_in, out.size());
    std::copy(values.begin(), values.end(), out.begin());
    return;
  }
  for_blocks(
      std::get<Stack>(change.change), first, count, [](auto...) {},
      [&](std::size_t i, std::size_t j, std::size_t rows, std::size_t cols, const double* acc) {
        for (std::size_t r = 0; r < rows; ++r) {
          std::copy_n(acc + r * kCols, cols, out.data() + (i - first + r) * change.d_in + j);
        }
      });
}

}  // namespace strata::adapter
