#include "cli/owner_ledger.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/plan.h"
#include "client/ledger_budget.h"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

constexpr double kLifetimeEpsilon = 50.0;  // where nobody set a cap

// A record as its owner has it: what is said in it, without the keys around it, so that a column
// more or less makes no other record of it.
std::string canonical(const text::Record& record) {
  const auto text_of = [](const auto& content) -> json {
    using T = std::decay_t<decltype(content)>;
    if constexpr (std::is_same_v<T, text::PlainText>) {
      return {{"text", content.text}};
    } else if constexpr (std::is_same_v<T, text::Pair>) {
      return {{"prompt", content.prompt}, {"completion", content.completion}};
    } else if constexpr (std::is_same_v<T, text::Instruction>) {
      return {{"system", content.system},
              {"instruction", content.instruction},
              {"input", content.input},
              {"output", content.output}};
    } else if constexpr (std::is_same_v<T, text::Dialogue>) {
      json messages = json::array();
      for (const auto& m : content.messages) messages.push_back({m.role, m.content});
      return {{"messages", messages}};
    } else if constexpr (std::is_same_v<T, text::Picture>) {
      return {{"image", hex(content.image)}};
    } else {
      return {{"input_ids", content.ids}};
    }
  };
  return std::visit([&](const auto& content) { return text_of(content).dump(); }, record.content);
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

tl::unexpected<Error> against(const fs::path& folder, std::string_view key, std::string what,
                              std::string rule, ErrorCode code) {
  return fail({.code = code,
               .what = std::move(what),
               .where = fmt::format("{}: {}", (folder / "policy.json").string(), key),
               .rule = std::move(rule),
               .remedy = "this is the data owner's own rule and no plan changes it"});
}

bool allows(const std::vector<std::string>& names, const std::string& name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

std::string list(const std::vector<std::string>& names) {
  return fmt::format("allowed: {}", fmt::join(names, ", "));
}

}  // namespace

Result<fs::path> ledger_folder(const std::string& path) {
  if (!path.empty()) return fs::path(path);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): strata changes no variable
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return fs::path(state) / "strata" / "privacy";
  // NOLINTNEXTLINE(concurrency-mt-unsafe): strata changes no variable
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/')
    return fs::path(home) / ".local" / "state" / "strata" / "privacy";
  return fail({.code = ErrorCode::kConfig,
               .what = "is empty, and neither HOME nor XDG_STATE_HOME is set",
               .where = "privacy.ledger.path",
               .rule = "what is spent is kept in a folder of the data owner's",
               .remedy = "give privacy.ledger.path"});
}

Result<OwnerPolicy> read_policy(const sys::Disk& disk, const fs::path& folder) {
  OwnerPolicy out;
  const fs::path path = folder / "policy.json";
  if (!disk.exists(path)) return out;
  auto text = disk.read_text(path);
  if (!text) return fail(std::move(text).error());
  auto read = config::read(*text, path.string(), {}, [&](config::Fields& f) {
    std::int64_t version = 1;
    f.integer("version", version, {.min = 1, .max = 1}, "of this file's form");
    f.texts("modes", out.modes, "privacy modes that are allowed");
    f.texts("units", out.units, "units that are allowed");
    f.number_or("max_epsilon", out.max_epsilon, "", {.max = 50.0, .above = 0.0}, "of a run");
    f.number_or("max_delta", out.max_delta, "", {.min = 1e-11, .max = 1e-3}, "of a run");
    f.number_or("lifetime_epsilon", out.lifetime_epsilon, "", {.max = 50.0, .above = 0.0},
                "of a data set over all runs");
    f.number_or("lifetime_delta", out.lifetime_delta, "", {.min = 1e-11, .max = 1e-3},
                "of that cap");
    f.number_or("min_noise_multiplier", out.min_noise_multiplier, "", {.max = 1e6, .above = 0.0},
                "least noise");
  });
  if (!read) return fail(std::move(read).error());
  if (out.lifetime_epsilon.has_value() != out.lifetime_delta.has_value())
    return against(folder, out.lifetime_delta ? "lifetime_epsilon" : "lifetime_delta", "is missing",
                   "a cap is an epsilon at a delta", ErrorCode::kConfig);
  out.given = true;
  return out;
}

Result<void> check_policy(const OwnerPolicy& policy, const std::optional<privacy::Promise>& promise,
                          const fs::path& folder) {
  if (!policy.given) return {};
  const std::string mode = promise ? promise->mode : "none";
  if (!allows(policy.modes, mode))
    return against(folder, "modes", "the job's privacy.mode is \"" + mode + "\"",
                   list(policy.modes), ErrorCode::kBudget);
  if (!promise) return {};
  const std::string unit = promise->unit.substr(0, promise->unit.find(' '));
  if (!allows(policy.units, unit))
    return against(folder, "units", "the job's privacy.unit.kind is \"" + unit + "\"",
                   list(policy.units), ErrorCode::kBudget);
  if (policy.max_delta && promise->delta > *policy.max_delta)
    return against(folder, "max_delta", fmt::format("the run's delta is {:g}", promise->delta),
                   fmt::format("{:g} at most", *policy.max_delta), ErrorCode::kBudget);
  if (policy.max_epsilon && !(promise->epsilon <= *policy.max_epsilon))
    return against(folder, "max_epsilon",
                   fmt::format("the run comes to epsilon {:.4g}", promise->epsilon),
                   fmt::format("{:g} at most", *policy.max_epsilon), ErrorCode::kBudget);
  if (policy.min_noise_multiplier && promise->noise_multiplier < *policy.min_noise_multiplier)
    return against(folder, "min_noise_multiplier",
                   fmt::format("the noise multiplier is {:.4g}", promise->noise_multiplier),
                   fmt::format("{:g} at least", *policy.min_noise_multiplier), ErrorCode::kBudget);
  return {};
}

