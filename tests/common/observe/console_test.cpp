#include "observe/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "set_clock.h"

namespace strata::observe {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

Event step(std::int64_t number, std::int64_t of, const std::string& client = "anna") {
  return {.name = "step",
          .fields = {{"round", std::int64_t{2}},
                     {"client", client},
                     {"step", number},
                     {"steps", of},
                     {"loss", 3.5},
                     {"tokens_per_second", 1000.0}}};
}

Event client_round(const std::string& client) {
  return {.name = "client_round",
          .fields = {{"round", std::int64_t{2}},
                     {"client", client},
                     {"rank", std::int64_t{8}},
                     {"loss_before", 3.5},
                     {"loss_after", 2.25},
                     {"tokens", std::int64_t{3000}},
                     {"seconds", 1.5}}};
}

/// What a run tells, from its start to its end.
std::vector<Event> a_run() {
  return {{.name = "run_started",
           .fields = {{"clients", std::int64_t{2}},
                      {"rounds", std::int64_t{3}},
                      {"method", "flora"},
                      {"threads", std::int64_t{4}}}},
          step(1, 10),
          step(2, 10),
          client_round("anna"),
          {.name = "client_refused",
           .fields = {{"round", std::int64_t{2}}, {"client", "berta"}, {"reason", "loss is nan"}}},
          {.name = "aggregate",
           .fields = {{"round", std::int64_t{2}},
                      {"method", "flora"},
                      {"clients", std::int64_t{1}},
                      {"rank", std::int64_t{8}},
                      {"relative_error", 2e-8},
                      {"factor_averaging_error", 0.8}}},
          {.name = "evaluation",
           .fields = {{"round", std::int64_t{2}},
                      {"loss", 2.5},
                      {"perplexity", 12.18},
                      {"exact_match", 0.25}}},
          {.name = "message", .fields = {{"text", "a plain message"}}},
          {.name = "run_finished", .fields = {{"seconds", 12.0}}}};
}

class Console : public testing::Test {
 protected:
  void open(ConsoleStyle style) { console_ = make_console(style, out_, clock_); }
  /// What was written since the last call.
  std::string written() {
    std::string out = out_.str();
    out_.str("");
    return out;
  }

  std::ostringstream out_;
  SetClock clock_;
  std::unique_ptr<Observer> console_;
};

TEST_F(Console, LinesHoldNoControlBytesButTheirEnds) {
  open(ConsoleStyle::kLines);
  for (const auto& event : a_run()) {
    console_->on(event);
    clock_.now += 40.0;
  }
  console_.reset();
  const std::string text = written();
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  })) << text;
  EXPECT_TRUE(text.ends_with('\n'));
}

