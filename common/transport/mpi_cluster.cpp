#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>

#include "transport/mpi_engine.h"

namespace strata::transport {
namespace {

using Seconds = std::chrono::duration<double>;
// What a call of MPI may take beyond the limits before the thread is left alone with it.
constexpr double kStuckSeconds = 2;

using Door = MpiEngine::Door;

class MpiListener final : public Listener {
 public:
  MpiListener(MpiEngine& engine, int rank, bool mesh, std::shared_ptr<MpiHearing> hearing)
      : engine_(engine),
        door_(engine.door()),
        rank_(rank),
        mesh_(mesh),
        hearing_(std::move(hearing)) {}
  ~MpiListener() override {
    hearing_->alive = false;
    door_->post([&engine = engine_, hearing = hearing_] { engine.close_all_of(hearing); });
  }
  MpiListener(const MpiListener&) = delete;
  MpiListener& operator=(const MpiListener&) = delete;

  Result<void> listen(Handler& handler) override {
    if (rank_ != 0 && !mesh_) {
      return fail({.code = ErrorCode::kPeer,
                   .what = fmt::format("rank {} cannot listen", rank_),
                   .rule = "over MPI the coordinator is rank 0",
                   .remedy = "name the coordinator first in mpirun's command"});
    }
    if (!door_->post([&engine = engine_, hearing = hearing_, &handler] {
          engine.listen(&handler, hearing);
        }))
      return fail({.code = ErrorCode::kPeer, .what = "this process has left its MPI job"});
    return {};
  }
  void stop() override {
    door_->post([&engine = engine_] { engine.listen(nullptr, nullptr); });
  }
  std::string address() const override { return fmt::format("rank {}", rank_); }

 private:
  MpiEngine& engine_;  // by way of the door only
  std::shared_ptr<Door> door_;
  int rank_;
  bool mesh_;
  std::shared_ptr<MpiHearing> hearing_;
};

class MpiDialer final : public Dialer {
 public:
  MpiDialer(MpiEngine& engine, MpiLink::ToExecutor executor, std::string id, int to,
            std::shared_ptr<MpiHearing> hearing)
      : engine_(engine),
        door_(engine.door()),
        executor_(std::move(executor)),
        id_(std::move(id)),
        to_(to),
        hearing_(std::move(hearing)) {}
  ~MpiDialer() override {
    hearing_->alive = false;
    door_->post([&engine = engine_, hearing = hearing_] { engine.close_all_of(hearing); });
  }
  MpiDialer(const MpiDialer&) = delete;
  MpiDialer& operator=(const MpiDialer&) = delete;

  void dial(Handler& handler, std::function<void(const Error&)> failed) override {
    auto link = std::make_shared<MpiLink>(executor_, hearing_, handler, std::move(failed));
    if (!door_->post([&engine = engine_, link, hearing = hearing_, id = id_, to = to_] {
          engine.dial(link, hearing, id, to);
        }))
      link->failed({.code = ErrorCode::kPeer, .what = "this process has left its MPI job"});
  }

 private:
  MpiEngine& engine_;  // by way of the door only
  std::shared_ptr<Door> door_;
  MpiLink::ToExecutor executor_;
  std::string id_;
  int to_;
  std::shared_ptr<MpiHearing> hearing_;
};

class Cluster final : public MpiCluster {
 public:
  Cluster(std::shared_ptr<MpiEngine> engine, std::thread thread, MpiLink::ToExecutor executor,
          MpiPlace place, const MpiOptions& options)
      : engine_(std::move(engine)),
        thread_(std::move(thread)),
        executor_(std::move(executor)),
        place_(place),
        mesh_(options.mesh),
        finalize_s_(options.finalize_s) {}
  ~Cluster() override {
    if (!thread_.joinable()) return;
    hear_no_more();
    engine_->door()->post([&engine = *engine_] { engine.stop(); });
    (void)part(engine_->left().wait_for(Seconds(kStuckSeconds)));
  }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  int rank() const override { return place_.rank; }
  int size() const override { return place_.size; }
  std::unique_ptr<Listener> listener() override {
    return std::make_unique<MpiListener>(*engine_, place_.rank, mesh_, new_hearing());
  }
  using MpiCluster::dialer;
  std::unique_ptr<Dialer> dialer(std::string id, int to) override {
    check(to >= 0 && to < place_.size && (to == 0 || mesh_), "a rank that can be dialed");
    return std::make_unique<MpiDialer>(*engine_, executor_, std::move(id), to, new_hearing());
  }

  bool has_left(int rank) const override { return engine_->has_left(rank); }
  bool finish(double wait_s) override {
    check(thread_.joinable(), "a cluster is finished once");
    hear_no_more();
    engine_->door()->post([&engine = *engine_, wait_s] { engine.finish(wait_s); });
    auto state = engine_->quiet().wait_for(Seconds(wait_s + kStuckSeconds));
    if (state == std::future_status::ready) state = engine_->left().wait_for(Seconds(finalize_s_));
    return part(state);
  }

 private:
  std::shared_ptr<MpiHearing> new_hearing() {
    std::erase_if(hearings_, [](const auto& hearing) { return hearing.expired(); });
    auto out = std::make_shared<MpiHearing>();
    hearings_.push_back(out);
    return out;
  }
  void hear_no_more() {
    executor_->close();
    for (const auto& weak : hearings_) {
      if (const auto hearing = weak.lock()) hearing->alive = false;
    }
  }
  // The thread has ended, or will be left alone with a call that does not return.
  bool part(std::future_status state) {
    const bool ended = state == std::future_status::ready;
    if (ended) {
      thread_.join();
    } else {
      engine_->give_up();
      thread_.detach();
    }
    return ended;
  }

  std::shared_ptr<MpiEngine> engine_;
  std::thread thread_;
  MpiLink::ToExecutor executor_;
  MpiPlace place_;
  bool mesh_;
  double finalize_s_;
  std::vector<std::weak_ptr<MpiHearing>> hearings_;
};

}  // namespace

Result<std::unique_ptr<MpiCluster>> join_mpi_by(std::unique_ptr<MpiPort> port,
                                                sys::Executor& executor, const sys::Clock& clock,
                                                MpiOptions options) {
  auto to_executor = std::make_shared<MpiDoor<sys::Executor>>(executor);
  auto engine = std::make_shared<MpiEngine>(std::move(port), to_executor, clock, options);
  std::thread thread;
  try {
    thread = std::thread([engine] { engine->run(); });
  } catch (const std::system_error& problem) {
    return fail({.code = ErrorCode::kIo,
                 .what = std::string("no thread for MPI: ") + problem.what(),
                 .remedy = "raise the limit of processes"});
  }
  if (engine->started().wait_for(Seconds(options.join_s)) != std::future_status::ready) {
    engine->give_up();
    thread.detach();
    return fail({.code = ErrorCode::kPeer,
                 .what = fmt::format("MPI has not started within {:.3g} s", options.join_s),
                 .rule = "all ranks of a job start together",
                 .remedy = "look for a rank that did not start, and start the job again"});
  }
  auto place = engine->started().get();
  if (!place) {
    thread.join();
    return fail(std::move(place).error(), "joining the MPI job");
  }
  return std::make_unique<Cluster>(std::move(engine), std::move(thread), std::move(to_executor),
                                   *place, options);
}

}  // namespace strata::transport
