// Charges before anything leaves, sums over runs, refuses what is too much, and is only added to.
#include "privacy/ledger/ledger.h"

#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "privacy/ledger/ledger_fixture.h"
#include "privacy/ledger/lines.h"
#include "support/process.h"

namespace strata::ledger {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

ErrorCode code_of(const Result<void>& result) {
  return result ? throw std::logic_error("no error") : result.error().code;
}
template <class T>
Error error_of(const Result<T>& result) {
  return result ? throw std::logic_error("no error") : result.error();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}
std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const auto& line : lines) out += line + "\n";
  return out;
}

TEST_F(LedgerTest, IsBegunByItsOwnerOnly) {
  const auto none = Ledger::open(tools(), folder_);
  EXPECT_EQ(error_of(none).code, ErrorCode::kFileMissing);
  EXPECT_THAT(error_of(none).line(), HasSubstr("--new-dataset"));
  EXPECT_FALSE(disk_.exists(file_)) << "looking begins nothing";
  ASSERT_TRUE(Ledger::create(tools(), folder_));
  EXPECT_EQ(code_of(Ledger::create(tools(), folder_)), ErrorCode::kFileExists);
}

TEST_F(LedgerTest, ADataSetIsMadeKnownFirst) {
  Ledger ledger = created();
  EXPECT_EQ(error_of(ledger.reserve(round_of("wards", 1))).code, ErrorCode::kConfig);
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards"), rows(ledger, 0, 10)));
  EXPECT_TRUE(ledger.reserve(round_of("wards", 1)));
}

TEST_F(LedgerTest, SumsChargesAcrossRoundsRunsAndRestarts) {
  {
    Ledger ledger = with_wards();
    const auto first = ledger.reserve(round_of("wards", 1));
    ASSERT_TRUE(first) << first.error().line();
    EXPECT_NEAR(first->epsilon_after, 1.0, 1e-12);
    EXPECT_NEAR(ledger.reserve(round_of("wards", 2))->epsilon_after, 2.0, 1e-12);
    EXPECT_NEAR(ledger.reserve(round_of("wards", 1, 10, "run-2"))->epsilon_after, 3.0, 1e-12);
  }
  Ledger again = opened();
  EXPECT_NEAR(again.spent("wards").value(), 3.0, 1e-12);
  EXPECT_NEAR(again.reserve(round_of("wards", 2, 10, "run-2"))->epsilon_after, 4.0, 1e-12);
}

TEST_F(LedgerTest, RefusesWhatWouldBeTooMuchAndSaysHowMuchFits) {
  Ledger ledger = with_wards(3.05);
  for (int round = 1; round <= 3; ++round) ASSERT_TRUE(ledger.reserve(round_of("wards", round)));
  const Head before = ledger.head();
  const Error e = error_of(ledger.reserve(round_of("wards", 4)));
  EXPECT_EQ(e.code, ErrorCode::kBudget);
  EXPECT_EQ(e.line(),
            "budget: dataset wards would reach eps 4.00 > cap 3.05 (delta 1e-6) after round 4; "
            "3 rounds fit");
  EXPECT_EQ(ledger.head(), before) << "a refusal writes nothing";
  EXPECT_NEAR(ledger.spent("wards").value(), 3.0, 1e-12);
  EXPECT_EQ(error_of(opened().reserve(round_of("wards", 4))).code, ErrorCode::kBudget);
}

TEST_F(LedgerTest, ACapMayBeReachedExactly) {
  epsilon_of_ = [](const std::vector<Charge>& charges, double) {
    return Result<double>(static_cast<double>(charges.size()));
  };
  Ledger ledger = with_wards(2.0);
  EXPECT_TRUE(ledger.reserve(round_of("wards", 1)));
  EXPECT_TRUE(ledger.reserve(round_of("wards", 2)));
  EXPECT_FALSE(ledger.reserve(round_of("wards", 3)));
}

