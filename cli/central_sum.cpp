#include "cli/central_sum.h"

#include <algorithm>

#include "cli/owner_ledger.h"
#include "client/ledger_budget.h"
#include "privacy/client_sum.h"
#include "sys/random.h"

namespace strata::cli {
namespace {

// The coordinator's ledger may be that of a data owner as well: no data set of records is called
// so.
std::string federation_of(const Job& job) {
  const std::string& id = job.privacy.ledger.dataset_id;
  return "federation/" + (id.empty() ? job.name : id);
}

class Central final : public CentralSum {
 public:
  Central(const Job& job, const privacy::ClientSumConfig& config, std::optional<OpenLedger> ledger)
      : config_(config), ledger_(std::move(ledger)) {
    for (const auto& client : job.clients) weights_.emplace(client.name, client.weight);
    if (job.privacy.seeded_noise) seed_ = static_cast<std::uint64_t>(job.training.seed);
  }

  Result<void> affordable(const protocol::RunId& run, std::uint32_t round) override {
    if (!ledger_) return {};
    return noted(ledger_->ledger.check_reserve(reservation(run, round)));
  }

  Result<void> charge(const protocol::RunId& run, std::uint32_t round) override {
    if (ledger_) {
      auto receipt = ledger_->ledger.reserve(reservation(run, round));
      if (!receipt) return noted(fail(std::move(receipt).error()));
    }
    charged_ = round;
    return {};
  }

  Result<void> begin(std::uint32_t round, std::size_t values) override {
    round_ = round;
    auto sum = privacy::ClientSum::make(config_, values);
    if (!sum) return fail(std::move(sum).error());
    sum_.emplace(std::move(*sum));
    return {};
  }

  void add(const protocol::ClientId& client, std::span<float> change, tensor::Team& team) override {
    sum_->add(change, weights_.at(client), team);
  }

  Result<void> release(std::span<float> out, tensor::Team& team) override {
    if (std::exchange(charged_, 0) != round_) {
      return fail({.code = ErrorCode::kInternal,
                   .what = "noise is drawn for round " + std::to_string(round_),
                   .rule = "each release has a charge of its own"});
    }
    auto supply = supply_of(team.size());
    if (!supply) return fail(std::move(supply).error());
    auto released = sum_->release(**supply, out, team);
    sum_.reset();
    return released;
  }

  Result<void> released(const protocol::RunId& run, std::uint32_t round,
                        const Sha256& result) override {
    if (!ledger_) return {};
    return noted(
        ledger_->ledger.release(ledger_->round.dataset, client::ledger_name(run), round, result));
  }

  const std::optional<Error>& refusal() const override { return refusal_; }

 private:
  [[nodiscard]] ledger::Reservation reservation(const protocol::RunId& run,
                                                std::uint32_t round) const {
    ledger::Reservation out = ledger_->round;
    out.run = client::ledger_name(run);
    out.round = round;
    return out;
  }

  Result<void> noted(Result<void> done) {
    if (!done && done.error().code == ErrorCode::kBudget) refusal_ = done.error();
    return done;
  }

  [[nodiscard]] Result<std::unique_ptr<noise::NoiseSupply>> supply_of(int threads) const {
    if (!seed_) return noise::make_secure_supply(threads);
    sys::Stream draw =
        sys::Stream(*seed_).at({.round = round_, .purpose = "test noise of the coordinator"});
    const std::uint64_t high = draw.next();
    return noise::make_seeded_test_supply(high << 32 | draw.next(), threads);
  }

  privacy::ClientSumConfig config_;
  std::optional<OpenLedger> ledger_;  // none: the noise is seeded, and nothing is promised
  std::optional<std::uint64_t> seed_;
  std::map<protocol::ClientId, double> weights_;
  std::optional<privacy::ClientSum> sum_;
  std::uint32_t round_ = 0;
  std::uint32_t charged_ = 0;  // the round whose release is paid for; 0: none
  std::optional<Error> refusal_;
};

}  // namespace

double weight_max(const Job& job) {
  double out = job.privacy.weights.kind == "uniform" ? 1.0 : 0.0;
  for (const auto& [client, weight] : job.privacy.weights.values) out = std::max(out, weight);
  return out;
}

Result<std::shared_ptr<CentralSum>> open_central_sum(sys::Disk& disk, const Job& job,
                                                     const privacy::Promise& promise,
                                                     std::size_t values) {
  const auto& p = job.privacy;
  auto bits = privacy::grid_bits_of(promise, p.noise.grid_bits, values, "privacy");
  if (!bits) return fail(std::move(bits).error());
  const privacy::ClientSumConfig config{.clip = p.clip,
                                        .noise_multiplier = promise.noise_multiplier,
                                        .weight_max = weight_max(job),
                                        .denominator = *p.weights.denominator,
                                        .grid_bits = *bits};
  if (auto made = privacy::ClientSum::make(config, 0); !made)  // what can be known now
    return fail(std::move(made).error());
  std::optional<OpenLedger> ledger;
  if (!p.seeded_noise) {
    std::vector<std::string> rows;
    for (const auto& client : job.clients) rows.push_back("client " + client.name);
    auto opened = open_ledger(disk, job, promise, federation_of(job), rows);
    if (!opened) return fail(std::move(opened).error(), "the coordinator's ledger");
    ledger.emplace(std::move(*opened));
  }
  return std::make_shared<Central>(job, config, std::move(ledger));
}

}  // namespace strata::cli
