#include <algorithm>
#include <vector>

#include "adapter/packet.h"
#include "tensor/team.h"

namespace strata::adapter {
namespace {

constexpr std::size_t kRowTask =
    32;  // rows whose factor stays in cache while panels of the other one pass by

// One side of the product: its value at (index, j) is data[index * step + j * rank_step].
struct Side {
  const float* data;
  std::size_t count;
  std::size_t step;
  std::size_t rank_step;
};

// sum_j left(i, j) right(j, c): a stored matrix of left.count rows. Stored transposed, a product is
// the same sum with the sides exchanged, so both layouts share every bit and vectors always run
// along memory.
struct Product {
  Side left;
  Side right;
  std::size_t rank;
};

Product product_of(const Stack& stack, bool transposed) {
  const Side b{stack.b.data(), stack.b.rows(), stack.b.cols(), 1};
  const Side a{stack.a.data(), stack.a.cols(), 1, stack.a.cols()};
  return transposed ? Product{a, b, stack.a.rows()} : Product{b, a, stack.a.rows()};
}

// out: groups of `width` indices from `first` on, each rank x width doubles, zeros beyond the
// side's end.
void pack(double* out, const Side& side, std::size_t rank, std::size_t first, std::size_t count,
          std::size_t width) {
  for (std::size_t from = first; from < first + count; from += width, out += rank * width) {
    const std::size_t present = std::min({width, first + count - from, side.count - from});
    for (std::size_t j = 0; j < rank; ++j) {
      const float* values = side.data + from * side.step + j * side.rank_step;
      for (std::size_t i = 0; i < present; ++i)
        out[j * width + i] = static_cast<double>(values[i * side.step]);
      std::fill(out + j * width + present, out + (j + 1) * width, 0.0);
    }
  }
}

std::size_t ceil_div(std::size_t n, std::size_t by) { return (n + by - 1) / by; }

// One tile of the product: rows and columns from (row, col) on, and the packed factors of it.
struct Tile {
  std::size_t row, col;
  std::size_t rows, cols;  // that are there
  const double* left;
  const double* right;
};

// Visits rows [first, first + count) of the product in tiles. Each sum is made whole in one tile,
// so no cut of the work changes it.
template <class Visit>
void for_tiles(const Product& product, std::size_t first, std::size_t count,
               const ProductKernel& kernel, tensor::Team& team, MergeRoom& room,
               const Visit& visit) {
  const std::size_t rank = product.rank;
  const std::size_t columns = product.right.count;
  const std::size_t panels = ceil_div(columns, kernel.cols);
  const std::size_t panel_size = rank * kernel.cols;
  std::vector<double>& right = room.right;
  if (right.size() < panels * panel_size) right.resize(panels * panel_size);
  room.left.resize(static_cast<std::size_t>(team.size()));
  team.for_range(panels, 1, [&](std::size_t p0, std::size_t p1, int) {
    const std::size_t from = p0 * kernel.cols;
    pack(right.data() + p0 * panel_size, product.right, rank, from,
         std::min(columns, p1 * kernel.cols) - from, kernel.cols);
  });
  const auto rows_task = [&](std::size_t row0, std::size_t row1, std::vector<double>& left) {
    pack(left.data(), product.left, rank, row0, row1 - row0, kernel.rows);
    for (std::size_t p = 0; p < panels; ++p) {
      const std::size_t col = p * kernel.cols;
      for (std::size_t row = row0; row < row1; row += kernel.rows) {
        visit(Tile{row, col, std::min(kernel.rows, row1 - row),
                   std::min(kernel.cols, columns - col), left.data() + (row - row0) * rank,
                   right.data() + p * panel_size});
      }
    }
  };
  team.for_tasks(ceil_div(count, kRowTask), [&](std::size_t t, int member) {
    std::vector<double>& left = room.left[static_cast<std::size_t>(member)];
    if (left.size() < kRowTask * rank) left.resize(kRowTask * rank);
    rows_task(first + t * kRowTask, first + std::min(count, (t + 1) * kRowTask), left);
  });
}

// W(i, j) <- f32(W(i, j) + values(i, j)), walked in the order W is stored in.
void merge_whole(std::span<float> w, bool transposed, const tensor::Matrix& values,
                 tensor::Team& team) {
  const std::size_t rows = transposed ? values.cols() : values.rows();
  const std::size_t cols = transposed ? values.rows() : values.cols();
  team.for_range(rows, kRowTask, [&](std::size_t first, std::size_t last, int) {
    for (std::size_t i = first; i < last; ++i) {
      for (std::size_t j = 0; j < cols; ++j) {
        float& value = w[i * cols + j];
        value = static_cast<float>(static_cast<double>(value) +
                                   static_cast<double>(transposed ? values(j, i) : values(i, j)));
      }
    }
  });
}

}  // namespace

void merge(std::span<float> w, bool transposed, const PacketTensor& change,
           const ProductKernel& kernel, tensor::Team& team, MergeRoom& room) {
  check(w.size() == change.d_out * change.d_in,
        "merge: the tensor has another size than the change");
  if (const auto* whole = whole_values(change)) return merge_whole(w, transposed, *whole, team);
  const Product product = product_of(std::get<Stack>(change.change), transposed);
  const std::size_t stride = product.right.count;
  for_tiles(product, 0, product.left.count, kernel, team, room, [&](const Tile& tile) {
    float* values = w.data() + tile.row * stride + tile.col;
    if (tile.rows == kernel.rows && tile.cols == kernel.cols) {
      kernel.fold(values, stride, tile.left, tile.right, product.rank);
      return;
    }
    double acc[ProductKernel::kMaxTile] = {};
    for (std::size_t r = 0; r < tile.rows; ++r) {
      for (std::size_t c = 0; c < tile.cols; ++c)
        acc[r * kernel.cols + c] = static_cast<double>(values[r * stride + c]);
    }
    kernel.run(&acc[0], tile.left, tile.right, product.rank);
    for (std::size_t r = 0; r < tile.rows; ++r) {
      for (std::size_t c = 0; c < tile.cols; ++c)
        values[r * stride + c] = static_cast<float>(acc[r * kernel.cols + c]);
    }
  });
}

void merge(std::span<float> w, bool transposed, const PacketTensor& change, tensor::Team* team) {
  tensor::Team alone;
  MergeRoom room;
  merge(w, transposed, change, product_kernels().back(), team != nullptr ? *team : alone, room);
}

void packet_rows(const PacketTensor& change, std::size_t first, std::size_t count,
                 std::span<double> out) {
  check(out.size() == count * change.d_in && first + count <= change.d_out,
        "packet_rows: wrong output size");
  if (const auto* whole = whole_values(change)) {
    const auto values = whole->values().subspan(first * change.d_in, out.size());
    std::copy(values.begin(), values.end(), out.begin());
    return;
  }
  const ProductKernel& kernel = product_kernels().back();
  tensor::Team alone;
  MergeRoom room;
  const Product product = product_of(std::get<Stack>(change.change), false);
  for_tiles(product, first, count, kernel, alone, room, [&](const Tile& tile) {
    double acc[ProductKernel::kMaxTile] = {};
    kernel.run(&acc[0], tile.left, tile.right, product.rank);
    for (std::size_t r = 0; r < tile.rows; ++r) {
      std::copy_n(&acc[r * kernel.cols], tile.cols,
                  out.data() + (tile.row - first + r) * change.d_in + tile.col);
    }
  });
}

}  // namespace strata::adapter
