#include "cli/common_start.h"

#include "adapter/seeded_factors.h"
#include "client/trainable.h"

namespace strata::cli {
namespace {

using coordinator::CommonFactors;
using coordinator::CommonTensor;

// Rows of a smaller factor are the first of a larger one: the largest client's are everybody's.
void widen(CommonFactors& common, const std::string& tensor, CommonTensor own) {
  auto& known = common[tensor];
  if (known.d_out == 0 || own.rank() > known.rank()) known = std::move(own);
}

Result<void> add_adapters(CommonFactors& common, const adapter::AdapterConfig& config,
                          std::span<const adapter::LinearShape> linears,
                          const std::map<std::string, adapter::Factors>& initial,
                          std::uint64_t seed, std::uint32_t round) {
  auto set = adapter::AdapterSet::make(config, linears, adapter::shared_stream(seed), round);
  if (!set) return fail(std::move(set).error());
  set->reset(adapter::common_start_stream(seed));
  if (!initial.empty()) {
    if (auto loaded = set->load(initial); !loaded) return loaded;
  }
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const adapter::Adapter* own = set->at(i);
    if (own == nullptr) continue;
    auto product = own->product();
    auto& pair = std::get<adapter::LowRank>(product.terms.front());
    widen(common, linears[i].module + ".weight",
          {.d_out = product.d_out,
           .d_in = product.d_in,
           .b = std::move(pair.b),
           .a = std::move(pair.a),
           .trains_a = own->parts() == 2});
  }
  return {};
}

}  // namespace

coordinator::CommonStart common_start(const model::Model& base,
                                      std::vector<adapter::AdapterConfig> adapters,
                                      std::map<std::string, adapter::Factors> initial,
                                      std::uint64_t seed) {
  CommonFactors whole;  // what full training changes
  for (const auto& parameter : base.parameters())
    whole.emplace(parameter.name(),
                  CommonTensor{.d_out = parameter.d_out(), .d_in = parameter.d_in()});
  return [adapters = std::move(adapters), initial = std::move(initial), seed,
          linears = client::linear_shapes(base),
          whole = std::move(whole)](std::uint32_t round) -> Result<CommonFactors> {
    CommonFactors out;
    for (const auto& config : adapters) {
      if (config.method == "full") return whole;
      const auto none = std::map<std::string, adapter::Factors>{};
      auto added = add_adapters(out, config, linears, round == 1 ? initial : none, seed, round);
      if (!added) return fail(std::move(added).error());
    }
    return out;
  };
}

}  // namespace strata::cli
