// Killed at every call to the disk, with and without the machine, on disks that are full or fail:
// what the ledger says is never below what was granted.
#include "privacy/ledger/ledger_fixture.h"

namespace strata::ledger {
namespace {

struct Crash {};

class LedgerKilled : public LedgerTest {
 protected:
  // Ends the process, as it were, at the n-th call from now that changes the disk.
  void kill_at(int n) {
    disk_.before_change = [left = n](const std::string&) mutable {
      if (--left == 0) throw Crash{};
    };
  }
  void come_back(bool machine_fell) {
    disk_.before_change = nullptr;
    if (machine_fell) {
      disk_.fall();
    } else {
      disk_.unlock();
    }
  }
  /// Begins what is not there and charges rounds, counting what was asked for and what was granted.
  void work(int rounds) {
    const auto found = Ledger::open(tools(), folder_);
    if (!found && found.error().code == ErrorCode::kFileMissing) {
      ASSERT_EQ(granted_, 0) << "a ledger that granted something is gone";
      if (!Ledger::create(tools(), folder_)) return;
    }
    auto ledger = Ledger::open(tools(), folder_);
    if (!ledger) {
      ASSERT_NE(ledger.error().code, ErrorCode::kDamaged) << ledger.error().line();
      return;
    }
    if (!ledger->add_dataset(terms_of("wards", 1e6), rows(*ledger, 0, 10))) return;
    for (int i = 0; i < rounds; ++i) {
      const auto round = static_cast<std::uint64_t>(++asked_);
      if (!ledger->reserve(round_of("wards", round))) return;
      ++granted_;
      if (!ledger->release("wards", "run-1", round, Sha256{})) return;
    }
  }
  /// Whole charges that a fresh process reads.
  int recorded() {
    auto ledger = Ledger::open(tools(), folder_);
    if (!ledger) {
      EXPECT_EQ(ledger.error().code, ErrorCode::kFileMissing) << ledger.error().line();
      return 0;
    }
    const auto spent = ledger->spent("wards");
    return spent ? static_cast<int>(std::lround(*spent)) : 0;
  }

  int asked_ = 0;
  int granted_ = 0;
};

TEST_F(LedgerKilled, AtEveryCallItNeverForgetsAChargeThatWasGranted) {
  int kills = 0;
  for (const bool machine_fell : {false, true}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      for (int n = 1, more = true; more; ++n) {
        disk_ = sim::Disk(sys::Stream(seed));
        asked_ = granted_ = 0;
        more = false;
        // Twice: what a kill left is met by a kill.
        for (const int at : {n, 1 + static_cast<int>(seed + n) % 12}) {
          kill_at(at);
          try {
            work(3);
          } catch (const Crash&) {
            more = more || at == n;
            ++kills;
          }
          come_back(machine_fell);
          ASSERT_GE(recorded(), granted_) << seed << " " << n << " " << machine_fell;
          ASSERT_LE(recorded(), asked_) << seed << " " << n << " " << machine_fell;
        }
        const int before = granted_;
        work(2);
        ASSERT_EQ(granted_, before + 2) << seed << " " << n << " " << machine_fell;
        ASSERT_GE(recorded(), granted_);
      }
    }
  }
  EXPECT_GT(kills, 1000);
}

TEST_F(LedgerKilled, OnADiskWhoseFlushesFail) {
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    disk_ = sim::Disk(sys::Stream(seed));
    asked_ = granted_ = 0;
    disk_.flush_fails = 0.15;
    for (int process = 0; process < 6; ++process) {
      work(3);
      come_back(process % 2 == 0);
    }
    disk_.flush_fails = 0.0;
    refused += asked_ - granted_;
    ASSERT_GE(recorded(), granted_) << seed;
    ASSERT_LE(recorded(), asked_) << seed;
  }
  EXPECT_GT(refused, 50);
}

TEST_F(LedgerKilled, AFullDiskGrantsNothingAndTheNextTryFindsTheLedgerWhole) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  disk_.full = true;
  const auto refused = ledger.reserve(round_of("wards", 2));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kDiskFull);
  disk_.full = false;
  EXPECT_NEAR(ledger.spent("wards").value(), 1.0, 1e-12);
  ASSERT_TRUE(ledger.reserve(round_of("wards", 2)));
  EXPECT_NEAR(opened().spent("wards").value(), 2.0, 1e-12);
}

TEST_F(LedgerKilled, AfterAFailedFlushNothingIsTakenUntilItIsReadAnew) {
  Ledger ledger = with_wards();
  disk_.flush_fails = 1.0;
  ASSERT_FALSE(ledger.reserve(round_of("wards", 1)));
  disk_.flush_fails = 0.0;
  const auto refused = ledger.reserve(round_of("wards", 2));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  EXPECT_TRUE(opened().reserve(round_of("wards", 2)));
}

}  // namespace
}  // namespace strata::ledger
