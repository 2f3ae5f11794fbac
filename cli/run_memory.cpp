#include "cli/run_memory.h"

#include <algorithm>

#include "cli/memory_plan.h"

namespace strata::cli {
namespace {

struct Trained {
  std::size_t values = 0;  // in all
  std::size_t saved = 0;   // of them tensors trained themselves, beside adapters
};

Trained values_of(const client::LocalTrainer& trainer, const model::Model& model) {
  if (trainer.adapter_config().method == "full") return {model.parameter_count(), 0};
  auto set = adapter::AdapterSet::make(trainer.adapter_config(), client::linear_shapes(model),
                                       sys::Stream(0));
  if (!set) return {};
  Trained out{.values = set->trainable_count()};
  const auto saved = client::saved_parameters(trainer.adapter_config(), model, *set);
  if (!saved) return out;
  for (const std::size_t i : *saved) out.saved += model.parameters()[i].size();
  out.values += out.saved;
  return out;
}

// Values whose rounding an encoding tells later: dense changes, and B over an A that lasts.
std::size_t untold_values(const client::LocalTrainer& trainer, bool keeps, const Trained& trained) {
  const auto& config = trainer.adapter_config();
  const auto method = adapter::find_method(config.method);
  const bool shared = method && !(*method)->own_factors && !(*method)->seeded;
  const bool lasts = shared || (config.freeze_a && keeps);
  return lasts || config.method == "full" ? trained.values : trained.saved;
}

// A client that merges within a round, or trains tensors themselves, does so in a copy: of all
// that rounds have folded into by then, in float and as the products read it.
std::size_t copied_bytes(const model::Model& model) {
  const std::size_t half =
      model.compute() == tensor::DType::kBF16 ? sizeof(tensor::BFloat16) : std::size_t{0};
  return model.parameter_count() * (sizeof(float) + half);
}

// Of all clients' updates, as they are planned.
std::size_t told_values(const Federation& federation, const model::Model& model) {
  std::size_t out = 0;
  for (const auto& client : federation.planned) {
    for (const auto& [name, rank] : client.ranks) {
      const auto& p = model.parameters()[model.find(name)];
      out += rank == 0 ? p.size() : client.terms * rank * (p.d_out() + p.d_in());
    }
  }
  return out;
}

}  // namespace

Result<void> check_run_memory(const Federation& federation, const Job& job, int threads,
                              std::size_t limit) {
  const model::Model& model = federation.coordinator.model();
  const auto own = static_cast<int>(job.training.threads);
  MemoryPlan plan{.model = model,
                  .workers = std::clamp(threads / own, 1,
                                        std::max(1, static_cast<int>(federation.trainers.size()))),
                  .threads = own,
                  .pass_tokens = static_cast<std::size_t>(job.training.pass_tokens),
                  .recompute = job.training.recompute};
  const auto batch =
      static_cast<std::size_t>(job.training.batch_size * job.training.gradient_accumulation);
  const client::LocalTrainer* largest = nullptr;
  std::size_t all_values = 0, saved_values = 0;
  const bool keeps = federation.coordinator.restart() == protocol::Restart::kKeep;
  for (const auto& trainer : federation.trainers) {
    const auto [values, saved] = values_of(trainer, model);
    if (saved > 0 || job.training.merge_every) plan.copied = copied_bytes(model);
    saved_values = std::max(saved_values, saved);
    plan.kept += saved * 2 * sizeof(float);  // moments, which outlive rounds
    if (job.aggregation.encoding != "f32")
      plan.kept += untold_values(trainer, keeps, {values, saved}) * sizeof(float);
    all_values += values;
    plan.kept += trainer.idle_bytes();
    if (largest == nullptr || values > plan.trainable) {
      largest = &trainer;
      plan.trainable = values;
    }
    std::vector<std::size_t> lengths;
    for (const auto& example : trainer.examples()) lengths.push_back(example.tokens.size());
    std::sort(lengths.rbegin(), lengths.rend());
    std::size_t step = 0;
    for (std::size_t i = 0; i < std::min(batch, lengths.size()); ++i) step += lengths[i];
    plan.step_tokens = std::max(plan.step_tokens, step);
    plan.longest = std::max(plan.longest, lengths.empty() ? 0 : lengths.front());
  }
  if (largest == nullptr) {  // all clients are elsewhere: rounds are folded and evaluated here
    all_values = told_values(federation, model);
    for (const auto& example : federation.held_out)
      plan.longest = std::max(plan.longest, example.tokens.size());
    plan.step_tokens = plan.longest;
  }
  const bool dense = largest != nullptr ? largest->adapter_config().method == "full"
                                        : job.adapter.config.method == "full";
  // With kept factors: value, gradient, moments and anchor of every client. Each round: the packet,
  // and the rounds' sum in the run folder; one tensor of all clients a thread, with its stack;
  // masters of what is folded into.
  if (tells_gradients(job)) {
    plan.kept += model.parameter_count() * 3 * sizeof(float);  // moments, and the mean gradient
  } else if (largest != nullptr && federation.coordinator.restart() != protocol::Restart::kFresh) {
    plan.kept += all_values * 5 * sizeof(float);
  }
  std::size_t packet = 0, sides = 0, widest = 1;
  for (const auto& site : client::linear_shapes(model)) {
    packet += std::min(site.d_out, site.d_in) * (site.d_out + site.d_in);
    sides += site.d_out + site.d_in;
    widest = std::max(widest, site.d_out + site.d_in);
  }
  if (dense) packet = model.parameter_count();
  const double share =
      static_cast<double>(widest) / static_cast<double>(std::max<std::size_t>(sides, 1));
  const auto opened = static_cast<std::size_t>(share * static_cast<double>(all_values));
  plan.folded = sizeof(float) * 2 *
                (std::min(all_values, packet) + static_cast<std::size_t>(threads) * opened);
  for (const auto& parameter : model.parameters()) {
    if (!parameter.is_vector() && !parameter.has_master())
      plan.folded += parameter.size() * sizeof(float);
  }
  adapter::AdapterSet set;
  plan.full = dense || saved_values > 0 || job.aggregation.diagnostics;
  if (job.aggregation.diagnostics)  // the model as it was, and the gradient of the merged loss
    plan.folded += model.parameter_count() * 2 * sizeof(float);
  if (!dense && largest != nullptr) {
    auto made = adapter::AdapterSet::make(largest->adapter_config(), client::linear_shapes(model),
                                          sys::Stream(0));
    if (!made) return fail(std::move(made).error());
    set = std::move(*made);
    plan.adapters = &set;
  }
  return check_memory(plan, limit);
}

}  // namespace strata::cli
