#include "cli/noise_shrinkage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "adapter/seeded_factors.h"
#include "cli/direct_noise.h"
#include "cli/table.h"
#include "tensor/shrinkage.h"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

// What a layer may have where the noise is not, over all that it has: more than floats round.
constexpr double kOutsideMax = 1e-3;
// Whitened noise has a mean square of 1, and a signal adds to it. Training pulls back part of the
// noise of early rounds, but far less than half of it.
constexpr double kMeanSquareMin = 0.5;

struct Round {
  std::map<std::string, double> weights;  // of the clients that were in it
};

struct RunFacts {
  Job job;
  std::string file;         // the job's, for messages
  double multiplier = 0.0;  // z
  std::vector<Round> rounds;
};

fs::path run_of(const fs::path& folder) {
  const fs::path plain = (folder / "").lexically_normal().parent_path();
  return plain.has_parent_path() ? plain.parent_path() : fs::path(".");
}

Error not_of_the_run(const fs::path& folder, std::string what) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = folder.string(),
          .rule = "--shrink needs the adapter of a private run as the run left it: RUN/adapter"};
}

Result<json> read_json(const sys::Disk& disk, const fs::path& file) {
  if (!disk.exists(file)) {
    return fail({.code = ErrorCode::kFileMissing,
                 .what = "does not exist",
                 .where = file.string(),
                 .rule = "--shrink needs the folder of a complete private run around its adapter, "
                         "with output.round_adapters",
                 .remedy = "give RUN/adapter, or leave out --shrink"});
  }
  auto text = disk.read_text(file);
  if (!text) return fail(std::move(text).error());
  json out = json::parse(*text, nullptr, false);
  if (!out.is_object())
    return fail({.code = ErrorCode::kFormat, .what = "is no JSON object", .where = file.string()});
  return out;
}

// Those of clients and weights; config.json names neither who was left out nor what was drawn.
Result<std::vector<Round>> read_rounds(const sys::Disk& disk, const fs::path& run,
                                       std::size_t count) {
  std::vector<Round> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    const fs::path file = run / "rounds" / fmt::format("{:04}", i + 1) / "strata.json";
    auto facts = read_json(disk, file);
    if (!facts) return fail(std::move(facts).error());
    try {
      facts->at("weights").get_to(out[i].weights);
    } catch (const json::exception&) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "has no weights",
                   .where = file.string(),
                   .rule = "docs/formats/run_files.md"});
    }
  }
  return out;
}

Result<RunFacts> read_run(const sys::Disk& disk, const fs::path& folder) {
  const fs::path run = run_of(folder);
  auto statement = read_json(disk, run / "privacy.json");
  if (!statement) return fail(std::move(statement).error());
  if (statement->value("mode", "none") == "none") {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "the run was not private",
                 .where = (run / "privacy.json").string(),
                 .rule = "--shrink takes noise of a known size out",
                 .remedy = "leave it out"});
  }
  if (statement->value("mode", "none") == "client_central") {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "is of mode \"client_central\"",
                 .where = (run / "privacy.json").string(),
                 .rule = "the noise of \"example_dpsgd\" and \"client_local\" is known by client",
                 .remedy = "leave --shrink out"});
  }
  auto manifest = read_json(disk, run / "manifest.json");
  if (!manifest) return fail(std::move(manifest).error());
  RunFacts out{.file = (run / "config.json").string()};
  std::size_t rounds = 0;
  std::string hash;
  try {
    out.multiplier = statement->at("noise_multiplier").get<double>();
    rounds = manifest->at("rounds").get<std::size_t>();
    hash = manifest->at("files").value("adapter/adapter_model.safetensors", "");
  } catch (const json::exception& e) {
    return fail({.code = ErrorCode::kFormat,
                 .what = printable(e.what(), 120),
                 .where = run.string() + ": privacy.json, manifest.json",
                 .rule = "docs/formats/run_files.md"});
  }
  auto tensors = disk.map(folder / "adapter_model.safetensors");
  if (!tensors) return fail(std::move(tensors).error());
  if (hex(sha256((*tensors)->bytes())) != hash)
    return fail(not_of_the_run(folder, "is not the adapter that the run's manifest names"));
  if (!disk.exists(out.file)) return fail(read_json(disk, out.file).error());
  auto job = read_job(disk, out.file, {});
  if (!job) return fail(std::move(job).error());
  out.job = *std::move(job);
  if (rounds > static_cast<std::size_t>(out.job.aggregation.rounds))
    return fail(not_of_the_run(folder, "is of more rounds than its run's config.json has"));
  auto read = read_rounds(disk, run, rounds);
  if (!read) return fail(std::move(read).error());
  out.rounds = *std::move(read);
  return out;
}

