#pragma once
// Events as lines of JSON in a file (metrics.jsonl), and one observer in front of several.
#include <filesystem>
#include <memory>
#include <vector>

#include "base/result.h"
#include "observe/observer.h"
#include "sys/clock.h"
#include "sys/disk.h"

namespace strata::observe {

/// {"event", "ts", fields...} in one line, without its end; numbers that are not finite are null.
[[nodiscard]] std::string json_line(const Event& event, const std::string& utc);

/// Appends {"event", "ts", fields...} per event; numbers that are not finite become null. Lines are
/// kept and written in blocks: at every event but "step", and at destruction. The first failed
/// write is kept in status() and ends writing.
class JsonlObserver final : public Observer {
 public:
  JsonlObserver(sys::Disk& disk, const sys::Clock& clock, std::filesystem::path path);
  ~JsonlObserver() override;
  void on(const Event& event) override;
  /// The first error of writing, if there was one.
  [[nodiscard]] Result<void> status() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Passes each event on to all, in order. The observers are borrowed.
class FanOut final : public Observer {
 public:
  explicit FanOut(std::vector<Observer*> observers) : observers_(std::move(observers)) {}
  void on(const Event& event) override {
    for (Observer* observer : observers_) observer->on(event);
  }

 private:
  std::vector<Observer*> observers_;
};

}  // namespace strata::observe
