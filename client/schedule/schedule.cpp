#include "client/schedule/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "config/section.h"

namespace strata::client {
namespace {

double constant(double, double, double) { return 1.0; }

double linear(double step, double warmup, double total) {
  return std::max(0.0, (total - step) / std::max(1.0, total - warmup));
}

double cosine(double step, double warmup, double total) {
  const double progress = (step - warmup) / std::max(1.0, total - warmup);
  return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

constexpr std::array kSchedules{
    ScheduleEntry{"constant", "the peak rate throughout", constant},
    ScheduleEntry{"linear", "falls in a straight line to 0 at the last step", linear},
    ScheduleEntry{"cosine", "falls along half a cosine to 0 at the last step", cosine},
};

Result<void> not_negative(std::string_view key, std::int64_t value) {
  if (value >= 0) return {};
  return fail({.code = ErrorCode::kConfig,
               .what = std::string(key) + " is " + std::to_string(value),
               .where = "training",
               .rule = "a number of steps is not negative"});
}

}  // namespace

std::span<const ScheduleEntry> schedules() { return kSchedules; }

Result<Schedule> Schedule::make(const ScheduleConfig& config, std::int64_t total_steps) {
  if (auto valid = not_negative("warmup_steps", config.warmup_steps); !valid)
    return fail(std::move(valid).error());
  if (auto valid = not_negative("rewarm_steps", config.rewarm_steps); !valid)
    return fail(std::move(valid).error());
  if (auto valid = not_negative("total steps", total_steps); !valid)
    return fail(std::move(valid).error());
  Schedule schedule;
  schedule.warmup_ = config.warmup_steps;
  schedule.rewarm_ = config.rewarm_steps;
  schedule.total_ = total_steps;
  std::vector<std::string> names;
  for (const auto& entry : kSchedules) {
    if (entry.name == config.method) schedule.entry_ = &entry;
    names.emplace_back(entry.name);
  }
  if (schedule.entry_ != nullptr) return schedule;
  Error unknown{.code = ErrorCode::kConfig,
                .what = "unknown schedule \"" + printable(config.method) + "\"",
                .where = "training.schedule",
                .rule = "one of:"};
  for (const auto& name : names) unknown.rule += " " + name;
  if (const auto near = config::nearest(config.method, names))
    unknown.remedy = "did you mean \"" + *near + "\"?";
  return fail(std::move(unknown));
}

double Schedule::factor(std::int64_t step, std::int64_t restarted_at) const {
  const auto position = static_cast<double>(step);
  const auto warmup = static_cast<double>(warmup_);
  const double shape = step < warmup_
                           ? position / std::max(1.0, warmup)
                           : entry_->shape(position, warmup, static_cast<double>(total_));
  const std::int64_t since = step - restarted_at;
  if (restarted_at <= 0 || since >= rewarm_) return shape;
  return shape * static_cast<double>(since + 1) / static_cast<double>(rewarm_ + 1);
}

}  // namespace strata::client
