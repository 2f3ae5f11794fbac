#include "adapter/adapter_set.h"

#include <algorithm>
#include <regex>
#include <set>

#include "adapter/low_rank_adapter.h"
#include "adapter/multi_head.h"
#include "config/section.h"

namespace strata::adapter {
namespace {

std::string last_part(const std::string& module) { return module.substr(module.rfind('.') + 1); }

Error unmatched(const std::string& pattern, std::string_view key,
                std::span<const LinearShape> linears) {
  std::set<std::string> unique;
  for (const auto& linear : linears) unique.insert(last_part(linear.module));
  const std::vector<std::string> names(unique.begin(), unique.end());
  std::string rule = "layers of this model:";
  for (const auto& name : names) rule += " " + name;
  Error error{.code = ErrorCode::kConfig,
              .what = "\"" + printable(pattern, 80) + "\" matches no linear layer",
              .where = std::string(key),
              .rule = rule};
  if (const auto near = config::nearest(pattern, names))
    error.remedy = "did you mean \"" + *near + "\"?";
  return error;
}

template <class T>
using Patterns = std::vector<std::pair<std::string, T>>;

// The value of the first pattern that names the module (PEFT takes the first match too); `fallback`
// otherwise.
template <class T>
Result<T> pattern_value(const Patterns<T>& patterns, const std::string& module, T fallback) {
  for (const auto& [pattern, value] : patterns) {
    auto matches = names_module(pattern, module);
    if (!matches) return fail(std::move(matches).error());
    if (*matches) return value;
  }
  return fallback;
}

template <class T>
Result<void> all_used(const Patterns<T>& patterns, std::string_view key,
                      std::span<const LinearShape> linears) {
  for (const auto& [pattern, value] : patterns) {
    bool used = false;
    for (const auto& linear : linears) {
      auto matches = names_module(pattern, linear.module);
      if (!matches) return fail(std::move(matches).error());
      used = used || *matches;
    }
    if (!used) return fail(unmatched(pattern, key, linears));
  }
  return {};
}

// Which linears are targeted; every target must hit something.
Result<std::vector<bool>> targeted(const AdapterConfig& config,
                                   std::span<const LinearShape> linears) {
  std::vector<bool> out(linears.size(), false);
  for (const auto& target : config.targets) {
    bool hit = false;
    for (std::size_t i = 0; i < linears.size(); ++i) {
      auto matches =
          target == "all-linear" ? Result<bool>(true) : names_module(target, linears[i].module);
      if (!matches) return fail(std::move(matches).error());
      if (*matches) hit = out[i] = true;
    }
    if (!hit) return fail(unmatched(target, "adapter.targets", linears));
  }
  if (config.targets.empty()) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is empty",
                 .where = "adapter.targets",
                 .rule = "name at least one layer",
                 .remedy = "use [\"all-linear\"]"});
  }
  return out;
}

}  // namespace

Result<bool> names_module(std::string_view pattern, std::string_view module) {
  if (module == pattern || (module.size() > pattern.size() && module.ends_with(pattern) &&
                            module[module.size() - pattern.size() - 1] == '.')) {
    return true;
  }
  const bool plain = std::all_of(pattern.begin(), pattern.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
  });
  if (plain) return false;
  try {
    const std::regex expression("(?:.*\\.)?(?:" + std::string(pattern) + ")");
    return std::regex_match(module.begin(), module.end(), expression);
  } catch (const std::regex_error&) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "\"" + printable(pattern, 80) + "\" is not a regular expression",
                 .where = "adapter",
                 .rule = "patterns are layer names, dotted suffixes or ECMAScript expressions"});
  }
}

Result<AdapterSet> AdapterSet::make(const AdapterConfig& config,
                                    std::span<const LinearShape> linears, const sys::Stream& shared,
                                    std::uint32_t round) {
  auto method = find_method(config.method);
  if (!method) return fail(std::move(method).error());
  if (config.heads < 1 || (config.heads > 1 && !(*method)->own_factors)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is " + std::to_string(config.heads),
                 .where = "adapter.heads",
                 .rule = config.heads < 1 ? "there is at least one"
                                          : "method \"" + config.method +
                                                "\" has one A for all, heads have their own",
                 .remedy = "use method \"lte\" or \"lora\""});
  }
  auto chosen = targeted(config, linears);
  if (!chosen) return fail(std::move(chosen).error());
  if (auto used = all_used(config.rank_pattern, "adapter.rank_pattern", linears); !used)
    return fail(std::move(used).error());
  if (auto used = all_used(config.alpha_pattern, "adapter.alpha_pattern", linears); !used)
    return fail(std::move(used).error());

  AdapterSet set;
  set.sites_.resize(linears.size());
  set.offsets_.resize(linears.size());
  for (std::size_t i = 0; i < linears.size(); ++i) {
    set.offsets_[i] = set.trainable_;
    if (!(*chosen)[i]) continue;
    const LinearShape& linear = linears[i];
    auto rank = pattern_value(config.rank_pattern, linear.module, config.rank);
    if (!rank) return fail(std::move(rank).error());
    auto alpha = pattern_value(config.alpha_pattern, linear.module, config.alpha);
    if (!alpha) return fail(std::move(alpha).error());
    const auto side = static_cast<std::int64_t>(std::min(linear.d_out, linear.d_in));
    if (*rank < 1 || *rank > side) {
      return fail(
          {.code = ErrorCode::kConfig,
           .what = "rank " + std::to_string(*rank) + " does not fit " + linear.module + " (" +
                   std::to_string(linear.d_out) + " x " + std::to_string(linear.d_in) + ")",
           .where = "adapter.rank",
           .rule = "a rank is between 1 and the layer's smaller side, " + std::to_string(side),
           .remedy = "lower it, or set rank_pattern for this layer"});
    }
    const AdapterSpec spec{.rank = static_cast<std::size_t>(*rank),
                           .alpha = *alpha,
                           .dropout = config.dropout,
                           .lr_ratio_b = config.lr_ratio_b,
                           .freeze_a = config.freeze_a,
                           .shared = shared,
                           .round = round,
                           .share = 1.0 / static_cast<double>(config.heads)};
    if (config.heads == 1) {
      set.sites_[i] = (*method)->make(linear, spec);
    } else {
      std::vector<std::unique_ptr<Adapter>> heads;
      for (std::int64_t h = 0; h < config.heads; ++h)
        heads.push_back((*method)->make(linear, spec));
      set.sites_[i] = make_multi_head(std::move(heads));
    }
    for (const auto& param : set.sites_[i]->params()) set.trainable_ += param.value.size();
  }
  return set;
}

