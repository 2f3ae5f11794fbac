#include "cli/mpi_run.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "cli/client_run.h"
#include "cli/mesh_run.h"
#include "cli/mpi_membership.h"
#include "cli/run_folder.h"

namespace strata::cli {
namespace {

// A client's, to reach a rank 0 that fell silent or ended: some 8 s. A dead one does not come back
// to this job, and one that was only asleep does at once.
constexpr int kAttempts = 4;

// Clients in the order of their names, dealt out to the ranks behind the coordinator's.
std::vector<std::string> clients_of(const Job& job, const MpiPlace& place) {
  std::vector<std::string> names;
  for (const auto& client : job.clients) names.push_back(client.name);
  std::sort(names.begin(), names.end());
  std::vector<std::string> out;
  const auto training = static_cast<std::size_t>(place.launch.ranks - 1);
  for (std::size_t i = static_cast<std::size_t>(place.rank - 1); i < names.size(); i += training)
    out.push_back(names[i]);
  return out;
}

Result<VerbOutput> coordinate(const MpiPlace& place, const Job& job, bool force,
                              std::size_t memory_limit, Context& context) {
  Hosting hosting;
  hosting.durability = sys::Durability::kMachine;  // a lost node is not the end of the others
  hosting.loop = sys::make_loop(context.clock);
  MpiMembership membership(place, job.network, context);
  hosting.listener = [&](sys::Executor& executor,
                         observe::Observer&) -> Result<std::unique_ptr<transport::Listener>> {
    auto cluster = membership.join(executor);
    if (!cluster) return fail(std::move(cluster).error());
    return (*cluster)->listener();
  };
  return membership.ending(start_run(
      job, force, memory_limit, context,
      [&] { return assemble_coordinator(context.disk, job, context.threads); }, hosting));
}

Result<VerbOutput> train(const MpiPlace& place, const Job& job, Context& context) {
  VerbOutput out;
  out.silent = true;
  observe::NullObserver nobody;
  RunTools tools{.disk = context.disk,
                 .clock = context.clock,
                 .observer = nobody,
                 .stopped = context.stopped,
                 .threads = context.threads};
  ClientHosting hosting{
      .state = std::filesystem::path(job.output.directory) / kStateFolder / "clients",
      .durability = sys::Durability::kMachine,
      .attempts_max = kAttempts};
  hosting.loop = sys::make_loop(context.clock);
  MpiMembership membership(place, job.network, context);
  hosting.dialer = [&](sys::Executor& executor,
                       const std::string& id) -> Result<std::unique_ptr<transport::Dialer>> {
    auto cluster = membership.join(executor);
    if (!cluster) return fail(std::move(cluster).error());
    return (*cluster)->dialer(id);
  };
  auto site = assemble_site(
      context.disk, job,
      {.coordinator = false, .every_client = false, .clients = clients_of(job, place)});
  if (!site) return membership.ending(fail(std::move(site).error()));
  if (site->trainers.empty()) {  // more ranks than clients: joined, and soon done
    auto cluster = membership.join(*hosting.loop);
    if (!cluster) return fail(std::move(cluster).error());
    return out;
  }
  auto outcome = run_clients(*site, job, hosting, tools);
  if (!outcome) return membership.ending(fail(std::move(outcome).error()));
  return out;
}

}  // namespace

Result<std::optional<MpiPlace>> mpi_place() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): strata changes no variable
  auto launch = transport::detect_launch([](const char* name) { return std::getenv(name); });
  if (!launch) return fail(std::move(launch).error());
  if (launch->ranks <= 1) return std::optional<MpiPlace>();
  MpiPlace out{.launch = *launch};
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): strata changes no variable
    const char* value = std::getenv(name);
    if (value == nullptr) continue;
    char* end = nullptr;
    const long rank = std::strtol(value, &end, 10);
    if (end != value && *end == '\0' && rank >= 0 && rank < launch->ranks) {
      out.rank = static_cast<int>(rank);
      return std::optional<MpiPlace>(std::move(out));
    }
    return fail({.code = ErrorCode::kConfig,
                 .what = std::string(name) + " is \"" + printable(value, 40) + "\"",
                 .rule = "a rank is a whole number below " + std::to_string(launch->ranks)});
  }
  return fail({.code = ErrorCode::kConfig,
               .what = launch->by + " says that there are " + std::to_string(launch->ranks) +
                       " processes, but not which this is",
               .remedy = "start it with mpirun, or with srun --mpi=pmix"});
}

Result<VerbOutput> run_by_mpi(const MpiPlace& place, const Job& job, bool force,
                              std::size_t memory_limit, Context& context) {
  if (job.aggregation.topology == "mesh")
    return run_in_mesh(place, job, force, memory_limit, context);
  return place.rank == 0 ? coordinate(place, job, force, memory_limit, context)
                         : train(place, job, context);
}

}  // namespace strata::cli
