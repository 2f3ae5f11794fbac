#include "observe/jsonl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "set_clock.h"
#include "support/process.h"

namespace strata::observe {
namespace {

using nlohmann::json;
using testing::ElementsAre;

class Jsonl : public testing::Test {
 protected:
  [[nodiscard]] std::filesystem::path path() const { return scratch_.path() / "metrics.jsonl"; }

  /// The file's lines, each parsed by itself.
  [[nodiscard]] std::vector<json> lines() const {
    std::vector<json> out;
    std::istringstream text(support::read_file(path()));
    for (std::string line; std::getline(text, line);) out.push_back(json::parse(line));
    return out;
  }
  /// What one event becomes.
  [[nodiscard]] json line_of(const Event& event) {
    JsonlObserver(*disk_, clock_, path()).on(event);
    return lines().at(0);
  }

  support::ScratchFolder scratch_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  SetClock clock_;
};

TEST_F(Jsonl, AnEventIsOneFlatObjectWithNameTimeAndFields) {
  const json line = line_of(
      {.name = "client_round",
       .fields = {{"client", "anna"}, {"round", std::int64_t{3}}, {"loss", 1.25}, {"last", true}}});
  EXPECT_EQ(line, (json{{"event", "client_round"},
                        {"ts", "2026-01-31T12:34:56Z"},
                        {"client", "anna"},
                        {"round", 3},
                        {"loss", 1.25},
                        {"last", true}}));
  EXPECT_TRUE(line["round"].is_number_integer());
  EXPECT_TRUE(line["last"].is_boolean());
}

// A process that is killed may leave half a line; the next one begins a line of its own.
TEST_F(Jsonl, WhatIsWrittenBehindHalfALineIsWhole) {
  support::write_file(path(), "{\"event\": \"rou");
  JsonlObserver(*disk_, clock_, path()).on({.name = "round", .fields = {}});
  std::istringstream text(support::read_file(path()));
  std::string half, whole;
  std::getline(text, half);
  std::getline(text, whole);
  EXPECT_EQ(half, "{\"event\": \"rou");
  EXPECT_EQ(json::parse(whole).at("event"), "round");
  JsonlObserver(*disk_, clock_, path()).on({.name = "round", .fields = {}});
  EXPECT_EQ(support::read_file(path()).find("\n\n"), std::string::npos);
}

TEST_F(Jsonl, EachEventIsALineAndTheirOrderIsKept) {
  {
    JsonlObserver observer(*disk_, clock_, path());
    for (std::int64_t i = 0; i < 5; ++i)
      observer.on({.name = i == 2 ? "step" : "round", .fields = {{"i", i}}});
  }
  std::vector<int> order;
  for (const auto& line : lines()) order.push_back(line.at("i"));
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_TRUE(support::read_file(path()).ends_with("}\n"));
}

TEST_F(Jsonl, StringsComeBackAsTheyWere) {
  const std::string awkward = "quote \" slash \\ line\nbreak\r\ttab \x01 \x1b[31m é \u2028 end";
  const json line =
      line_of({.name = "message", .fields = {{"text", awkward}, {"odd \"key\n", "x"}}});
  EXPECT_EQ(line.at("text"), awkward);
  EXPECT_EQ(line.at("odd \"key\n"), "x");
  EXPECT_EQ(support::read_file(path()).find('\x1b'), std::string::npos);
}

TEST_F(Jsonl, BytesThatAreNoUtf8AreReplacedSoThatTheLineParses) {
  const json line = line_of({.name = "message", .fields = {{"text", std::string("a\xff\xc3")}}});
  EXPECT_EQ(line.at("text"), "a\ufffd\ufffd");
}

TEST_F(Jsonl, NumbersKeepEveryBitAndThoseThatAreNotFiniteBecomeNull) {
  const double third = 1.0 / 3.0, tiny = std::numeric_limits<double>::denorm_min();
  const auto largest = std::numeric_limits<std::int64_t>::max();
  const json line = line_of({.name = "numbers",
                             .fields = {{"third", third},
                                        {"tiny", tiny},
                                        {"largest", largest},
                                        {"nan", std::nan("")},
                                        {"up", HUGE_VAL},
                                        {"down", -HUGE_VAL}}});
  EXPECT_EQ(line.at("third").get<double>(), third);
  EXPECT_EQ(line.at("tiny").get<double>(), tiny);
  EXPECT_EQ(line.at("largest").get<std::int64_t>(), largest);
  for (const char* key : {"nan", "up", "down"}) EXPECT_TRUE(line.at(key).is_null()) << key;
}

TEST_F(Jsonl, StepsWaitForTheNextEventOfAnotherKindOrTheEnd) {
  {
    JsonlObserver observer(*disk_, clock_, path());
    observer.on({.name = "step"});
    EXPECT_FALSE(disk_->exists(path()));
    observer.on({.name = "client_round"});
    EXPECT_EQ(lines().size(), 2u);
    observer.on({.name = "step"});
    EXPECT_EQ(lines().size(), 2u);
  }
  EXPECT_EQ(lines().size(), 3u);
}

TEST_F(Jsonl, ManyStepsDoNotWaitForever) {
  JsonlObserver observer(*disk_, clock_, path());
  const std::string padding(1000, 'x');
  for (int i = 0; i < 100; ++i) observer.on({.name = "step", .fields = {{"padding", padding}}});
  EXPECT_GE(lines().size(), 60u);
}

TEST_F(Jsonl, AppendsToWhatIsThere) {
  JsonlObserver(*disk_, clock_, path()).on({.name = "first"});
  JsonlObserver(*disk_, clock_, path()).on({.name = "second"});
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_EQ(lines()[1].at("event"), "second");
}

TEST_F(Jsonl, TheFirstFailedWriteIsKeptAndEndsWriting) {
  const auto folder = scratch_.path() / "later";
  JsonlObserver observer(*disk_, clock_, folder / "metrics.jsonl");
  EXPECT_TRUE(observer.status());
  observer.on({.name = "lost"});
  ASSERT_FALSE(observer.status());
  EXPECT_EQ(observer.status().error().code, ErrorCode::kFileMissing);
  ASSERT_TRUE(disk_->create_directories(folder));
  observer.on({.name = "also lost"});
  EXPECT_FALSE(observer.status());
  EXPECT_FALSE(disk_->exists(folder / "metrics.jsonl"));
}

TEST_F(Jsonl, ThreadsMayReportAtOnce) {
  {
    JsonlObserver observer(*disk_, clock_, path());
    std::vector<std::jthread> threads;
    for (std::int64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&observer, t] {
        for (std::int64_t i = 0; i < 50; ++i)
          observer.on({.name = i % 5 == 0 ? "round" : "step", .fields = {{"t", t}, {"i", i}}});
      });
    }
  }
  std::vector<int> next(4, 0);
  for (const auto& line : lines()) EXPECT_EQ(line.at("i"), next[line.at("t").get<std::size_t>()]++);
  EXPECT_THAT(next, ElementsAre(50, 50, 50, 50));
}

class Recorder final : public Observer {
 public:
  Recorder(std::string name, std::vector<std::string>& log) : name_(std::move(name)), log_(log) {}
  void on(const Event& event) override { log_.push_back(name_ + " " + event.name); }

 private:
  std::string name_;
  std::vector<std::string>& log_;
};

TEST(FanOut, PassesEachEventToAllInOrder) {
  std::vector<std::string> log;
  Recorder one("one", log), two("two", log);
  FanOut both({&one, &two});
  both.on({.name = "a"});
  both.on({.name = "b"});
  EXPECT_THAT(log, ElementsAre("one a", "two a", "one b", "two b"));
}

}  // namespace
}  // namespace strata::observe
