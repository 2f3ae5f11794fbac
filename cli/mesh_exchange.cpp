#include "cli/mesh_exchange.h"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/update_codec.h"

namespace strata::cli {
namespace {

double bytes_of_value(std::string_view encoding) {
  switch (protocol::encoding_of(encoding)) {
    case protocol::Encoding::kBF16:
      return 2.0;
    case protocol::Encoding::kInt8:
      return 1.0;
    case protocol::Encoding::kF32:
      break;
  }
  return 4.0;
}

}  // namespace

Shards::Shards(std::span<const coordinator::PlannedUpdate> planned, const model::Model& base,
               std::size_t members) {
  std::map<std::string, std::size_t> sizes;
  for (const auto& client : planned) {
    for (const auto& [name, rank] : client.ranks)
      sizes[name] = base.parameters()[base.find(name)].size();
  }
  std::vector<std::pair<std::string, std::size_t>> largest(sizes.begin(), sizes.end());
  std::stable_sort(largest.begin(), largest.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::size_t> load(members, 0);
  for (const auto& [name, size] : largest) {
    const auto least = std::min_element(load.begin(), load.end());
    owners_[name] = static_cast<std::size_t>(least - load.begin());
    *least += size;
  }
}

std::size_t Shards::owner(std::string_view tensor) const {
  const auto found = owners_.find(tensor);
  return found == owners_.end() ? 0 : found->second;
}

ExchangeBytes exchange_bytes(const Job& job, std::span<const coordinator::PlannedUpdate> planned,
                             const model::Model& base, std::size_t members) {
  struct Change {
    double rank = 0.0;  // of all clients side by side
    bool dense = false;
  };
  std::map<std::string, Change> changes;
  const double value = bytes_of_value(job.aggregation.encoding);
  double updates = 0.0, merged = 0.0;
  for (const auto& client : planned) {
    for (const auto& [name, rank] : client.ranks) {
      const auto& p = base.parameters()[base.find(name)];
      const auto size = static_cast<double>(p.size()),
                 side = static_cast<double>(p.d_out() + p.d_in());
      const auto wide = static_cast<double>(client.terms * rank);
      updates += value * (rank == 0 ? size : wide * (client.seeded ? double(p.d_out()) : side));
      auto& change = changes[name];
      change.dense = change.dense || rank == 0;
      change.rank += wide;
    }
  }
  for (const auto& [name, change] : changes) {
    const auto& p = base.parameters()[base.find(name)];
    const auto size = static_cast<double>(p.size()),
               side = static_cast<double>(p.d_out() + p.d_in());
    const auto most = static_cast<double>(std::min(p.d_out(), p.d_in()));
    const bool whole = change.dense || change.rank > most;  // the product of factors, or values
    merged += 4.0 * (whole ? size : change.rank * side);
  }
  const auto n = static_cast<double>(members);
  const double others = 1.0 - 1.0 / n;
  return {.gather = updates * others, .scatter = updates * others / n + merged * others};
}

bool scatters(const Job& job, std::span<const coordinator::PlannedUpdate> planned,
              const model::Model& base, std::size_t members) {
  const auto& a = job.aggregation;
  if (members < 2 || a.exchange == "gather") return false;
  if (a.exchange == "scatter") return true;
  const auto entry = coordinator::find_aggregator(a.method);
  if (!entry || (*entry)->averages_factors) return false;
  // These look at whole updates, or judge them.
  if (a.diagnostics || job.output.keep_updates || a.max_update_norm > 0.0) return false;
  const auto bytes = exchange_bytes(job, planned, base, members);
  return bytes.scatter < bytes.gather;
}

void keep_own(adapter::Packet& packet, const Shards& shards, std::size_t member) {
  std::erase_if(packet.tensors,
                [&](const auto& entry) { return shards.owner(entry.first) != member; });
}

Result<void> add_part(adapter::Packet& packet, ByteSpan bytes, const Shards& shards,
                      std::size_t member, const adapter::TensorShapes& shapes) {
  const std::string where = fmt::format("what rank {} has merged", member);
  auto part = adapter::Packet::parse(bytes, shapes);
  if (!part) return fail(std::move(part).error(), where);
  for (auto& [name, tensor] : part->tensors) {
    if (shards.owner(name) != member)
      return fail({.code = ErrorCode::kFormat,
                   .what = "holds " + printable(name, 120),
                   .where = where,
                   .rule = fmt::format("rank {} merges it", shards.owner(name)),
                   .remedy = "use one build on all nodes"});
    packet.tensors.insert_or_assign(name, std::move(tensor));
  }
  return {};
}

}  // namespace strata::cli
