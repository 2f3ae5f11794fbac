// One rank of a job that mpi_ranks_test.cpp has mpirun start: mpi_ranks PLUGIN WHAT
//   echo   every rank is two clients of rank 0, which sends back what it hears
//   death  the same, but the last rank kills itself in the middle
//   early  the last rank has finished before the others begin
//   bench  rank 1 measures: latency and throughput
// Prints what went well, a line each; exits with 1 on what did not.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "parties.h"
#include "transport/mpi.h"

namespace strata::transport {
namespace {

constexpr int kClients = 2;  // of each rank
constexpr double kDeadSeconds = 2.0;

// Also at the seams: nothing, one byte, a whole piece less and more a few, the most.
constexpr std::size_t kPiece = std::size_t{4} << 20;
constexpr std::array<std::size_t, 9> kSizes{0,
                                            1,
                                            4096,
                                            100000,
                                            kPiece - 93,
                                            kPiece - 92,
                                            kPiece - 91,
                                            wire::kChunkBytes,
                                            wire::kBulkBytesMax};

class Rank {
 public:
  Rank(std::unique_ptr<MpiCluster> cluster, Pump& pump)
      : cluster_(std::move(cluster)), pump_(pump) {
    if (cluster_->rank() != 0) return;
    hub_.heard = [](Connection& connection, wire::Frame frame) {
      connection.send(std::move(frame));
    };
    listener_ = cluster_->listener();
    require(listener_->listen(hub_).has_value(), "listens");
  }

  void echo() {
    connect();
    talk();
    hang_up();
    leave(5);
  }

  void death() {
    connect();
    talk();
    const bool last = cluster_->rank() == cluster_->size() - 1;
    if (last) (void)raise(SIGKILL);
    if (cluster_->rank() == 0) {
      require(pump_.run_until([&] { return hub_.ends.size() == kClients; }, 4 * kDeadSeconds),
              "notices the death");
      for (const Error& why : hub_.ends) require(why.code == ErrorCode::kPeer, "says kPeer");
      say("lost: " + hub_.ends[0].line());
    } else {
      pump_.run_for(2 * kDeadSeconds);
    }
    talk();  // the others go on
    hang_up();
    leave(2);
  }

  void early() {
    if (cluster_->rank() == cluster_->size() - 1) return leave(10);
    pump_.run_for(2 * kDeadSeconds);
    echo();
  }

  void bench() {
    if (cluster_->rank() == 0) {
      (void)pump_.run_until([&] { return !hub_.ends.empty(); }, 60);
      return leave(5);
    }
    dial(1);
    constexpr int kPings = 500;
    double began = clock_->seconds();
    for (int i = 0; i < kPings; ++i) {
      site_.connections[0]->send(frame_of(4096));
      wait_for_frames(static_cast<std::size_t>(i) + 1);
    }
    std::ostringstream line;
    line << "4 kB there and back: " << (clock_->seconds() - began) / kPings * 1e6 << " us; ";
    site_.frames.clear();
    constexpr std::size_t kLarge = 50;
    began = clock_->seconds();
    for (std::size_t i = 0; i < kLarge; ++i) {
      site_.connections[0]->send(frame_of(wire::kChunkBytes));
      if (i >= 4) wait_for_frames(i - 3);
    }
    wait_for_frames(kLarge);
    line << "4 MiB there and back: " << 4.0 * kLarge / (clock_->seconds() - began)
         << " MiB/s each way";
    say(line.str());
    site_.connections.clear();
    dialers_.clear();
    leave(5);
  }

 private:
  void require(bool holds, const std::string& what) const {
    if (holds) return;
    std::cerr << "rank " << cluster_->rank() << ": not so: " << what << std::endl;
    for (const auto* notes : {&hub_, &site_})
      for (const Error& why : notes->ends) std::cerr << "  " << why.line() << std::endl;
    std::_Exit(1);
  }
  void say(const std::string& what) const {
    std::cout << "rank " + std::to_string(cluster_->rank()) + " " + what + "\n" << std::flush;
  }