TEST_F(LedgerTest, NumbersInARefusalCanBeToldApart) {
  epsilon_of_ = [](const std::vector<Charge>&, double) { return Result<double>(8.00003); };
  Ledger ledger = with_wards(8.0);
  EXPECT_THAT(error_of(ledger.reserve(round_of("wards", 1))).line(),
              HasSubstr("eps 8.00003 > cap 8.00000"));
}

TEST_F(LedgerTest, WhatCannotBeBilledIsRefused) {
  for (const double epsilon : {std::nan(""), HUGE_VAL}) {
    disk_ = sim::Disk(sys::Stream(1));
    epsilon_of_ = [epsilon](const std::vector<Charge>&, double) { return Result<double>(epsilon); };
    Ledger ledger = with_wards();
    EXPECT_EQ(error_of(ledger.reserve(round_of("wards", 1))).code, ErrorCode::kBudget);
  }
  disk_ = sim::Disk(sys::Stream(1));
  epsilon_of_ = [](const std::vector<Charge>&, double) -> Result<double> {
    return fail({.code = ErrorCode::kUnsupported, .what = "no such mechanism"});
  };
  Ledger ledger = with_wards();
  EXPECT_EQ(error_of(ledger.reserve(round_of("wards", 1))).code, ErrorCode::kUnsupported);
  EXPECT_EQ(opened().head().records, 2u) << "nothing was written";
}

TEST_F(LedgerTest, TheSmallestOfSeveralCapsDecides) {
  Ledger ledger = with_wards(8.0);
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1, 30, "earlier")));
  Reservation next = round_of("wards", 1, 20);
  next.caps = {{.whose = "run", .epsilon = 2.5, .delta = 1e-6, .this_run_only = true},
               {.whose = "plan", .epsilon = 6.0, .delta = 1e-5}};
  ASSERT_TRUE(ledger.reserve(next)) << "the run's own cap leaves out the earlier run";
  next.round = 2;
  const Error e = error_of(ledger.reserve(next));
  EXPECT_EQ(e.line(),
            "budget: dataset wards would reach eps 4.00 > cap 2.50 (delta 1e-6) after round 2; "
            "1 round fits; the cap is that of the run");
  next.caps = {{.whose = "plan", .epsilon = 6.0, .delta = 1e-5}};
  EXPECT_THAT(error_of(ledger.reserve(next)).line(), HasSubstr("eps 7.00 > cap 6.00 (delta 1e-5)"));
}

TEST_F(LedgerTest, EachCapIsJudgedAtItsOwnDelta) {
  epsilon_of_ = [](const std::vector<Charge>& charges, double delta) {
    return Result<double>(static_cast<double>(charges.size()) * -std::log10(delta));
  };
  Ledger ledger = with_wards(8.0);
  Reservation next = round_of("wards", 1);
  next.caps = {{.whose = "plan", .epsilon = 8.0, .delta = 1e-9}};
  EXPECT_THAT(error_of(ledger.reserve(next)).line(), HasSubstr("eps 9.00 > cap 8.00 (delta 1e-9)"));
  next.caps.clear();
  EXPECT_NEAR(ledger.reserve(next)->epsilon_after, 6.0, 1e-9);
}

TEST_F(LedgerTest, TellsHowManyRoundsWouldFit) {
  Ledger ledger = with_wards(8.05);
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  EXPECT_EQ(ledger.rounds_that_fit(round_of("wards", 2), 100).value(), 7u);
  EXPECT_EQ(ledger.rounds_that_fit(round_of("wards", 2), 5).value(), 5u);
  EXPECT_EQ(ledger.rounds_that_fit(round_of("wards", 2, 200), 5).value(), 0u);
  EXPECT_NEAR(ledger.spent("wards").value(), 1.0, 1e-12);
}

