// A loop calls tasks in order, timers in the order of their times, and takes news from any thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "sys/executor.h"

namespace strata::sys {
namespace {

using testing::ElementsAre;

class LoopTest : public testing::Test {
 protected:
  std::unique_ptr<Clock> clock_ = make_posix_clock();
  std::unique_ptr<Loop> loop_ = make_loop(*clock_);
  std::vector<int> calls_;
  Executor::Task call(int n) {
    return [this, n] { calls_.push_back(n); };
  }
};

TEST_F(LoopTest, TasksRunInTheOrderTheyWerePosted) {
  for (int i = 0; i < 4; ++i) loop_->post(call(i));
  loop_->post([this] { loop_->stop(); });
  loop_->post(call(9));
  loop_->run();
  EXPECT_THAT(calls_, ElementsAre(0, 1, 2, 3));
}

TEST_F(LoopTest, TimersRunByTimeAndACancelledOneDoesNot) {
  loop_->after(0.03, [this] { loop_->stop(); });
  loop_->after(0.02, call(2));
  loop_->after(0.01, call(1));
  const TimerId never = loop_->after(0.015, call(9));
  loop_->cancel(never);
  loop_->cancel(0);
  loop_->cancel(12345);
  const double start = clock_->seconds();
  loop_->run();
  EXPECT_GE(clock_->seconds() - start, 0.03);
  EXPECT_THAT(calls_, ElementsAre(1, 2));
}

TEST_F(LoopTest, ATimerDoesNotStarveTasksNorTasksATimer) {
  std::function<void()> again = [&] {
    if (calls_.empty()) loop_->post(again);
  };
  loop_->post(again);
  loop_->after(0.01, call(1));
  loop_->after(0.02, [this] { loop_->stop(); });
  loop_->run();
  EXPECT_THAT(calls_, ElementsAre(1));
}

TEST_F(LoopTest, TakesTasksFromOtherThreads) {
  std::vector<std::jthread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 100; ++i) loop_->post(call(t));
    });
  }
  loop_->post([&] {
    threads.clear();
    loop_->post([this] { loop_->stop(); });
  });
  loop_->run();
  EXPECT_EQ(calls_.size(), 400u);
}

}  // namespace
}  // namespace strata::sys
