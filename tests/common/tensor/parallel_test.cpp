#include "tensor/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace strata::tensor {
namespace {

using Ranges = std::vector<std::pair<std::size_t, std::size_t>>;

constexpr int kThreads[] = {1, 2, 3, 8};

class Parallel : public testing::Test {
 protected:
  void TearDown() override { set_thread_count(before_); }

  static Ranges ranges_of(std::size_t n, std::size_t grain) {
    std::mutex lock;
    Ranges out;
    parallel_for(n, grain, [&](std::size_t first, std::size_t last) {
      const std::scoped_lock guard(lock);
      out.emplace_back(first, last);
    });
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  int before_ = thread_count();
};

TEST_F(Parallel, RangesCoverEverythingOnce) {
  for (const int threads : kThreads) {
    set_thread_count(threads);
    for (const std::size_t n : {0u, 1u, 2u, 5u, 10u, 63u, 64u, 1000u}) {
      for (const std::size_t grain : {0u, 1u, 3u, 4u, 64u, 5000u}) {
        std::size_t next = 0;
        for (const auto& [first, last] : ranges_of(n, grain)) {
          EXPECT_EQ(first, next);
          EXPECT_GT(last, first);
          next = last;
        }
        EXPECT_EQ(next, n);
      }
    }
  }
}

class Regression : public Parallel {};

// Ten in grains of four were cut into ranges of three, three and four.
TEST_F(Regression, RangesWereShorterThanTheGrain) {
  for (const int threads : kThreads) {
    set_thread_count(threads);
    for (const std::size_t n : {5u, 9u, 10u, 63u, 64u, 65u, 1000u}) {
      for (const std::size_t grain : {1u, 2u, 3u, 4u, 7u, 32u, 64u}) {
        const auto ranges = ranges_of(n, grain);
        for (std::size_t i = 0; i + 1 < ranges.size(); ++i)
          EXPECT_GE(ranges[i].second - ranges[i].first, grain) << n << " in grains of " << grain;
      }
    }
  }
}

TEST_F(Parallel, WhatFitsIntoOneGrainIsOneCallOnThisThread) {
  for (const int threads : kThreads) {
    set_thread_count(threads);
    std::vector<std::thread::id> callers;
    parallel_for(64, 64, [&](std::size_t first, std::size_t last) {
      EXPECT_EQ(first, 0u);
      EXPECT_EQ(last, 64u);
      callers.push_back(std::this_thread::get_id());
    });
    EXPECT_EQ(callers, std::vector{std::this_thread::get_id()});
  }
}

TEST_F(Parallel, UsesNoMoreThreadsThanAllowed) {
  for (const int threads : kThreads) {
    set_thread_count(threads);
    EXPECT_EQ(thread_count(), threads);
    EXPECT_LE(ranges_of(1000, 1).size(), static_cast<std::size_t>(threads));
  }
}

TEST_F(Parallel, ANestedLoopRunsWholeOnTheThreadThatCallsIt) {
  for (const int threads : kThreads) {
    set_thread_count(threads);
    std::atomic<int> outer{0}, inner{0};
    const auto check_inner = [&] {
      ++outer;
      const auto caller = std::this_thread::get_id();
      parallel_for(100, 1, [&](std::size_t first, std::size_t last) {
        ++inner;
        EXPECT_EQ(std::this_thread::get_id(), caller);
        if (threads > 1) {
          EXPECT_EQ(first, 0u);
          EXPECT_EQ(last, 100u);
        }
      });
      std::size_t next = 0;
      parallel_tasks(10, [&](std::size_t i) {
        EXPECT_EQ(std::this_thread::get_id(), caller);
        EXPECT_EQ(i, next++);
      });
    };
    parallel_for(20, 1, [&](std::size_t, std::size_t) { check_inner(); });
    EXPECT_EQ(inner.load(), outer.load());
    parallel_tasks(20, [&](std::size_t) { check_inner(); });
    EXPECT_EQ(inner.load(), outer.load());
  }
}

TEST_F(Parallel, EachTaskRunsOnce) {
  for (const int threads : kThreads) {
    set_thread_count(threads);
    for (const std::size_t n : {0u, 1u, 2u, 7u, 500u}) {
      std::vector<std::atomic<int>> runs(n);
      parallel_tasks(n, [&](std::size_t i) { ++runs.at(i); });
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadCount, BelongsToTheCallingThread) {
  const int before = thread_count();
  set_thread_count(3);
  std::thread other([] {
    set_thread_count(1);
    EXPECT_EQ(thread_count(), 1);
  });
  other.join();
  EXPECT_EQ(thread_count(), 3);
  set_thread_count(before);
}

TEST(ThreadCount, TheMachineGivesAtLeastOneThread) {
  EXPECT_GE(hardware_threads(), 1);
  EXPECT_LE(hardware_threads(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace strata::tensor