TEST_F(LedgerTest, AReleaseNeedsAChargeAndTheSameBytesNeedNoOther) {
  Ledger ledger = with_wards();
  const Sha256 first = sha256(bytes_of("first")), second = sha256(bytes_of("second"));
  EXPECT_EQ(code_of(ledger.release("wards", "run-1", 1, first)), ErrorCode::kBudget);
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  EXPECT_EQ(code_of(ledger.release("wards", "run-1", 2, first)), ErrorCode::kBudget);
  EXPECT_EQ(code_of(ledger.release("wards", "run-2", 1, first)), ErrorCode::kBudget);
  ASSERT_TRUE(ledger.release("wards", "run-1", 1, first));
  const Head after = ledger.head();
  EXPECT_TRUE(ledger.release("wards", "run-1", 1, first));
  EXPECT_TRUE(opened().release("wards", "run-1", 1, first)) << "after a restart too";
  EXPECT_EQ(opened().head(), after);
  EXPECT_EQ(code_of(ledger.release("wards", "run-1", 1, second)), ErrorCode::kBudget);
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1))) << "trained anew, charged anew";
  EXPECT_TRUE(ledger.release("wards", "run-1", 1, second));
  EXPECT_NEAR(ledger.spent("wards").value(), 2.0, 1e-12);
}

TEST_F(LedgerTest, WhatIsGivenUpIsNotGivenBack) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  ASSERT_TRUE(ledger.abandon("wards", "run-1", 1));
  EXPECT_NEAR(opened().spent("wards").value(), 1.0, 1e-12);
  EXPECT_EQ(code_of(ledger.release("wards", "run-1", 1, Sha256{})), ErrorCode::kBudget);
}

TEST_F(LedgerTest, AClosedDataSetTakesNoCharge) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  ASSERT_TRUE(ledger.close("wards"));
  EXPECT_EQ(error_of(opened().reserve(round_of("wards", 2))).code, ErrorCode::kBudget);
  EXPECT_NEAR(opened().spent("wards").value(), 1.0, 1e-12);
}

TEST_F(LedgerTest, NonsenseIsRefusedBeforeItIsWritten) {
  Ledger ledger = with_wards();
  const Head before = ledger.head();
  const auto with = [](auto change) {
    Reservation r = round_of("wards", 1);
    change(r);
    return r;
  };
  for (const auto& r :
       {with([](auto& x) { x.charge.q = 0.0; }), with([](auto& x) { x.charge.q = 1.1; }),
        with([](auto& x) { x.charge.z = 0.0; }), with([](auto& x) { x.charge.z = std::nan(""); }),
        with([](auto& x) { x.charge.steps = 0; }), with([](auto& x) { x.run = ""; }),
        with([](auto& x) { x.run = "a\xff"; }), with([](auto& x) {
          x.caps = {{"run", std::nan(""), 1e-6}};
        })}) {
    EXPECT_EQ(error_of(ledger.reserve(r)).code, ErrorCode::kConfig);
  }
  Dataset bad = terms_of("other");
  bad.delta = 1.0;
  EXPECT_EQ(code_of(ledger.add_dataset(bad, rows(ledger, 50, 60))), ErrorCode::kConfig);
  EXPECT_EQ(code_of(ledger.add_dataset(terms_of("other"), rows(ledger, 0, 0))), ErrorCode::kData);
  EXPECT_EQ(ledger.head(), before);
}

TEST_F(LedgerTest, TwoLedgersOnOneFolderSumTheirCharges) {
  Ledger a = with_wards(8.0);
  Ledger b = opened();
  for (int round = 1; round <= 4; ++round) {
    ASSERT_TRUE(a.reserve(round_of("wards", round, 10, "a")));
    ASSERT_TRUE(b.reserve(round_of("wards", round, 10, "b")));
  }
  EXPECT_FALSE(a.reserve(round_of("wards", 5, 10, "a")));
  EXPECT_FALSE(b.reserve(round_of("wards", 5, 10, "b")));
  EXPECT_NEAR(b.spent("wards").value(), 8.0, 1e-12);
}