TEST_F(Console, LinesSayWhatWasMeasured) {
  open(ConsoleStyle::kLines);
  for (const auto& event : a_run()) console_->on(event);
  const std::string text = written();
  EXPECT_THAT(text, HasSubstr("2 clients, 3 rounds, method flora, 4 threads\n"));
  for (const char* part : {"anna", "rank 8", "loss 3.5000 -> 2.2500", "2000 tokens/s", "1.5 s"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(text, HasSubstr("round 2  berta is left out: loss is nan\n"));
  EXPECT_THAT(text,
              HasSubstr("off the clients' mean by 2.0e-08 (averaging factors: by 8.0e-01)\n"));
  EXPECT_THAT(text, HasSubstr("held-out loss 2.5000, perplexity 12.18, exact match 25.0 %\n"));
  EXPECT_THAT(text, HasSubstr("a plain message\n"));
}

TEST_F(Console, WhatWasNotMeasuredIsNotShown) {
  open(ConsoleStyle::kLines);
  console_->on({.name = "evaluation",
                .fields = {{"round", std::int64_t{1}}, {"loss", 2.5}, {"perplexity", 12.0}}});
  console_->on({.name = "aggregate",
                .fields = {{"round", std::int64_t{1}}, {"relative_error", std::nan("")}}});
  console_->on({.name = "client_round",
                .fields = {{"round", std::int64_t{1}},
                           {"client", "anna"},
                           {"rank", std::int64_t{8}},
                           {"steps", std::int64_t{20}},
                           {"loss_before", std::nan("")},
                           {"loss_after", std::nan("")}}});
  const std::string text = written();
  EXPECT_THAT(text, HasSubstr("anna         rank 8   20 steps\n"));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
  EXPECT_THAT(text, Not(HasSubstr("exact match")));
  EXPECT_THAT(text, Not(HasSubstr("off the clients' mean")));
}

TEST_F(Console, EventsNobodyWaitsForAreNotShown) {
  open(ConsoleStyle::kLines);
  console_->on({.name = "run_finished", .fields = {{"seconds", 1.0}}});
  console_->on({.name = "something_new"});
  EXPECT_THAT(written(), IsEmpty());
}

TEST_F(Console, StepsAreALineAtMostEveryThirtySecondsForEachClient) {
  open(ConsoleStyle::kLines);
  int anna = 0, berta = 0;
  for (int second = 0; second < 100; ++second) {
    clock_.now = second;
    console_->on(step(second, 100));
    anna += written().empty() ? 0 : 1;
    console_->on(step(second, 100, "berta"));
    berta += written().empty() ? 0 : 1;
  }
  EXPECT_EQ(anna, 3);
  EXPECT_EQ(berta, 3);
  console_->on(step(70, 100));
  clock_.now += 40;
  console_->on(step(71, 100));
  EXPECT_THAT(written(), HasSubstr("step 71 of 100, loss 3.5000, 1000 tokens/s\n"));
}

TEST_F(Console, ATerminalsLineIsDrawnAgainInPlace) {
  open(ConsoleStyle::kBars);
  console_->on(step(1, 4));
  const std::string first = written();
  EXPECT_THAT(first, StartsWith("\r"));
  EXPECT_THAT(first, HasSubstr("anna"));
  EXPECT_THAT(first, HasSubstr("[######..................] step 1/4  loss 3.5000"));
  EXPECT_TRUE(first.ends_with("\x1b[K")) << "what a longer line left is cleared";
  EXPECT_EQ(first.find('\n'), std::string::npos);
  clock_.now += 1.0;
  console_->on(step(4, 4));
  const std::string second = written();
  EXPECT_THAT(second, StartsWith("\r"));
  EXPECT_THAT(second, HasSubstr("[########################] step 4/4"));
}

TEST_F(Console, ATerminalIsRedrawnAtMostFourTimesASecond) {
  open(ConsoleStyle::kBars);
  int drawn = 0;
  for (int i = 0; i < 1000; ++i) {
    clock_.now = 100.0 + i / 1000.0;
    console_->on(step(i, 1000));
    drawn += written().empty() ? 0 : 1;
  }
  EXPECT_GE(drawn, 3);
  EXPECT_LE(drawn, 4);
}

TEST_F(Console, ATerminalsBarGivesWayToLinesAndLeavesNothingAtTheEnd) {
  open(ConsoleStyle::kBars);
  console_->on(step(1, 4));
  (void)written();
  console_->on(client_round("anna"));
  const std::string line = written();
  EXPECT_THAT(line, StartsWith("\r\x1b[Kround 2"));
  EXPECT_TRUE(line.ends_with('\n'));
  console_->on(client_round("berta"));
  EXPECT_THAT(written(), StartsWith("round 2"));
  clock_.now += 1.0;
  console_->on(step(2, 4));
  (void)written();
  console_.reset();
  EXPECT_EQ(written(), "\r\x1b[K");
}

TEST_F(Console, SilenceIsSilent) {
  open(ConsoleStyle::kSilent);
  for (const auto& event : a_run()) console_->on(event);
  console_.reset();
  EXPECT_THAT(written(), IsEmpty());
}

TEST_F(Console, LinesOfSeveralThreadsDoNotMix) {
  open(ConsoleStyle::kLines);
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([this, t] {
        const std::string text(60, static_cast<char>('a' + t));
        for (int i = 0; i < 50; ++i) console_->on({.name = "message", .fields = {{"text", text}}});
      });
    }
  }
  std::istringstream lines(written());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count)
    EXPECT_EQ(line, std::string(60, line.empty() ? '?' : line[0]));
  EXPECT_EQ(count, 200);
}

// The remedy stands last in a reason; lines were cut at 511 bytes.
TEST(Regression, LongReasonsWereCut) {
  std::ostringstream out;
  const SetClock clock;
  const std::string reason = std::string(1000, 'x') + "; lower the learning rate";
  make_console(ConsoleStyle::kLines, out, clock)
      ->on({.name = "client_refused",
            .fields = {{"round", std::int64_t{1}}, {"client", "anna"}, {"reason", reason}}});
  EXPECT_THAT(out.str(), HasSubstr(reason + "\n"));
}

}  // namespace
}  // namespace strata::observe
