// strata bench round: what a round costs beside its training, over each transport.
#include "cli/bench_round.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "certs/demo.h"
#include "cli/certs.h"
#include "cli/mpi_membership.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "transport/in_process.h"
#include "transport/tls.h"

namespace strata::cli {
namespace {

struct Options {
  std::string transport = "tls";
  BenchRoundOptions bench;
};

// A folder that goes away, on the disk that the runs will use.
class Scratch {
 public:
  Scratch(sys::Disk& disk, const std::filesystem::path& in)
      : disk_(disk), path_(in / fmt::format("strata-bench-{}", ::getpid())) {}
  ~Scratch() {
    if (owner_ == ::getpid()) (void)disk_.remove_all(path_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Result<void> make() { return disk_.create_private_directory(path_); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  sys::Disk& disk_;
  std::filesystem::path path_;
  pid_t owner_ = ::getpid();
};

Result<BenchRoundReport> in_process(const BenchRoundOptions& bench, Context& context) {
  const auto loop = sys::make_loop(context.clock);
  transport::InProcess place(*loop);
  const auto listener = place.listener();
  BenchRoundOptions options = bench;
  options.outbox = false;
  options.durability = sys::Durability::kProcess;
  return bench_rounds(options, *loop, *listener, context.clock, context.disk,
                      [&](const std::string& client) -> Result<std::unique_ptr<transport::Dialer>> {
                        return place.dialer(client);
                      });
}

// The clients are a process of their own, so that each side's memory is its own.
Result<BenchRoundReport> over_tls(const BenchRoundOptions& bench, Context& context) {
  const auto names = bench_clients(bench.clients);
  const auto certificates = bench.state / "certificates";
  if (auto made = certs::make_demo(context.disk, certificates, {.clients = names},
                                   wall_seconds(context.clock));
      !made)
    return fail(std::move(made).error());
  // All clients call from one address, at once.
  transport::TlsLimits limits;
  limits.unknown_per_address_max = limits.unknown_max = bench.clients + 8;
  limits.connects_per_s = limits.connects_burst = bench.clients + 8;
  int port[2] = {-1, -1};
  if (::pipe(port) != 0) {
    return fail({.code = ErrorCode::kIo, .what = "no pipe between the processes could be made"});
  }
  const pid_t child = ::fork();
  if (child < 0) return fail({.code = ErrorCode::kIo, .what = "no second process could be made"});
  if (child == 0) {
    ::close(port[1]);
    std::uint16_t number = 0;
    if (::read(port[0], &number, sizeof number) != sizeof number) _exit(1);
    const auto loop = sys::make_loop(context.clock);
    auto done = bench_round_clients(
        bench, names,
        [&](const std::string& client) -> Result<std::unique_ptr<transport::Dialer>> {
          return transport::make_tls_dialer(
              *loop, context.clock, context.disk,
              {.address = fmt::format("127.0.0.1:{}", number),
               .files = certs::files_in(context.disk, certificates / client),
               .allowed = {},
               .limits = limits,
               .refused = {}});
        },
        *loop, context.disk);
    if (!done) std::cerr << "clients: " << done.error().line() << std::endl;
    _exit(done ? 0 : 1);
  }
  ::close(port[0]);
  const auto loop = sys::make_loop(context.clock);
  auto listener = transport::make_tls_listener(
      *loop, context.clock, context.disk,
      {.address = "127.0.0.1:0",
       .files = certs::files_in(context.disk, certificates / "coordinator"),
       .allowed = {},
       .limits = limits,
       .refused = [](const Error& why) { std::cerr << why.line() << std::endl; }});
  Result<BenchRoundReport> report = fail(Error{});
  if (!listener) {
    report = fail(std::move(listener).error());
  } else {
    // The port is known once the listener listens, which bench_rounds() sees to.
    loop->post([&] {
      const std::string address = (*listener)->address();
      const auto number =
          static_cast<std::uint16_t>(std::stoul(address.substr(address.rfind(':') + 1)));
      if (::write(port[1], &number, sizeof number) < 0) loop->stop();
    });
    report = bench_rounds(bench, *loop, **listener, context.clock, context.disk);
  }
  ::close(port[1]);
  if (!report) ::kill(child, SIGKILL);  // it would try to connect for ever
  int status = 0;
  ::waitpid(child, &status, 0);
  return report;
}

Result<BenchRoundReport> over_mpi(const BenchRoundOptions& bench, const MpiPlace& place,
                                  Context& context) {
  const auto loop = sys::make_loop(context.clock);
  const NetworkSection network;
  MpiMembership membership(place, network, context);
  auto cluster = membership.join(*loop);
  if (!cluster) return fail(std::move(cluster).error());
  if (place.rank == 0) {
    const auto listener = (*cluster)->listener();
    return bench_rounds(bench, *loop, *listener, context.clock, context.disk);
  }
  std::vector<std::string> mine;
  const auto names = bench_clients(bench.clients);
  for (std::size_t i = static_cast<std::size_t>(place.rank - 1); i < names.size();
       i += static_cast<std::size_t>(place.launch.ranks - 1))
    mine.push_back(names[i]);
  if (mine.empty()) return BenchRoundReport{};
  auto done = bench_round_clients(
      bench, mine,
      [&](const std::string& client) -> Result<std::unique_ptr<transport::Dialer>> {
        return (*cluster)->dialer(client);
      },
      *loop, context.disk);
  if (!done) return fail(std::move(done).error());
  return BenchRoundReport{};
}

Result<VerbOutput> bench_round(Options& options, Context& context) {
  auto place = mpi_place();
  if (!place) return fail(std::move(place).error());
  if (place->has_value() != (options.transport == "mpi")) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "--transport " + options.transport,
                 .rule = place->has_value() ? "processes that mpirun started talk over MPI"
                                            : "MPI needs processes that mpirun started",
                 .remedy = "mpirun -n 3 strata bench round --transport mpi"});
  }
  BenchRoundOptions& bench = options.bench;
  if (bench.state.empty()) bench.state = std::filesystem::temp_directory_path();
  Scratch scratch(context.disk, bench.state);
  if (auto made = scratch.make(); !made) return fail(std::move(made).error());
  bench.state = scratch.path();
  auto report = options.transport == "tls"   ? over_tls(bench, context)
                : options.transport == "mpi" ? over_mpi(bench, **place, context)
                                             : in_process(bench, context);
  if (!report) return fail(std::move(report).error());
  VerbOutput out;
  if (place->has_value() && (*place)->rank != 0) {
    out.silent = true;
    return out;
  }
  const double each = report->round_seconds / bench.clients;
  out.data = {{"transport", options.transport},
              {"clients", bench.clients},
              {"rounds", bench.rounds},
              {"method", bench.method},
              {"update_bytes", report->update_bytes},
              {"round_seconds", report->round_seconds},
              {"aggregate_seconds", report->aggregate_seconds},
              {"seconds_per_client", each},
              {"peak_rss_bytes", sys::peak_memory_bytes()}};
  out.text = table({{"transport", "clients", "update", "round", "of it aggregation",
                     "per client and round", "coordinator's memory"},
                    {options.transport, std::to_string(bench.clients),
                     bytes_text(static_cast<double>(report->update_bytes)),
                     fmt::format("{:.2f} ms", 1e3 * report->round_seconds),
                     fmt::format("{:.2f} ms", 1e3 * report->aggregate_seconds),
                     fmt::format("{:.3f} ms", 1e3 * each),
                     bytes_text(static_cast<double>(sys::peak_memory_bytes()))}});
  return out;
}

}  // namespace

Verb bench_round_verb() {
  return {
      .name = "bench round",
      .help = "what a round costs beside its training",
      .example = "strata bench round --transport tls --clients 10 --update-bytes 19500000",
      .declare = [](CLI::App& command) -> RunVerb {
        auto options = std::make_shared<Options>();
        BenchRoundOptions& bench = options->bench;
        command
            .add_option("--transport", options->transport,
                        "tls: on loopback; in-process: as `strata run`; mpi: by mpirun")
            ->check(CLI::IsMember({"tls", "in-process", "mpi"}));
        command.add_option("--clients", bench.clients, "clients, all in every round")
            ->check(CLI::Range(1, 10000));
        command.add_option("--rounds", bench.rounds, "timed rounds")->check(CLI::Range(1, 100000));
        command.add_option("--update-bytes", bench.update_bytes, "size of each update")
            ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 30));
        command.add_option("--method", bench.method, "of aggregation");
        command.add_option("--state", bench.state,
                           "folder for what both sides keep (default: the temporary one)");
        return [options](Context& context) { return bench_round(*options, context); };
      }};
}

}  // namespace strata::cli