// Two processes that charge at once, on a real disk.
TEST_F(LedgerTest, ProcessesThatChargeAtOnceSumTheirCharges) {
  const support::ScratchFolder scratch;
  const auto disk = sys::make_posix_disk();
  const auto folder = scratch.path() / "owner" / "ledger";
  const Tools real{.disk = *disk,
                   .clock = clock_,
                   .epsilon_of = tenth_of_steps,
                   .host = {},
                   .filesystem_of = {},
                   .pause = [] { ::usleep(500); }};
  ASSERT_TRUE(Ledger::create(real, folder));
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(folder / "key").permissions(),
            perms::owner_read | perms::owner_write);
  Ledger ledger = Ledger::open(real, folder).value();
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards", 2.5 + 1e-9), rows(ledger, 0, 10)));
  std::vector<pid_t> children;
  for (int process = 0; process < 2; ++process) {
    children.push_back(::fork());
    ASSERT_GE(children.back(), 0);
    if (children.back() != 0) continue;
    auto own = Ledger::open(real, folder);
    int granted = 0;
    for (std::uint64_t round = 1; own && round <= 20; ++round)
      granted += own->reserve(round_of("wards", round, 1, std::to_string(process))) ? 1 : 0;
    ::_exit(granted);
  }
  int granted = 0;
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    granted += WEXITSTATUS(status);
  }
  EXPECT_EQ(granted, 25);
  EXPECT_NEAR(ledger.spent("wards").value(), 2.5, 1e-9);
}

TEST_F(LedgerTest, SomebodyElsesLockIsWaitedForAndThenNamed) {
  Ledger ledger = with_wards();
  auto lock = disk_.lock(folder_ / "lock").value();
  EXPECT_EQ(error_of(ledger.reserve(round_of("wards", 1))).code, ErrorCode::kLocked);
  Tools patient = tools();
  int waits = 0;
  patient.pause = [&] {
    if (++waits == 3) lock.reset();
  };
  auto other = Ledger::open(patient, folder_);
  EXPECT_TRUE(other);
  EXPECT_EQ(waits, 3);
}

TEST_F(LedgerTest, ATornLastLineIsLeftOutAndWrittenOver) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  const std::string kept = text();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 2)));
  const std::string whole = text();
  for (std::size_t n = kept.size(); n < whole.size(); ++n) {
    write(whole.substr(0, n));
    // Without its newline alone the line is whole, and what it charged is spent.
    const double spent = n + 1 == whole.size() ? 2.0 : 1.0;
    Ledger torn = opened();
    EXPECT_NEAR(torn.spent("wards").value(), spent, 1e-12) << n;
    ASSERT_TRUE(torn.reserve(round_of("wards", 3)));
    EXPECT_NEAR(opened().spent("wards").value(), spent + 1.0, 1e-12) << n;
  }
  write(kept + std::string(4000, '\0'));
  EXPECT_NEAR(opened().spent("wards").value(), 1.0, 1e-12);
  ASSERT_TRUE(opened().reserve(round_of("wards", 2)));
  EXPECT_EQ(lines_of(text()).size(), lines_of(kept).size() + 1) << "nothing of it is left";
  write(kept + "{\"seq\":3}\n");
  EXPECT_NEAR(opened().spent("wards").value(), 1.0, 1e-12);
}

TEST_F(LedgerTest, AnUpdateWhoseChargeWasTornDoesNotLeave) {
  Ledger ledger = with_wards();
  const std::string kept = text();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  write(kept + text().substr(kept.size(), 50));
  EXPECT_EQ(code_of(opened().release("wards", "run-1", 1, Sha256{})), ErrorCode::kBudget);
}

class LedgerDamage : public LedgerTest {
 protected:
  // Created, opened, three rounds, the first released.
  void SetUp() override {
    Ledger ledger = with_wards();
    for (int round = 1; round <= 3; ++round) {
      ASSERT_TRUE(ledger.reserve(round_of("wards", round)));
      if (round == 1) {
        ASSERT_TRUE(ledger.release("wards", "run-1", 1, Sha256{}));
      }
    }
    lines_ = lines_of(text());
    ASSERT_EQ(lines_.size(), 6u);
  }
  Error error() { return error_of(Ledger::open(tools(), folder_)); }
  std::vector<std::string> lines_;
};

