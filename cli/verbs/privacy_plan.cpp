// strata privacy plan JOB.json: what a job promises and what the noise does to it, from the job and
// the model's shapes alone; no record is read.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/assemble.h"
#include "cli/central_sum.h"
#include "cli/common_start.h"
#include "cli/noise_plan.h"
#include "cli/private_run.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "client/trainable.h"
#include "model/model.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr std::int64_t kRoundsMax = 1000000;

struct Options {
  std::string job;
  std::vector<std::string> settings;
};

json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

// Rounds of the same kind that stay within the budget; the bill only grows with rounds.
Result<std::int64_t> rounds_that_fit(const Job& job, const privacy::Promise& promise) {
  if (!job.privacy.budget.epsilon) return promise.schedule.rounds;
  std::int64_t low = 0, high = std::min(kRoundsMax, promise.schedule.rounds * 4);
  while (low < high) {
    const std::int64_t middle = low + (high - low + 1) / 2;
    auto price =
        privacy::bill(privacy::phases_of(promise, middle), privacy::adjacency_of(promise.adjacency),
                      promise.delta, job.privacy.accountant);
    if (!price) return fail(std::move(price).error());
    if (price->epsilon <= *job.privacy.budget.epsilon) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

struct ClientNoise {
  std::string name, method;
  std::size_t rank = 0, values = 0;
  double noise_norm = 0.0;  // of a step's sum, expected, over C
  double share = 0.0;       // of it over what B units at most sum to
  int grid_bits = 0;
  double slack = 0.0;  // of delta, for the discrete noise
};

Result<ClientNoise> noise_of(const Job& job, const ClientSection& client,
                             const privacy::Promise& promise, const model::Model& base) {
  auto set = adapter::AdapterSet::make(client.adapter, client::linear_shapes(base), sys::Stream(0));
  if (!set) return fail(std::move(set).error(), "client " + client.name);
  ClientNoise out{.name = client.name,
                  .method = client.adapter.method,
                  .rank = set->max_rank(),
                  .values = set->trainable_count()};
  auto mechanism = dp_sgd_of(job, promise, out.values);
  if (!mechanism) return fail(std::move(mechanism).error(), "client " + client.name);
  out.grid_bits = mechanism->grid_bits;
  out.noise_norm = promise.gradient_multiplier * std::sqrt(static_cast<double>(out.values));
  out.share = out.noise_norm / mechanism->divisor;
  out.slack = privacy::grid_slack(promise, out.grid_bits, out.values);
  return out;
}

std::string merged_text(const Job& job, const NoisePlan& noise) {
  std::vector<std::vector<std::string>> rows{
      {"adapter.method", "noise in the merged update", "of which the factors' product"}};
  const auto row = [&](const std::string& method, const privacy::MergedNoise& n) {
    rows.push_back(
        {method, fmt::format("{:.4g}", n.norm()), fmt::format("{:.4g}", std::sqrt(n.product))});
  };
  row("as it is", noise.as_it_is);
  for (const auto& other : noise.alternatives) row(other.method, other.noise);
  std::string out = table(rows);
  out += fmt::format(
      "Expected Frobenius norm over all layers, {} clients and {} rounds, with A as it is drawn "
      "and "
      "B from 0; noise on what training makes of them comes on top.{}\n",
      job.clients.size(), job.aggregation.rounds,
      job.privacy.mode == "example_dpsgd" && job.training.optimizer.method != "sgd"
          ? " For an optimizer that scales what it sees: as if that were noise alone."
          : "");
  if (!noise.recommend_seeded) return out;
  const bool other = job.aggregation.method != "flora" || job.aggregation.restart != "fresh";
  return out + fmt::format(
                   "With adapter.method \"seeded-a\"{} the merged update would have {:.3g} times "
                   "less noise at the same budget, rank and clients: only B is trained, on an A "
                   "that is drawn anew each round, which is half the upload, too.\n",
                   other ? ", aggregation.method \"flora\" and restart \"fresh\"" : "",
                   noise.ratio);
}

json merged_json(const privacy::MergedNoise& n) {
  return {{"noise_norm", n.norm()},
          {"linear_norm", std::sqrt(n.linear)},
          {"product_norm", std::sqrt(n.product)}};
}

void add_merged(json& data, const NoisePlan& noise) {
  data["merged_noise"] = merged_json(noise.as_it_is);
  data["alternatives"] = json::array();
  for (const auto& other : noise.alternatives) {
    json entry{{"method", other.method}};
    entry.update(merged_json(other.noise));
    data["alternatives"].push_back(std::move(entry));
  }
  data["recommendation"] = noise.recommend_seeded
                               ? json{{"adapter.method", "seeded-a"}, {"noise_ratio", noise.ratio}}
                               : json(nullptr);
}

std::string sees(const privacy::Promise& promise) {
  if (promise.mode == "client_central") {
    return "The coordinator sees each client's update as it is, and is trusted with it. Recipients "
           "of the model and other clients may see: this job with the names in it, the noisy mean "
           "of each round, and how long it took. They do not see: any client's update, loss, count "
           "or norm, nor who came to a round. What is hidden is all that any one client "
           "contributed.\n";
  }
  return fmt::format(
      "Everyone, the coordinator included, may see: this job, each client's noisy update of each "
      "round, who takes part and when. They do not see: losses, counts, norms or timings of steps "
      "of the records. What is hidden is whether any one {} was in a client's data.\n",
      promise.unit);
}

// The one noisy vector of a round of client_central.
struct CentralNoise {
  std::size_t values = 0;
  double noise_norm = 0.0;  // of the sum, expected, over C
  double share = 0.0;       // of it over what all clients at most sum to
  double weights = 0.0;     // of all clients together
  int grid_bits = 0;
  double slack = 0.0;
};

Result<CentralNoise> central_noise_of(const Job& job, const privacy::Promise& promise,
                                      const model::Model& base) {
  std::vector<adapter::AdapterConfig> adapters;
  CentralNoise out;
  for (const auto& client : job.clients) {
    adapters.push_back(client.adapter);
    out.weights += client.weight;
  }
  const auto start =
      common_start(base, std::move(adapters), {}, static_cast<std::uint64_t>(job.training.seed));
  const auto common = start(1);
  if (!common) return fail(common.error());
  out.values = coordinator::values_of(*common);
  auto bits = privacy::grid_bits_of(promise, job.privacy.noise.grid_bits, out.values, "privacy");
  if (!bits) return fail(std::move(bits).error());
  out.grid_bits = *bits;
  out.noise_norm =
      promise.noise_multiplier * weight_max(job) * std::sqrt(static_cast<double>(out.values));
  out.share = out.noise_norm / out.weights;
  out.slack = privacy::grid_slack(promise, out.grid_bits, out.values);
  return out;
}

Result<void> tell_central(const Job& job, const privacy::Promise& promise, const model::Model& base,
                          VerbOutput& out) {
  const auto noise = central_noise_of(job, promise, base);
  if (!noise) return fail(noise.error());
  const double denominator = *job.privacy.weights.denominator;
  out.text += table(
      {{"clients", "values", "w_max", "W", "noise / C", "noise / (C sum w)", "grid bits", "slack"},
       {std::to_string(job.clients.size()), std::to_string(noise->values),
        fmt::format("{:g}", weight_max(job)), fmt::format("{:g}", denominator),
        number_text(noise->noise_norm, 1), number_text(noise->share, 3),
        std::to_string(noise->grid_bits), fmt::format("{:.1e}", noise->slack)}});
  if (denominator < noise->weights)
    out.text += fmt::format(
        "weights.denominator {:g} is below the weights of all clients, {:g}: the mean is scaled "
        "up, "
        "and its noise with it.\n",
        denominator, noise->weights);
  out.data["sum"] = {{"values", noise->values},
                     {"noise_norm_over_clip", noise->noise_norm},
                     {"noise_norm_over_all_clients", noise->share},
                     {"grid_bits", noise->grid_bits},
                     {"delta_slack", number(noise->slack)}};
  return {};
}

Result<void> tell_clients(const Job& job, const privacy::Promise& p, const model::Model& base,
                          VerbOutput& out) {
  std::vector<ClientNoise> clients;
  for (const auto& client : job.clients) {
    auto noise = noise_of(job, client, p, base);
    if (!noise) return fail(std::move(noise).error());
    clients.push_back(std::move(*noise));
  }
  std::vector<std::vector<std::string>> rows{
      {"client", "method", "rank", "values", "noise / C", "noise / (C B)", "grid bits", "slack"}};
  json list = json::array();
  for (const auto& c : clients) {
    rows.push_back({c.name, c.method, std::to_string(c.rank), std::to_string(c.values),
                    number_text(c.noise_norm, 1), number_text(c.share, 3),
                    std::to_string(c.grid_bits), fmt::format("{:.1e}", c.slack)});
    list.push_back({{"name", c.name},
                    {"method", c.method},
                    {"rank", c.rank},
                    {"values", c.values},
                    {"noise_norm_over_clip", c.noise_norm},
                    {"noise_norm_over_batch", c.share},
                    {"grid_bits", c.grid_bits},
                    {"delta_slack", number(c.slack)}});
  }
  const auto merged = noise_plan(job, p, base);
  if (!merged) return fail(merged.error());
  out.text += table(rows);
  out.data["clients"] = list;
  if (!*merged) return {};
  out.text += "\n" + merged_text(job, **merged);
  add_merged(out.data, **merged);
  return {};
}

Result<VerbOutput> plan(const Options& options, Context& context) {
  auto job = read_job(context.disk, options.job, options.settings);
  if (!job) return fail(std::move(job).error());
  auto promise = promise_of(*job, options.job);
  if (!promise) return fail(std::move(promise).error());
  VerbOutput out;
  out.data = statement_of(*job, *promise);
  if (!*promise) {
    out.text = "privacy  " + privacy_line(*promise) + "\n";
    return out;
  }
  const auto& p = **promise;
  auto base = base_model(context.disk, *job, tensor::DType::kF32);
  if (!base) return fail(std::move(base).error());
  auto fit = rounds_that_fit(*job, p);
  if (!fit) return fail(std::move(fit).error());
  out.text = "privacy           " + privacy_line(*promise) + "\n";
  out.text += fmt::format("epsilon           pld {}, rdp {}\n", number_text(p.epsilon_pld, 4),
                          number_text(p.epsilon_rdp, 4));
  out.text += fmt::format("noise multiplier  {:.10g}{}\n", p.noise_multiplier,
                          p.calibrated ? " (calibrated)" : "");
  out.text += fmt::format("releases          {} in each of {} rounds; {} rounds fit\n\n",
                          p.schedule.per_round, p.schedule.rounds, *fit);
  out.data["calibrated"] = p.calibrated;
  out.data["rounds_that_fit"] = *fit;
  auto told = p.mode == "client_central" ? tell_central(*job, p, *base, out)
                                         : tell_clients(*job, p, *base, out);
  if (!told) return fail(std::move(told).error());
  out.text += "\n" + sees(p);
  if (job->privacy.budget.epsilon && *job->privacy.budget.epsilon > 10.0)
    out.text += "An epsilon above 10 promises little: e^10 is 22026.\n";
  return out;
}

}  // namespace

Verb privacy_plan_verb() {
  return {.name = "privacy plan",
          .help = "what a job promises and what its noise is, before any record is read",
          .example = "strata privacy plan configs/quickstart-private.json",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("job", options->job, "job file")->required();
            command.add_option("--set", options->settings,
                               "KEY=VALUE over the job file; repeatable");
            return [options](Context& context) { return plan(*options, context); };
          }};
}

}  // namespace strata::cli