ledger::EpsilonOf epsilon_of(privacy::Adjacency adjacency, double eps_tolerance) {
  return [=](const std::vector<ledger::Charge>& charges, double delta) -> Result<double> {
    std::vector<privacy::Phase> phases;
    phases.reserve(charges.size());
    for (const auto& c : charges)
      phases.push_back(privacy::Phase::gaussian(c.z, c.q, static_cast<double>(c.steps)));
    auto price =
        privacy::bill(phases, adjacency, delta, {.kind = "pld", .eps_tolerance = eps_tolerance});
    if (!price) return fail(std::move(price).error());
    return price->epsilon;
  };
}

std::string dataset_of(const Job& job, const std::string& client) {
  const std::string& given = job.privacy.ledger.dataset_id;
  if (given.empty()) return client;
  return job.clients.size() > 1 ? given + "/" + client : given;
}

Result<void> check_owner(const sys::Disk& disk, const Job& job,
                         const std::optional<privacy::Promise>& promise) {
  auto folder = ledger_folder(job.privacy.ledger.path);
  // Without any folder there is no policy; a private client says so when it opens its ledger.
  if (!folder) return {};
  auto policy = read_policy(disk, *folder);
  if (!policy) return fail(std::move(policy).error());
  return check_policy(*policy, promise, *folder);
}

Result<OpenLedger> open_ledger(sys::Disk& disk, const Job& job, const privacy::Promise& promise,
                               const std::string& id, std::span<const std::string> rows) {
  const auto& section = job.privacy.ledger;
  auto folder = ledger_folder(section.path);
  if (!folder) return fail(std::move(folder).error());
  auto policy = read_policy(disk, *folder);
  if (!policy) return fail(std::move(policy).error());
  if (auto may = check_policy(*policy, promise, *folder); !may) return fail(std::move(may).error());
  auto clock = sys::make_posix_clock();
  ledger::Tools tools{.disk = disk,
                      .clock = *clock,
                      .epsilon_of = epsilon_of(privacy::adjacency_of(job.privacy.adjacency),
                                               job.privacy.accountant.eps_tolerance),
                      .host = host_name()};
  if (!section.lock_service.empty()) tools.filesystem_of = nullptr;
  if (auto begun = ledger::Ledger::create_first(tools, *folder); !begun)
    return fail(std::move(begun).error(), "beginning a ledger");
  auto opened = ledger::Ledger::open(tools, *folder);
  if (!opened) return fail(std::move(opened).error());

  auto known = opened->terms_of(id);
  if (!known) return fail(std::move(known).error());
  ledger::Dataset dataset{
      .id = id,
      .unit = promise.unit,
      .adjacency = promise.adjacency,
      // The owner's policy is a cap of its own: it may come later, and change.
      .epsilon_cap =
          section.lifetime_epsilon.value_or(*known ? (*known)->epsilon_cap : kLifetimeEpsilon),
      .delta = section.lifetime_delta.value_or(*known ? (*known)->delta : promise.delta)};
  auto fingerprinter = opened->fingerprinter();
  for (const auto& row : rows) fingerprinter.add(row);
  auto added = opened->add_dataset(dataset, std::move(fingerprinter).finish(),
                                   section.inherit ? ledger::Inherit::kYes : ledger::Inherit::kNo);
  if (!added) return fail(std::move(added).error());

  ledger::Reservation round{
      .dataset = id,
      .run = {},
      .plan = sha256(bytes_of(Plan(job).whole())),
      .charge = {.mechanism = promise.mode,
                 .q = promise.sampling_rate,
                 .z = promise.noise_multiplier,
                 .steps = static_cast<std::uint64_t>(promise.schedule.per_round *
                                                     promise.charges_per_release())}};
  if (job.privacy.budget.epsilon) {
    round.caps.push_back({.whose = "run",
                          .epsilon = *job.privacy.budget.epsilon,
                          .delta = promise.delta,
                          .this_run_only = job.privacy.budget.scope == "run"});
  }
  if (policy->lifetime_epsilon) {
    round.caps.push_back({.whose = "policy",
                          .epsilon = *policy->lifetime_epsilon,
                          .delta = *policy->lifetime_delta,
                          .this_run_only = false});
  }
  return OpenLedger{std::move(clock), std::move(*opened), std::move(round)};
}

Result<std::unique_ptr<client::Budget>> open_budget(sys::Disk& disk, const Job& job,
                                                    const privacy::Promise& promise,
                                                    const std::string& client,
                                                    std::span<const text::Record> records) {
  std::vector<std::string> rows;
  for (const auto& record : records) rows.push_back(canonical(record));
  auto opened = open_ledger(disk, job, promise, dataset_of(job, client), rows);
  if (!opened) return fail(std::move(opened).error(), "client " + client);
  return client::make_ledger_budget(std::move(opened->clock), std::move(opened->ledger),
                                    std::move(opened->round));
}

}  // namespace strata::cli