TEST_F(LedgerDamage, AnEditOfAMiddleLineIsRefusedNamingIt) {
  const std::string whole = text();
  for (std::size_t at = 0; at < whole.size() - lines_.back().size() - 1; ++at) {
    std::string edited = whole;
    edited[at] ^= 1;
    write(edited);
    const auto line = static_cast<long>(std::count(whole.begin(), whole.begin() + long(at), '\n'));
    const auto opened = Ledger::open(tools(), folder_);
    ASSERT_FALSE(opened) << at;
    EXPECT_EQ(opened.error().code, ErrorCode::kDamaged) << at;
    EXPECT_THAT(opened.error().where, EndsWith("line " + std::to_string(line + 1))) << at;
  }
}

TEST_F(LedgerDamage, AnEditWithARightChecksumIsRefusedNamingIt) {
  // A foreign hand that lowers the steps of round 2 and makes the line whole again.
  auto fields = nlohmann::ordered_json::parse(lines_[4]);
  ASSERT_EQ(fields["round"], 2);
  fields["steps"] = 1;
  fields.erase("crc");
  Lines before;
  before.all.resize(4);
  before.all.back().hash = sha256(bytes_of(lines_[3]));
  auto edited = lines_;
  edited[4] = make_line(fields, before);
  edited[4].pop_back();
  write(joined(edited));
  const Error e = error();
  EXPECT_EQ(e.code, ErrorCode::kDamaged);
  EXPECT_THAT(e.where, EndsWith("line 5"));
}

TEST_F(LedgerDamage, LinesThatAreGoneCameInOrChangedPlacesAreRefused) {
  const auto check = [&](std::vector<std::string> lines, const std::string& place) {
    write(joined(lines));
    const auto opened = Ledger::open(tools(), folder_);
    ASSERT_FALSE(opened) << place;
    EXPECT_EQ(opened.error().code, ErrorCode::kDamaged);
    EXPECT_THAT(opened.error().where, EndsWith(place));
  };
  auto gone = lines_;
  gone.erase(gone.begin() + 2);
  check(gone, "line 3");
  auto twice = lines_;
  twice.insert(twice.begin() + 2, twice[2]);
  check(twice, "line 4");
  auto swapped = lines_;
  std::swap(swapped[4], swapped[5]);
  check(swapped, "line 5");
  auto blank = lines_;
  blank.insert(blank.begin() + 3, "");
  check(blank, "line 4");
  auto headless = lines_;
  headless.erase(headless.begin());
  check(headless, "line 1");
}

TEST_F(LedgerDamage, AnotherKeyWouldNotKnowTheRows) {
  const auto key = disk_.read_text(folder_ / "key").value();
  ASSERT_TRUE(RowKey::draw()->write(disk_, folder_ / "key"));
  EXPECT_EQ(error().code, ErrorCode::kDamaged);
  ASSERT_TRUE(disk_.remove_all(folder_ / "key"));
  EXPECT_EQ(error().code, ErrorCode::kDamaged);
  EXPECT_THAT(disk_.read_text(file_).value(), Not(HasSubstr(key.substr(0, 64))));
}

