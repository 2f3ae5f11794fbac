#pragma once
// One real coordinator of a tiny model on a simulated disk and network, for tests that play its
// clients themselves (party.h).
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/server.h"
#include "sim/disk.h"
#include "sim/network.h"
#include "sim/party.h"
#include "sim/tiny_model.h"

namespace strata::sim {

inline constexpr const char* kStageTensor = "model.layers.0.mlp.down_proj.weight";

class Stage : public testing::Test {
 protected:
  /// A run of these clients, whose updates have rank 2; `config` has the rest. Begins it.
  void open(const std::vector<std::string>& clients, std::uint32_t rounds,
            coordinator::ServerConfig config, coordinator::ServerObserver& observer,
            coordinator::LedgerMemory* ledgers = nullptr) {
    auto core = coordinator::Coordinator::make({.method = "flora",
                                                .restart = "fresh",
                                                .rounds = static_cast<std::int64_t>(rounds),
                                                .measure = false},
                                               tiny_model(1));
    ASSERT_TRUE(core) << core.error().line();
    base_ = core->chain();
    config.machine = {.clients = clients, .rounds = rounds, .quorum = 1};
    config.folder = "/run/state";
    config.plan_of = [](const protocol::ClientId&) { return std::string("{}"); };
    config.run[0] = std::byte{7};
    for (const auto& name : clients) {
      config.expected[name] = std::make_shared<coordinator::Outline>(
          coordinator::Outline{{kStageTensor, protocol::TensorOutline{8, 16, {2}}}});
    }
    auto server = coordinator::Server::open(std::move(config), std::move(*core),
                                            {executor_, time_, disk_, observer, ledgers});
    ASSERT_TRUE(server) << server.error().line();
    server_ = std::move(*server);
    listener_ = network_.listener(executor_);
    ASSERT_TRUE(listener_->listen(*server_));
    server_->start();
    settle();
  }
  // Before what the test itself has, which the server may tell of its end.
  void TearDown() override {
    dialers_.clear();
    listener_.reset();
    server_.reset();
  }
  /// Ten seconds of what has been set going.
  void settle() {
    const double until = time_.seconds() + 10.0;
    bool woken = false;
    time_.at(until, [&] { woken = true; });
    while (!woken && time_.step()) {
    }
  }
  void call(Party& party, const std::string& id) {
    dialers_.push_back(network_.dialer(elsewhere_, id));
    dialers_.back()->dial(party, [&party](const Error& why) { party.ended = why.line(); });
    settle();
  }

  Timeline time_{1};
  Network network_{time_, sys::Stream(std::uint64_t{1})};
  Disk disk_{sys::Stream(std::uint64_t{1})};
  ProcessExecutor executor_{time_, [](const auto& task) { task(); }};
  ProcessExecutor elsewhere_{time_, [](const auto& task) { task(); }};
  Sha256 base_{};
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<transport::Listener> listener_;
  std::vector<std::unique_ptr<transport::Dialer>> dialers_;
};

}  // namespace strata::sim
