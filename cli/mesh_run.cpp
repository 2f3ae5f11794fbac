#include "cli/mesh_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/mpi_membership.h"
#include "cli/plan.h"
#include "cli/run_folder.h"

namespace strata::cli {
namespace {

// Clients in the order of their names, dealt out to the first ranks.
struct Deal {
  std::vector<std::string> names;
  std::size_t members = 1;  // ranks with clients

  Deal(const Job& job, int ranks) {
    for (const auto& client : job.clients) names.push_back(client.name);
    std::sort(names.begin(), names.end());
    members = std::min(names.size(), static_cast<std::size_t>(ranks));
  }
  [[nodiscard]] std::vector<std::string> of(int rank) const {
    std::vector<std::string> out;
    for (std::size_t i = static_cast<std::size_t>(rank); i < names.size(); i += members)
      out.push_back(names[i]);
    return out;
  }
  [[nodiscard]] int rank_of(const std::string& client) const {
    const auto at = std::lower_bound(names.begin(), names.end(), client) - names.begin();
    return static_cast<int>(static_cast<std::size_t>(at) % members);
  }
};

// All listen as soon as they have joined; a rank that cannot be reached for so long is gone.
constexpr double kPatienceSeconds = 10;

std::string name_of(int rank) { return fmt::format("rank {}", rank); }

// Of what all members have in common.
Sha256 begins_with(const std::string& plan, const Sha256& base) {
  Hasher out;
  out.add(plan);
  out.add(base);
  return out.finish();
}

// What is measured of merges is told by rank 0.
Job lean(Job job) {
  job.aggregation.measure = job.aggregation.diagnostics = false;
  return job;
}

// The same plan, of which nothing is written or evaluated once more.
Job quiet(Job job, int rank) {
  job.output.directory = (std::filesystem::path(job.output.directory) / kStateFolder /
                          kRanksFolder / std::to_string(rank))
                             .string();
  job.output.round_adapters = job.output.merged_model = false;
  job.evaluation = {};
  job.evaluation.client_records = 0;
  return job;
}

}  // namespace

Result<VerbOutput> run_in_mesh(const MpiPlace& place, const Job& job, bool force,
                               std::size_t memory_limit, Context& context) {
  const Deal deal(job, place.launch.ranks);
  Hosting hosting;
  hosting.loop = sys::make_loop(context.clock);
  hosting.members = deal.members;
  hosting.member = static_cast<std::size_t>(place.rank);
  hosting.member_name = [](std::size_t member) { return name_of(static_cast<int>(member)); };
  const std::string plan = Plan(job).whole();
  MpiMembership membership(place, job.network, context);
  const auto join = [&] { return membership.join(*hosting.loop, true); };
  if (static_cast<std::size_t>(place.rank) >= deal.members) {  // more ranks than clients
    VerbOutput out;
    out.silent = true;
    if (auto cluster = join(); !cluster) return fail(std::move(cluster).error());
    return out;
  }
  Sha256 base{};  // the model that the run begins with
  // Listens as soon as all have joined: others may call while this one recovers.
  const auto meet = [&]() -> Result<std::unique_ptr<client::Peers>> {
    auto cluster = join();
    if (!cluster) return fail(std::move(cluster).error());
    client::PeersConfig config{.name = name_of(place.rank), .plan = begins_with(plan, base)};
    config.patience = std::min(kPatienceSeconds, job.network.silence);
    for (int rank = 0; rank < static_cast<int>(deal.members); ++rank) {
      if (rank != place.rank) config.others.push_back(name_of(rank));
    }
    config.member_of = [&deal](const protocol::ClientId& client) {
      return name_of(deal.rank_of(client));
    };
    config.dial = [&deal, cluster = *cluster](const protocol::ClientId& client) {
      return cluster->dialer(client, deal.rank_of(client));
    };
    auto peers =
        std::make_unique<client::Peers>(*hosting.loop, (*cluster)->listener(), std::move(config));
    if (auto listening = peers->start(); !listening) return fail(std::move(listening).error());
    return peers;
  };
  hosting.peers = [&](sys::Executor&) { return meet(); };
  const auto member = [&](const Job& its) {
    auto out = assemble_member(context.disk, its, deal.of(place.rank), context.threads);
    if (out) base = out->coordinator.state_hash();
    return out;
  };
  if (place.rank == 0) {
    return membership.ending_in_mesh(start_run(
        job, force, memory_limit, context, [&] { return member(job); }, hosting));
  }

  // Rank 0 makes room for the run folder before it joins; only then is there a place in it.
  auto federation = member(lean(job));
  if (!federation) return membership.ending(fail(std::move(federation).error()));
  federation->held_out.clear();
  federation->held_out_records.clear();
  auto peers = meet();
  if (!peers) return fail(std::move(peers).error());
  hosting.peers = [&](sys::Executor&) -> Result<std::unique_ptr<client::Peers>> {
    return std::move(*peers);
  };
  const Job own = quiet(job, place.rank);
  if (auto made = context.disk.create_directories(own.output.directory); !made)
    return fail(std::move(made).error());
  hosting.reports = false;
  observe::NullObserver nobody;
  RunTools tools{.disk = context.disk,
                 .clock = context.clock,
                 .observer = nobody,
                 .stopped = context.stopped,
                 .threads = context.threads};
  auto summary = run_federation(std::move(*federation), own, own.output.directory, tools, hosting);
  if (!summary) return membership.ending_in_mesh(fail(std::move(summary).error()));
  VerbOutput out;
  out.silent = true;
  return out;
}

}  // namespace strata::cli
