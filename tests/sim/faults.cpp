#include "sim/federation.h"

namespace strata::sim {

void Federation::every(double seconds, const std::function<void()>& task) {
  if (seconds <= 0.0) return;
  const double next = time_.seconds() + draw_.uniform(0.2, 1.8) * seconds;
  if (next > s_.faults_end) return;
  time_.at(next, [this, seconds, task] {
    task();
    every(seconds, task);
  });
}

void Federation::plan_faults() {
  plan_crashes_at_calls();
  every(s_.crash_every, [this] {
    const std::size_t p = some_process();
    if (alive(p)) crash(p, draw_.uniform() < s_.machine_share);
  });
  plan_disk_faults();
  every(s_.cut_every, [this] {
    const std::string name = names_[draw_.below(names_.size())];
    const auto cut = s_.cut_all ? std::set<std::string>(names_.begin(), names_.end())
                                : std::set<std::string>{name};
    network_.cut = cut;
    time_.at(time_.seconds() + draw_.uniform(1.0, 60.0), [this] { network_.cut.clear(); });
  });
  plan_put_backs();
  plan_clock_jumps();
  time_.at(s_.faults_end, [this] { end_faults(); });
}

void Federation::plan_crashes_at_calls() {
  if (s_.crash_at_call <= 0.0) return;
  for (auto& [p, machine] : machines_) {
    // Each process ends so at most once in a while, see crash().
    const auto arm = [this, disk = &machine->disk] {
      disk->before_change = [this](const std::string& what) {
        if (!faulty() || draw_.uniform() >= s_.crash_at_call) return;
        note("ends at " + what);
        throw Crash{draw_.uniform() < s_.machine_share};
      };
    };
    arm();
    every(10.0, arm);
  }
}

void Federation::plan_disk_faults() {
  for (auto& [p, machine] : machines_) {
    machine->disk.flush_fails = s_.flush_fails;
    machine->disk.slow = s_.slow_disk;
    machine->disk.took = [this, clock = &machine->clock](double seconds) {
      clock->wait(seconds);
      verdict_.waited += seconds;
    };
  }
  every(s_.full_every, [this] {
    Disk* disk = &machines_.at(some_process())->disk;
    disk->full = true;
    time_.at(time_.seconds() + draw_.uniform(1.0, 15.0), [disk] { disk->full = false; });
  });
  every(s_.broken_every, [this] {
    Disk* disk = &machines_.at(some_process())->disk;
    disk->broken = true;
    time_.at(time_.seconds() + draw_.uniform(0.5, 4.0), [disk] { disk->broken = false; });
  });
  every(s_.rot_every, [this] {
    if (!coordinator_ || coordinator_->server->machine().phase() != coordinator::Phase::kOpen)
      return;
    if (!machines_.at(kCoordinator)->disk.rot("/run/state/updates/open")) return;
    ++verdict_.rotten;
    crash(kCoordinator, false);
  });
}

// A copy of a ledger is put back while no process has it open.
void Federation::plan_put_backs() {
  every(s_.copy_back_every, [this] {
    const std::size_t p = 1 + draw_.below(names_.size());
    if (alive(p)) crash(p, false);
    if (!owners_.at(p)->put_back(1 + draw_.below(4))) return;
    note(names_[p - 1] + "'s ledger is put back");
    ++verdict_.put_back;
  });
}

// From a stream of their own and without a word: nothing else may be different for them.
void Federation::plan_clock_jumps() {
  if (!s_.wall_jumps) return;
  sys::Stream draw = sys::Stream(s_.seed).at({.purpose = "wall clocks"});
  for (auto& [p, machine] : machines_)
    machine->clock.set_wall([draw, item = p](double now) {
      constexpr double kEvery = 7.0, kHour = 3600.0;
      sys::Stream own = draw.at({.step = static_cast<std::uint32_t>(now / kEvery), .item = item});
      return own.below(2) == 0 ? kHour : -kHour;
    });
}

void Federation::end_faults() {
  network_.cut.clear();
  network_.faults.break_chance = 0.0;
  network_.faults.slow = 0.0;
  for (auto& [p, machine] : machines_) {
    Disk& disk = machine->disk;
    disk.full = disk.broken = false;
    disk.flush_fails = disk.slow = 0.0;
    disk.before_change = nullptr;
  }
}

}  // namespace strata::sim
