#pragma once
// The learning rate over a run, as a factor of its peak. Steps are counted from 0 over the whole
// run; factors equal transformers' get_*_schedule_with_warmup, whose first step has factor 0 when
// there is a warm-up.
//   factor(step) = shape(step) * rewarm(step - restarted_at)
// After a restart (fresh factors, empty moments) the rate can rise again over `rewarm_steps`: the
// k-th step since then (from 0) gets (k + 1) / (rewarm_steps + 1), so that no step of a short round
// is lost to a rate of 0. A value; no thread rules.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace strata::client {

struct ScheduleConfig {
  std::string method = "constant";
  std::int64_t warmup_steps = 0;
  std::int64_t rewarm_steps = 0;  // after each restart but the start of the run
};

struct ScheduleEntry {
  std::string_view name;
  std::string_view help;
  /// Factor of `step` behind the warm-up; `total` steps in the whole run.
  double (*shape)(double step, double warmup, double total);
};

/// Every schedule, in the order shown to users.
[[nodiscard]] std::span<const ScheduleEntry> schedules();

class Schedule {
 public:
  /// kConfig for an unknown method (with the nearest name) or negative counts. `total_steps` of the
  /// whole run.
  [[nodiscard]] static Result<Schedule> make(const ScheduleConfig& config,
                                             std::int64_t total_steps);

  /// `restarted_at`: the step at which the present round began afresh; 0 when there was no restart.
  [[nodiscard]] double factor(std::int64_t step, std::int64_t restarted_at = 0) const;

 private:
  Schedule() = default;
  const ScheduleEntry* entry_ = nullptr;
  std::int64_t warmup_ = 0;
  std::int64_t rewarm_ = 0;
  std::int64_t total_ = 0;
};

}  // namespace strata::client