  // Rank 0 may not listen yet: a refusal is worth another try.
  void dial(int clients) {
    int under_way = 0;
    for (int i = 0; i < clients; ++i) {
      dialers_.push_back(
          cluster_->dialer("client-" + std::to_string(cluster_->rank()) + "." + std::to_string(i)));
      again_ = [this, i](const Error&) {
        (void)pump_.after(0.02, [this, i] { dialers_[i]->dial(site_, again_); });
      };
      dialers_.back()->dial(site_, again_);
      ++under_way;
      require(pump_.run_until(
                  [&] { return site_.connections.size() == static_cast<std::size_t>(under_way); }),
              "dials");
    }
  }
  void connect() {
    dial(kClients);
    for (const auto& connection : site_.connections) {
      require(connection->peer().id == "coordinator", "knows the coordinator");
      require(!connection->peer().authenticated, "vouches for nobody");
    }
    if (cluster_->rank() != 0) return;
    require(pump_.run_until([&] { return hub_.connections.size() >= kClients; }), "hears clients");
    for (const auto& connection : hub_.connections) {
      const std::string& id = connection->peer().id;
      require(connection->peer().address == "rank " + id.substr(7, id.find('.') - 7),
              "knows where " + id + " is");
    }
  }
  void wait_for_frames(std::size_t count) {
    require(pump_.run_until([&] { return site_.frames.size() >= count; }, 20), "hears an echo");
  }
  // All sizes on all connections at once, and back, each in its order.
  void talk() {
    std::map<const Connection*, std::size_t> next;
    site_.heard = [&](Connection& connection, const wire::Frame& frame) {
      const std::size_t at = next[&connection]++;
      require(at < kSizes.size() && frame.header.round == at, "keeps the order");
      auto& all = site_.connections;
      const auto mine = std::find_if(all.begin(), all.end(),
                                     [&](const auto& other) { return other.get() == &connection; });
      require(frame.header.type == 0x100 + (mine - all.begin()), "keeps connections apart");
      require(frame.payload == frame_of(kSizes[at]).payload, "keeps the bytes");
      ++heard_;
    };
    heard_ = 0;
    for (std::size_t round = 0; round < kSizes.size(); ++round) {
      for (std::size_t i = 0; i < site_.connections.size(); ++i) {
        site_.connections[i]->send(
            frame_of(kSizes[round], static_cast<std::uint16_t>(0x100 + i), round));
      }
    }
    require(pump_.run_until([&] { return heard_ == kSizes.size() * kClients; }, 30),
            "hears every frame again");
    site_.heard = nullptr;
    say("talked");
  }
  // Clients hang up; rank 0 goes on echoing until it has heard all of them do so.
  void hang_up() {
    site_.connections[0]->close();
    site_.connections.clear();
    require(site_.ends.empty(), "hears of no end before");
    if (cluster_->rank() != 0) return pump_.run_for(0.1);
    require(pump_.run_until([&] { return hub_.ends.size() >= expected_ends_; }, 30),
            "hears of every end");
    for (const Error& why : hub_.ends) require(why.code == ErrorCode::kPeer, "ends by kPeer");
  }
  void leave(double wait_s) {
    require(site_.ends.empty(), "is not hung up on");
    const bool clean = cluster_->finish(wait_s);
    say(clean ? "left" : "left MPI behind");
    std::cout << std::flush;
    if (!clean) std::_Exit(0);
  }

  std::unique_ptr<MpiCluster> cluster_;
  Pump& pump_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
  std::size_t expected_ends_ = static_cast<std::size_t>(cluster_->size()) * kClients;
  Notes hub_;
  Notes site_;
  std::size_t heard_ = 0;
  std::function<void(const Error&)> again_;
  std::unique_ptr<Listener> listener_;
  std::vector<std::unique_ptr<Dialer>> dialers_;

 public:
  // Those of a rank that never dials.
  void expect_ends_of_all_but_one() { expected_ends_ -= kClients; }
};

int run(const char* plugin, const std::string& what) {
  Pump pump;
  const auto clock = sys::make_posix_clock();
  MpiOptions options;
  if (what == "death" || what == "early") {
    options.heartbeat_s = kDeadSeconds / 5;
    options.dead_s = kDeadSeconds;
    // A rank that is early waits in MPI for the others; with a dead one that may be for ever.
    options.finalize_s = what == "early" ? 6 * kDeadSeconds : 2;
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): before there is a second thread
  const auto launch = detect_launch([](const char* name) { return std::getenv(name); });
  auto cluster = join_mpi(pump, *clock, plugin, options);
  if (!launch || !cluster) {
    std::cerr << (launch ? cluster.error() : launch.error()).line() << std::endl;
    return 1;
  }
  if (const auto good = check_launch(*launch, (*cluster)->size()); !good || launch->ranks == 0) {
    std::cerr << "the launch was not understood" << std::endl;
    return 1;
  }
  Rank rank(*std::move(cluster), pump);
  if (what == "early") rank.expect_ends_of_all_but_one();
  if (what == "echo") rank.echo();
  if (what == "death") rank.death();
  if (what == "early") rank.early();
  if (what == "bench") rank.bench();
  return 0;
}

}  // namespace
}  // namespace strata::transport

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  return strata::transport::run(argv[1], argv[2]);
}
