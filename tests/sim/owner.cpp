#include "sim/owner.h"

#include <fmt/format.h>

#include <algorithm>

#include "client/ledger_budget.h"

namespace strata::sim {
namespace {

constexpr const char* kFolder = "/client/ledger";
constexpr const char* kFile = "/client/ledger/ledger.jsonl";
constexpr std::uint64_t kSteps = 10;
constexpr double kPerRound = 1.0;  // epsilon

// In proportion to the steps: what fits can be counted.
Result<double> epsilon_of(const std::vector<ledger::Charge>& charges, double) {
  double out = 0.0;
  for (const auto& c : charges)
    out += kPerRound * static_cast<double>(c.steps) / static_cast<double>(kSteps);
  return out;
}

// Whole lines that hold `text`.
std::size_t lines_with(const std::string& file, const std::string& text) {
  std::size_t out = 0;
  for (std::size_t at = 0; at < file.size();) {
    const std::size_t end = std::min(file.find('\n', at), file.size());
    const std::string line = file.substr(at, end - at);
    if (line.ends_with("\"}") && line.find(text) != std::string::npos) ++out;
    at = end + 1;
  }
  return out;
}

std::size_t charges_in(const std::string& file) { return lines_with(file, "\"type\":\"reserve\""); }

}  // namespace

// Counts what was granted and refused.
class Owner::Counted final : public client::Budget {
 public:
  Counted(Owner& owner, std::unique_ptr<client::Budget> real)
      : owner_(owner), real_(std::move(real)) {}
  Result<void> reserve(const protocol::RunId& run, std::uint32_t round) override {
    auto paid = real_->reserve(run, round);
    if (paid) ++owner_.granted_;
    if (!paid && paid.error().code == ErrorCode::kBudget) ++owner_.refusals_;
    return paid;
  }
  Result<void> release(const protocol::RunId& run, std::uint32_t round,
                       const Sha256& update) override {
    return real_->release(run, round, update);
  }
  Result<protocol::LedgerMark> mark() override { return real_->mark(); }
  Result<void> check_remembered(const protocol::LedgerMark& seen) override {
    return real_->check_remembered(seen);
  }

 private:
  Owner& owner_;
  std::unique_ptr<client::Budget> real_;
};

Owner::Owner(std::string client, Disk& disk, const MachineClock& clock, std::size_t affordable,
             Complain complain)
    : client_(std::move(client)),
      disk_(disk),
      clock_(clock),
      affordable_(affordable),
      complain_(std::move(complain)) {}

ledger::Tools Owner::tools() const {
  return {.disk = disk_,
          .clock = clock_,
          .epsilon_of = epsilon_of,
          .host = client_,
          .filesystem_of = {},
          .access_of = {},
          .pause = [] {}};
}

Result<ledger::Ledger> Owner::find_ledger() {
  if (auto begun = ledger::Ledger::create_first(tools(), kFolder); !begun)
    return fail(std::move(begun).error());
  auto ledger = ledger::Ledger::open(tools(), kFolder);
  if (ledger || ledger.error().code != ErrorCode::kFileMissing) return ledger;
  // A process ended while it began one. Its owner knows that nothing was spent.
  if (granted_ > 0) complain_(client_ + "'s ledger is gone");
  if (auto begun = ledger::Ledger::create(tools(), kFolder); !begun)
    return fail(std::move(begun).error());
  return ledger::Ledger::open(tools(), kFolder);
}

Result<std::unique_ptr<client::Budget>> Owner::open() {
  auto ledger = find_ledger();
  if (!ledger) return fail(std::move(ledger).error());
  const double cap = affordable_ == 0 ? 1e6 : (static_cast<double>(affordable_) + 0.5) * kPerRound;
  auto rows = ledger->fingerprinter();
  rows.add("a row of " + client_);
  auto added = ledger->add_dataset({.id = client_,
                                    .unit = "example",
                                    .adjacency = "add_remove",
                                    .epsilon_cap = cap,
                                    .delta = 1e-6},
                                   std::move(rows).finish());
  if (!added) return fail(std::move(added).error());
  auto real = client::make_ledger_budget(
      nullptr, std::move(*ledger),
      {.dataset = client_,
       .run = {},
       .charge = {.mechanism = "gaussian", .q = 0.01, .z = 1.0, .steps = kSteps}});
  return std::make_unique<Counted>(*this, std::move(real));
}

void Owner::leaves(const Sha256& update) {
  left_.insert(update);
  const std::string lasting = disk_.lasting(kFile);
  const std::size_t charges = charges_in(lasting);
  if (lines_with(lasting, hex(update)) == 0)
    complain_(fmt::format("{}'s update {} is not in its ledger", client_, hex(update)));
  // A copy that was put back has forgotten what nobody else had heard of.
  auto paid_for = rolled_back_ ? answered_ : left_;
  paid_for.insert(update);
  if (charges < paid_for.size())
    complain_(fmt::format("{} paid for {} updates; {} left", client_, charges, paid_for.size()));
}

void Owner::check() {
  const auto file = disk_.read_text(kFile);
  const std::size_t charges = file ? charges_in(*file) : 0;
  if (affordable_ > 0 && charges > affordable_)
    complain_(fmt::format("{} has spent {} rounds of {}", client_, charges, affordable_));
  if (rolled_back_) return;
  if (charges < granted_ || charges < left_.size())
    complain_(fmt::format("{}'s ledger has {} charges; {} were granted, {} updates left", client_,
                          charges, granted_, left_.size()));
}

bool Owner::put_back(std::size_t lines) {
  const std::string now = disk_.lasting(kFile);
  // Lines are only ever added: an older copy is the beginning of the newest.
  std::size_t end = now.size();
  for (; lines > 0 && end > 0; --lines) {
    const std::size_t newline = end < 2 ? std::string::npos : now.rfind('\n', end - 2);
    end = newline == std::string::npos ? 0 : newline + 1;
  }
  const std::string copy = now.substr(0, end);
  if (rolled_back_ || charges_in(copy) == 0) return false;
  newest_ = now;
  disk_.put(kFile, copy);
  rolled_back_ = true;
  return true;
}

bool Owner::restore() {
  const auto now = disk_.read_text(kFile);
  if (!rolled_back_ || !now || !newest_.starts_with(*now)) return false;
  disk_.put(kFile, newest_);
  rolled_back_ = false;
  return true;
}

}  // namespace strata::sim