TEST_F(LedgerDamage, ANewerFormatIsNamed) {
  auto fields = nlohmann::ordered_json::parse(lines_[0]);
  fields["format"] = 2;
  fields.erase("crc");
  write(make_line(fields, {}));
  EXPECT_EQ(error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(error().line(), HasSubstr("format 2"));
}

TEST_F(LedgerDamage, ACopyPutBackIsNoticedByWhoeverSawMore) {
  Ledger running = opened();
  const std::string backup = text();
  ASSERT_TRUE(running.reserve(round_of("wards", 4)));
  const Head seen = running.head();
  EXPECT_TRUE(opened().check_remembered(seen));
  write(backup);
  // The process that is still running, the one that remembers the head, and nobody else.
  EXPECT_EQ(error_of(running.reserve(round_of("wards", 5))).code, ErrorCode::kDamaged);
  Ledger restored = opened();
  const auto shorter = restored.check_remembered(seen);
  EXPECT_EQ(code_of(shorter), ErrorCode::kDamaged);
  EXPECT_THAT(shorter.error().line(), HasSubstr("rolled back: it has 6 records of 7"));
  // As long again, but another history.
  ASSERT_TRUE(restored.reserve(round_of("wards", 9)));
  EXPECT_EQ(restored.head().records, seen.records);
  EXPECT_EQ(code_of(restored.check_remembered(seen)), ErrorCode::kDamaged);
  ASSERT_TRUE(restored.reserve(round_of("wards", 10)));
  EXPECT_EQ(code_of(restored.check_remembered(seen)), ErrorCode::kDamaged);
  EXPECT_TRUE(restored.check_remembered({}));
}

TEST_F(LedgerDamage, ALedgerThatIsGoneIsNotBegunAgainUnasked) {
  Ledger running = opened();
  ASSERT_TRUE(disk_.remove_all(file_));
  EXPECT_EQ(error_of(running.reserve(round_of("wards", 4))).code, ErrorCode::kDamaged);
  EXPECT_EQ(error().code, ErrorCode::kFileMissing);
  EXPECT_FALSE(disk_.exists(file_));
}

TEST_F(LedgerTest, LinesAreJsonForOtherPrograms) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.reserve(round_of("wards", 7)));
  const auto record = nlohmann::json::parse(lines_of(text()).back());
  EXPECT_EQ(record["type"], "reserve");
  EXPECT_EQ(record["round"], 7);
  EXPECT_EQ(record["steps"], 10);
  EXPECT_EQ(record["z"], 1.1);
  EXPECT_EQ(record["host"], "clinic");
}

// All that a line says but its nonce can be guessed by who knows the job: the hashes of equal
// ledgers, which others see, must differ all the same.
TEST_F(LedgerTest, ItsHashesDoNotFollowFromWhatCanBeGuessed) {
  std::set<std::string> nonces, heads;
  constexpr int kLedgers = 4;
  for (int i = 0; i < kLedgers; ++i) {
    ASSERT_TRUE(disk_.remove_all(file_));  // the key stays
    Ledger ledger = with_wards();
    const auto receipt = ledger.reserve(round_of("wards", 1));
    ASSERT_TRUE(receipt);
    heads.insert(hex(receipt->head.hash));
    std::istringstream lines(text());
    for (std::string line; std::getline(lines, line);) {
      const std::string nonce = nlohmann::json::parse(line).at("nonce");
      EXPECT_EQ(nonce.size(), 32u);
      EXPECT_EQ(nonce.find_first_not_of("0123456789abcdef"), std::string::npos);
      nonces.insert(nonce);
    }
  }
  EXPECT_EQ(heads.size(), 4u);
  EXPECT_EQ(nonces.size(), 3u * kLedgers);
}

// Clients of one owner that start for the first time, side by side.
TEST_F(LedgerTest, ManyMayBeTheFirstAtOnce) {
  const support::ScratchFolder scratch;
  const auto folder = scratch.path() / "state" / "ledger";
  const auto disk = sys::make_posix_disk();
  std::vector<std::string> problems(8);
  {
    std::vector<std::jthread> owners;
    for (auto& problem : problems) {
      owners.emplace_back([&] {
        const Tools own{
            .disk = *disk, .clock = clock_, .epsilon_of = tenth_of_steps, .filesystem_of = {}};
        auto ready = Ledger::create_first(own, folder);
        auto opened = ready ? Ledger::open(own, folder) : fail(std::move(ready).error());
        if (!opened) problem = opened.error().line();
      });
    }
  }
  for (const auto& problem : problems) EXPECT_EQ(problem, "");
}

TEST_F(LedgerTest, AFolderWithoutALedgerIsForItsOwnerToBegin) {
  ASSERT_TRUE(disk_.create_directories(folder_));
  ASSERT_TRUE(Ledger::create_first(tools(), folder_));
  const auto opened = Ledger::open(tools(), folder_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kFileMissing);
}

}  // namespace
}  // namespace strata::ledger