// Whether the rounds' weights and the job's schedule say all about the noise.
Result<void> check_rounds(const RunFacts& run) {
  const Job& job = run.job;
  const auto unknown = [&](std::string_view key, std::string what, std::string rule) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = std::move(what),
                 .where = fmt::format("{}: {}", run.file, key),
                 .rule = std::move(rule),
                 .remedy = "use the adapter as it is"});
  };
  if (!job.adapter.init.empty())
    return unknown("adapter.init", "is set",
                   "the A that the noise is on is not in the run's folder");
  if (job.aggregation.method == "zero_pad")
    return unknown("aggregation.method", "is \"zero_pad\"",
                   "a mean of padded factors does not keep the noise on the clients' A");
  const bool every = std::all_of(run.rounds.begin(), run.rounds.end(), [&](const Round& round) {
    return round.weights.size() == job.clients.size();
  });
  if (every) return {};
  const auto& schedule = job.training.schedule;
  if (job.aggregation.method == "flora" && job.aggregation.restart == "keep")
    return unknown("aggregation.restart", "is \"keep\", and not every client was in every round",
                   "what a client kept from a round without it is not told");
  if (job.privacy.mode != "client_local" &&
      (schedule.method != "constant" || schedule.warmup_steps > 0 || schedule.rewarm_steps > 0))
    return unknown("training.schedule",
                   "moves the learning rate, and not every client was in every round",
                   "the rate of a client's step then depends on which rounds it trained in");
  return {};
}

// Clients that train the same way: one frame, whose variances add up.
struct Group {
  adapter::AdapterConfig config;
  std::vector<std::string> clients;
};

std::vector<Group> groups_of(const Job& job) {
  std::vector<Group> out;
  for (const auto& client : job.clients) {
    auto found = std::find_if(out.begin(), out.end(),
                              [&](const Group& g) { return g.config == client.adapter; });
    if (found == out.end()) found = out.insert(out.end(), {client.adapter, {}});
    found->clients.push_back(client.name);
  }
  return out;
}

double squared_weights(const Group& group, const Round& round) {
  double sum = 0.0;
  for (const auto& client : group.clients) {
    const auto found = round.weights.find(client);
    if (found != round.weights.end()) sum += found->second * found->second;
  }
  return sum;
}

using Noises = std::map<std::string, tensor::RowNoise>;  // by module

// Adds `variance` (of a value of B, over the clients that share the frame) on the A of `adapters`.
void add_noise(Noises& noises, const adapter::AdapterSet& adapters,
               std::span<const adapter::LinearShape> linears, double variance) {
  if (variance <= 0.0) return;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const auto* own = adapters.at(i);
    if (own == nullptr) continue;
    const adapter::TensorDelta product = own->product();
    const auto& pair = std::get<adapter::LowRank>(product.terms.front());
    noises.at(linears[i].module).add(own->scale() * std::sqrt(variance), pair.a.view());
  }
}

Result<Noises> noises_of(const RunFacts& run, std::span<const adapter::LinearShape> linears) {
  Noises out;
  for (const auto& linear : linears) out.emplace(linear.module, linear.d_in);
  const auto shared = adapter::shared_stream(static_cast<std::uint64_t>(run.job.training.seed));
  for (const Group& group : groups_of(run.job)) {
    std::optional<adapter::AdapterSet> adapters;
    std::vector<ValueNoise> by_round;
    double waiting = 0.0;  // of rounds that share a frozen A
    auto method = adapter::find_method(group.config.method);
    if (!method) return fail(std::move(method).error(), run.file);
    for (std::uint32_t round = 1; round <= run.rounds.size(); ++round) {
      if (!adapters || (*method)->seeded) {
        auto made = adapter::AdapterSet::make(group.config, linears, shared, round);
        if (!made) return fail(std::move(made).error(), run.file);
        adapters = std::move(*made);
        adapters->reset(sys::Stream(0));  // A of these methods comes from `shared`
      }
      if (by_round.empty()) {
        if (auto known = check_direct_noise(run.job, *adapters, run.file); !known)
          return fail(std::move(known).error());
        auto noise = noise_by_round(run.job, run.multiplier, group.config, *adapters);
        if (!noise) return fail(std::move(noise).error(), run.file);
        by_round = *std::move(noise);
      }
      waiting += by_round[round - 1].b * squared_weights(group, run.rounds[round - 1]);
      if ((*method)->seeded) add_noise(out, *adapters, linears, std::exchange(waiting, 0.0));
    }
    if (adapters) add_noise(out, *adapters, linears, waiting);
  }
  return out;
}

