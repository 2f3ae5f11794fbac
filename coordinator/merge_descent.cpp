#include "coordinator/merge_descent.h"

#include <algorithm>
#include <cmath>

namespace strata::coordinator {
namespace {

constexpr std::size_t kRows = 64;  // of a change that are written out at a time

struct Products {
  double cross = 0.0;
  double gradient2 = 0.0;
  double change2 = 0.0;

  [[nodiscard]] Descent descent() const {
    Descent out{.gradient_norm = std::sqrt(gradient2),
                .update_norm = std::sqrt(change2),
                .descent = 0.0 - cross};  // no minus zero
    if (gradient2 > 0.0 && change2 > 0.0) out.cosine = -cross / std::sqrt(gradient2 * change2);
    return out;
  }
};

Products products_of(const model::Parameter& parameter, std::span<const float> gradient,
                     const adapter::PacketTensor& change) {
  Products out;
  std::vector<double> rows(kRows * change.d_in);
  for (std::size_t first = 0; first < change.d_out; first += kRows) {
    const std::size_t count = std::min(kRows, change.d_out - first);
    const std::span<double> block(rows.data(), count * change.d_in);
    adapter::packet_rows(change, first, count, block);
    for (std::size_t at = 0; at < block.size(); ++at) {
      const std::size_t i = first + at / change.d_in, j = at % change.d_in;
      const std::size_t stored =
          parameter.transposed() ? j * parameter.cols() + i : i * parameter.cols() + j;
      const double g = double{gradient[stored]};
      out.cross += g * block[at];
      out.gradient2 += g * g;
      out.change2 += block[at] * block[at];
    }
  }
  return out;
}

}  // namespace

std::vector<std::size_t> adapted_tensors(const model::Model& model, const adapter::Packet& packet) {
  std::vector<std::size_t> out;
  for (const auto& [name, tensor] : packet.tensors) {
    if (!std::holds_alternative<adapter::Dense>(tensor.change)) out.push_back(model.find(name));
  }
  return out;
}

MergeDescent merge_descent(const model::Model& model, const adapter::Packet& packet,
                           const MergedLoss& loss, tensor::Team& team) {
  const std::vector<std::size_t> adapted = adapted_tensors(model, packet);
  std::vector<Products> products(adapted.size());
  team.for_tasks(adapted.size(), [&](std::size_t i, int) {
    const auto& parameter = model.parameters()[adapted[i]];
    products[i] = products_of(parameter, loss.gradients.values[adapted[i]],
                              packet.tensors.find(parameter.name())->second);
  });
  MergeDescent out{.records_of = loss.records_of,
                   .records = loss.records,
                   .loss = loss.loss,
                   .whole = {},
                   .tensors = {}};
  Products sum;
  for (std::size_t i = 0; i < adapted.size(); ++i) {
    out.tensors.emplace(model.parameters()[adapted[i]].name(), products[i].descent());
    sum.cross += products[i].cross;
    sum.gradient2 += products[i].gradient2;
    sum.change2 += products[i].change2;
  }
  out.whole = sum.descent();
  return out;
}

}  // namespace strata::coordinator
