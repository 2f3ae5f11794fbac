#include "coordinator/round_machine.h"

#include <algorithm>

#include "sys/random.h"

namespace strata::coordinator {
namespace {

bool contains(const std::vector<protocol::ClientId>& sorted, const protocol::ClientId& client) {
  return std::binary_search(sorted.begin(), sorted.end(), client);
}

std::string_view phase_name(Phase phase) {
  static constexpr std::string_view kNames[] = {
      "before the run", "between rounds", "in an open round", "in a closed round", "after the run"};
  return kNames[static_cast<std::size_t>(phase)];
}

}  // namespace

RoundMachine::RoundMachine(MachineConfig config) : config_(std::move(config)) {
  std::sort(config_.clients.begin(), config_.clients.end());
}

bool RoundMachine::is_selected(const protocol::ClientId& client) const {
  return contains(selected_, client);
}

bool RoundMachine::follows(const RoundRecord& record) const {
  const auto mine = [&](const auto& r) { return r.round == round_; };
  const auto wanted = [&](const auto& r) {
    return mine(r) && phase_ == Phase::kOpen && is_selected(r.client) &&
           !accepted_.contains(r.client) && !out_.contains(r.client);
  };
  if (const auto* r = std::get_if<RoundOpened>(&record)) {
    return phase_ == Phase::kBetween && mine(*r) && rounds_left() &&
           std::is_sorted(r->selected.begin(), r->selected.end()) &&
           std::all_of(r->selected.begin(), r->selected.end(),
                       [&](const auto& c) { return contains(config_.clients, c); });
  }
  if (const auto* r = std::get_if<UpdateAccepted>(&record)) return wanted(*r);
  if (const auto* r = std::get_if<ClientOut>(&record)) return wanted(*r);
  if (const auto* r = std::get_if<UpdateRejected>(&record)) return wanted(*r);
  if (const auto* r = std::get_if<RoundClosed>(&record)) {
    return phase_ == Phase::kOpen && mine(*r) && r->contributors.size() >= config_.quorum &&
           std::is_sorted(r->contributors.begin(), r->contributors.end()) &&
           std::all_of(r->contributors.begin(), r->contributors.end(),
                       [&](const auto& c) { return accepted_.contains(c); });
  }
  if (const auto* r = std::get_if<RoundCommitted>(&record))
    return phase_ == Phase::kClosed && mine(*r);
  if (const auto* r = std::get_if<UpdateLost>(&record))
    return phase_ == Phase::kOpen && mine(*r) && accepted_.contains(r->client);
  if (const auto* r = std::get_if<RoundReopened>(&record))
    return phase_ == Phase::kOpen && mine(*r);
  if (std::holds_alternative<RunClosed>(record)) return phase_ == Phase::kBetween && !rounds_left();
  return phase_ == Phase::kNotBegun;  // RunOpened
}

Result<void> RoundMachine::apply(const RoundRecord& record) {
  if (!follows(record)) {
    return fail({.code = ErrorCode::kDamaged,
                 .what = std::string(name(record)) + " " + std::string(phase_name(phase_)) +
                         " (round " + std::to_string(round_) + ")",
                 .where = "journal",
                 .rule = "it cannot follow what was journaled before it, for this job",
                 .remedy = "use the job file that began the run"});
  }
  std::visit([this](const auto& r) { take(r); }, record);
  return {};
}

void RoundMachine::take(const RunOpened& r) {
  opened_ = r;
  phase_ = Phase::kBetween;
}

void RoundMachine::take(const RoundOpened& r) {
  selected_ = r.selected;
  accepted_.clear();
  out_.clear();
  rejected_now_.clear();
  contributors_.clear();
  phase_ = Phase::kOpen;
}

void RoundMachine::take(const UpdateAccepted& r) {
  accepted_.emplace(r.client, r);
  last_[r.client] = {r.round, false};
}

void RoundMachine::take(const ClientOut& r) { out_.emplace(r.client, r.reason); }

void RoundMachine::take(const RoundClosed& r) {
  contributors_ = r.contributors;
  for (const auto& client : contributors_) last_[client].used = true;
  phase_ = Phase::kClosed;
}

void RoundMachine::take(const RoundCommitted& r) {
  committed_.push_back(r);
  ++round_;
  phase_ = Phase::kBetween;
}

void RoundMachine::take(const RunClosed& r) {
  state_ = r.state;
  phase_ = Phase::kDone;
}

protocol::Head RoundMachine::head() const {
  if (committed_.empty()) return {0, opened_.base};
  return {committed_.back().round, committed_.back().chain};
}

void RoundMachine::take(const UpdateLost& r) { accepted_.erase(r.client); }

void RoundMachine::take(const RoundReopened&) {
  out_.clear();
  for (const auto& client : rejected_now_) --rejected_[client];
  rejected_now_.clear();
}

void RoundMachine::take(const UpdateRejected& r) {
  out_.emplace(r.client, r.reason);
  ++rejected_[r.client];
  rejected_now_.push_back(r.client);
}

std::uint32_t RoundMachine::rejected(const protocol::ClientId& client) const {
  const auto found = rejected_.find(client);
  return found == rejected_.end() ? 0 : found->second;
}

std::vector<protocol::ClientId> RoundMachine::barred() const {
  std::vector<protocol::ClientId> out;
  for (const auto& [client, count] : rejected_) {
    if (count >= kRejectedMax) out.push_back(client);
  }
  return out;
}

std::vector<protocol::ClientId> RoundMachine::missing() const {
  std::vector<protocol::ClientId> out;
  for (const auto& client : selected_) {
    if (!accepted_.contains(client) && !out_.contains(client)) out.push_back(client);
  }
  return out;
}

Verdict RoundMachine::judge(const protocol::ClientId& client, std::uint32_t round,
                            const Sha256& update) const {
  const bool open = phase_ == Phase::kOpen || phase_ == Phase::kClosed;
  if (round == 0 || round > round_ || (round == round_ && !open)) return Verdict::kUnknown;
  if (round < round_) return Verdict::kLate;
  if (const auto found = accepted_.find(client); found != accepted_.end())
    return found->second.update == update ? Verdict::kDuplicate : Verdict::kConflict;
  if (!is_selected(client)) return Verdict::kNotSelected;
  if (out_.contains(client)) return Verdict::kOut;
  return phase_ == Phase::kOpen ? Verdict::kNew : Verdict::kLate;
}

RoundMachine::Last RoundMachine::last_of(const protocol::ClientId& client) const {
  const auto found = last_.find(client);
  return found == last_.end() ? Last{} : found->second;
}

RoundOpened RoundMachine::next_round(const Sha256& chain) const {
  RoundOpened out{.round = round_, .base = chain, .selected = config_.clients};
  const bool draws = config_.per_round != 0 && config_.per_round < config_.clients.size();
  if (draws) {
    auto draw = sys::Stream(config_.seed).at({.round = round_, .purpose = "client selection"});
    const auto order = draw.permutation(config_.clients.size());
    for (std::size_t i = 0; i < order.size(); ++i) out.selected[i] = config_.clients[order[i]];
  }
  std::erase_if(out.selected, [this](const auto& c) { return rejected(c) >= kRejectedMax; });
  if (draws && out.selected.size() > config_.per_round) out.selected.resize(config_.per_round);
  std::sort(out.selected.begin(), out.selected.end());
  return out;
}

std::optional<RoundClosed> RoundMachine::closing(bool deadline_passed) const {
  if (phase_ != Phase::kOpen || accepted_.size() < config_.quorum) return std::nullopt;
  const bool all = accepted_.size() + out_.size() == selected_.size();
  if (!all && !deadline_passed) return std::nullopt;
  RoundClosed out{.round = round_, .contributors = {}, .by_deadline = !all};
  for (const auto& [client, update] : accepted_) out.contributors.push_back(client);
  return out;
}

bool RoundMachine::hopeless(bool deadline_passed) const {
  if (phase_ != Phase::kOpen) return false;
  const std::size_t possible = deadline_passed ? accepted_.size() : selected_.size() - out_.size();
  return possible < config_.quorum;
}

}  // namespace strata::coordinator