std::vector<adapter::LinearShape> shapes_of(const exporting::PeftAdapter& peft) {
  std::vector<adapter::LinearShape> out;
  for (const auto& [module, pair] : peft.modules)
    out.push_back({.module = module, .d_out = pair.b.rows(), .d_in = pair.a.cols()});
  return out;
}

double squared_norm(const tensor::Doubles& b, const tensor::Doubles& a) {
  const tensor::Matrix left = b.narrow(), right = a.narrow();
  const tensor::FactorView view{.b = left.view(), .a = right.view()};
  return b.cols == 0 ? 0.0 : tensor::inner_product(view, view);
}

void replace(exporting::PeftModule& module, const tensor::Shrunk& shrunk) {
  const std::size_t rank = std::max<std::size_t>(1, shrunk.rank());
  const bool none = shrunk.rank() == 0;
  module.b = none ? tensor::Matrix(module.b.rows(), 1) : shrunk.b.narrow();
  module.a = none ? tensor::Matrix(1, module.a.cols()) : shrunk.a.narrow();
  module.rank = rank;
  module.alpha = static_cast<double>(rank);
  module.scale = 1.0;
}

}  // namespace

Result<Shrinkage> shrink_adapter(const sys::Disk& disk, const fs::path& folder,
                                 exporting::PeftAdapter& peft) {
  auto run = read_run(disk, folder);
  if (!run) return fail(std::move(run).error());
  if (auto known = check_rounds(*run); !known) return fail(std::move(known).error());
  auto noises = noises_of(*run, shapes_of(peft));
  if (!noises) return fail(std::move(noises).error());
  Shrinkage out{.layers = peft.modules.size()};
  double before = 0.0, after = 0.0, noise = 0.0, squares = 0.0, values = 0.0;
  for (auto& [module, pair] : peft.modules) {
    const tensor::RowNoise& own = noises->at(module);
    const auto shrunk =
        tensor::shrink({.b = pair.b.view(), .a = pair.a.view(), .weight = pair.scale}, own);
    if (shrunk.outside > kOutsideMax * shrunk.norm) {
      return fail(not_of_the_run(
          folder, fmt::format("{}: {:.2g} of the change lies where the run has no noise", module,
                              shrunk.outside / shrunk.norm)));
    }
    const auto rows = static_cast<double>(pair.b.rows());
    for (const double y : shrunk.before) squares += y * y;
    values += rows * static_cast<double>(shrunk.frame);
    before += shrunk.norm * shrunk.norm;
    noise += rows * own.row_energy();
    after += squared_norm(shrunk.b, shrunk.a);
    out.directions += shrunk.before.size();
    out.directions_left += shrunk.rank();
    out.layers_left += shrunk.rank() > 0 ? 1 : 0;
    replace(pair, shrunk);
  }
  out.norm_before = std::sqrt(before);
  out.norm_after = std::sqrt(after);
  out.noise_norm = std::sqrt(noise);
  out.mean_square = squares / values;
  if (!(out.mean_square >= kMeanSquareMin)) {
    return fail(not_of_the_run(
        folder,
        fmt::format("has {:.2g} of the energy that the run's noise alone has", out.mean_square)));
  }
  return out;
}

Error nothing_to_shrink() {
  return {.code = ErrorCode::kUsage,
          .what = "--shrink without --adapter",
          .rule = "it takes the noise out of a private run's adapter",
          .remedy = "give --adapter RUN/adapter"};
}

std::string shrinkage_text(const Shrinkage& s) {
  return fmt::format(
      "kept {} of {} directions, in {} of {} layers; norm {} of {}, of which noise {}\n",
      s.directions_left, s.directions, s.layers_left, s.layers, number_text(s.norm_after, 3),
      number_text(s.norm_before, 3), number_text(s.noise_norm, 3));
}

nlohmann::ordered_json shrinkage_json(const Shrinkage& s) {
  return {{"layers", s.layers},           {"layers_left", s.layers_left},
          {"directions", s.directions},   {"directions_left", s.directions_left},
          {"norm_before", s.norm_before}, {"norm_after", s.norm_after},
          {"noise_norm", s.noise_norm},   {"whitened_mean_square", s.mean_square}};
}

}  // namespace strata::cli
