#pragma once
// Where the time of a piece of work went: named spans on one timeline a thread, summed by name and
// kept as events for a trace viewer. Without a profile a span costs one comparison.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sys/clock.h"

namespace strata::sys {

/// The spans of one thread. Not thread-safe. Names must outlive it (literals).
class Timeline {
 public:
  explicit Timeline(const Clock& clock) : clock_(&clock) {}

  struct Event {
    std::string_view name;
    double start = 0.0;  // clock seconds
    double seconds = 0.0;
    double flops = 0.0;
  };

  [[nodiscard]] double now() const { return clock_->seconds(); }
  void add(const Event& event) { events_.push_back(event); }
  void clear() { events_.clear(); }
  [[nodiscard]] const std::vector<Event>& events() const { return events_; }

 private:
  const Clock* clock_;
  std::vector<Event> events_;
};

/// Ends its span when it dies. Spans of one timeline do not nest.
class Span {
 public:
  Span(Timeline* timeline, std::string_view name, double flops)
      : timeline_(timeline),
        event_{name, timeline != nullptr ? timeline->now() : 0.0, 0.0, flops} {}
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;
  ~Span() {
    if (timeline_ == nullptr) return;
    event_.seconds = timeline_->now() - event_.start;
    timeline_->add(event_);
  }

 private:
  Timeline* timeline_;
  Timeline::Event event_;
};

class Profile {
 public:
  Profile(const Clock& clock, int threads)
      : timelines_(static_cast<std::size_t>(threads), Timeline(clock)) {}
  [[nodiscard]] Timeline* timeline(int thread) {
    return &timelines_[static_cast<std::size_t>(thread)];
  }
  /// Forgets what was recorded (after a warm-up).
  void clear();

  struct Row {
    std::string name;
    std::uint64_t calls = 0;
    double seconds = 0.0;  // over all threads
    double flops = 0.0;
  };
  /// By name, the longest first.
  [[nodiscard]] std::vector<Row> rows() const;
  /// The events in the format of chrome://tracing and Perfetto: {"traceEvents": [...]}.
  [[nodiscard]] std::string chrome_trace() const;

 private:
  std::vector<Timeline> timelines_;
};

}  // namespace strata::sys