Result<AdapterSet> AdapterSet::from_factors(std::span<const LinearShape> linears,
                                            const std::map<std::string, Factors>& factors) {
  AdapterSet set;
  set.sites_.resize(linears.size());
  set.offsets_.resize(linears.size());
  std::size_t used = 0;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    set.offsets_[i] = set.trainable_;
    const auto found = factors.find(linears[i].module);
    if (found == factors.end()) continue;
    set.sites_[i] = make_low_rank(linears[i], found->second.a.rows(), {.scale = 1.0});
    if (auto loaded = set.sites_[i]->load(found->second); !loaded)
      return fail(std::move(loaded).error());
    set.trainable_ += found->second.a.size() + found->second.b.size();
    ++used;
  }
  if (used == factors.size()) return set;
  for (const auto& [module, pair] : factors) {
    const bool known =
        std::any_of(linears.begin(), linears.end(),
                    [&, &wanted = module](const LinearShape& l) { return l.module == wanted; });
    if (known) continue;
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = "is no linear layer of this model",
                 .where = module,
                 .rule = "adapters sit on linear layers",
                 .remedy = "use the base model the adapter was trained on"});
  }
  return set;
}

std::size_t AdapterSet::max_rank() const {
  std::size_t rank = 0;
  for (const auto& site : sites_) rank = site ? std::max(rank, site->rank()) : rank;
  return rank;
}

std::size_t AdapterSet::heads() const {
  for (const auto& site : sites_) {
    if (site) return site->heads();
  }
  return 1;
}

template <class Work>
void AdapterSet::over_sites(tensor::Team* team, const Work& work) {
  tensor::Team alone;
  (team != nullptr ? *team : alone).for_tasks(sites_.size(), [&](std::size_t i, int) {
    if (sites_[i]) work(*sites_[i]);
  });
}

void AdapterSet::prepare(tensor::DType compute, tensor::Team* team) {
  over_sites(team, [&](Adapter& site) { site.prepare(compute); });
}

void AdapterSet::reset(const sys::Stream& stream, tensor::Team* team) {
  over_sites(team, [&](Adapter& site) { site.reset(stream); });
}

void AdapterSet::anchor() {
  for (const auto& site : sites_) {
    if (site) site->anchor();
  }
}

void AdapterSet::anchor_late() {
  for (const auto& site : sites_) {
    if (site) site->anchor_late();
  }
}

void AdapterSet::rest(bool late) {
  for (const auto& site : sites_) {
    if (site) site->rest(late);
  }
}

void AdapterSet::begin() {
  for (const auto& site : sites_) {
    if (site) site->begin();
  }
}

void AdapterSet::mark_merged() {
  for (const auto& site : sites_) {
    if (site) site->mark_merged();
  }
}

void AdapterSet::restart_merged(const sys::Stream& stream, tensor::Team* team) {
  over_sites(team, [&](Adapter& site) { site.restart_merged(stream); });
}

std::vector<ParamRef> AdapterSet::params() const {
  std::vector<ParamRef> out;
  for (const auto& site : sites_) {
    if (!site) continue;
    for (auto& param : site->params()) out.push_back(std::move(param));
  }
  return out;
}

DeltaTerms AdapterSet::collect(TensorDelta (Adapter::*what)() const) const {
  DeltaTerms out;
  for (const auto& site : sites_) {
    if (site) out.emplace(site->shape().module + ".weight", (*site.*what)());
  }
  return out;
}

DeltaTerms AdapterSet::delta() const { return collect(&Adapter::delta); }
DeltaTerms AdapterSet::product() const { return collect(&Adapter::product); }
DeltaTerms AdapterSet::increment() const { return collect(&Adapter::increment); }

Result<void> AdapterSet::load(const std::map<std::string, Factors>& factors) {
  std::size_t used = 0;
  for (const auto& site : sites_) {
    if (!site) continue;
    const auto found = factors.find(site->shape().module);
    if (found == factors.end()) {
      return fail({.code = ErrorCode::kIncompatibleUpdate,
                   .what = "no factors given",
                   .where = site->shape().module,
                   .rule = "every adapted layer needs its A and B",
                   .remedy = "use the same target modules"});
    }
    if (auto loaded = site->load(found->second); !loaded) return loaded;
    ++used;
  }
  if (used != factors.size()) {
    return fail(
        {.code = ErrorCode::kIncompatibleUpdate,
         .what = std::to_string(factors.size() - used) + " given layers have no adapter here",
         .rule = "the target modules must be the same"});
  }
  return {};
}

}  // namespace strata::adapter
