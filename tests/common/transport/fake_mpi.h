#pragma once
// An MPI without MPI: the ranks of a job in one process, for what a real job is too slow or too
// orderly for. A rank can be made to fall silent, and to come back.
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "transport/mpi_port.h"

namespace strata::transport {

class FakeJob {
 public:
  explicit FakeJob(int size) : inboxes_(static_cast<std::size_t>(size)) {}

  [[nodiscard]] int size() const { return static_cast<int>(inboxes_.size()); }
  /// From now on: what is sent to the rank is never taken, and nothing comes from it.
  void silence(int rank) {
    const std::lock_guard lock(mutex_);
    silent_.insert(rank);
  }
  void wake(int rank) {
    const std::lock_guard lock(mutex_);
    silent_.erase(rank);
  }
  /// As if `from` had sent it.
  void put(int from, int to, Bytes message) {
    const std::lock_guard lock(mutex_);
    inboxes_[static_cast<std::size_t>(to)].emplace_back(from, std::move(message));
  }

  // For FakePort.
  bool taken(int from, int to, ByteSpan bytes) {
    const std::lock_guard lock(mutex_);
    if (silent_.contains(from) || silent_.contains(to)) return false;
    inboxes_[static_cast<std::size_t>(to)].emplace_back(from, Bytes(bytes.begin(), bytes.end()));
    return true;
  }
  std::optional<std::pair<int, Bytes>> next(int rank) {
    const std::lock_guard lock(mutex_);
    auto& inbox = inboxes_[static_cast<std::size_t>(rank)];
    if (inbox.empty() || silent_.contains(rank)) return std::nullopt;
    auto out = std::move(inbox.front());
    inbox.pop_front();
    return out;
  }

 private:
  std::mutex mutex_;
  std::vector<std::deque<std::pair<int, Bytes>>> inboxes_;
  std::set<int> silent_;
};

class FakePort final : public MpiPort {
 public:
  FakePort(std::shared_ptr<FakeJob> job, int rank)
      : job_(std::move(job)), rank_(rank), sending_(static_cast<std::size_t>(job_->size())) {}

  Result<MpiPlace> start() override { return MpiPlace{.rank = rank_, .size = job_->size()}; }
  Result<void> send(int rank, ByteSpan bytes) override {
    auto& slot = sending_[static_cast<std::size_t>(rank)];
    check(slot.empty(), "one send is under way to a rank at most");
    slot = bytes;
    return {};
  }
  // Only now, as a send may be taken late: the bytes must still be there.
  Result<bool> sent(int rank) override {
    auto& slot = sending_[static_cast<std::size_t>(rank)];
    if (!slot.empty() && !job_->taken(rank_, rank, slot)) return false;
    slot = {};
    return true;
  }
  Result<std::optional<MpiArrival>> receive() override {
    auto next = job_->next(rank_);
    if (!next) return std::nullopt;
    given_ = std::move(next->second);
    return MpiArrival{.rank = next->first, .bytes = given_};
  }
  bool receiving() const override { return false; }
  void finish() override {}
  void abandon(std::unique_ptr<MpiPort>, std::vector<Bytes>) override {}

 private:
  std::shared_ptr<FakeJob> job_;
  int rank_;
  std::vector<ByteSpan> sending_;
  Bytes given_;
};

}  // namespace strata::transport
