#include "cli/mesh_member.h"

#include <fmt/format.h>

#include <utility>

#include "cli/run_folder.h"
#include "model/fold.h"
#include "protocol/update_part.h"

namespace strata::cli {

MeshMember::MeshMember(const Hosting& hosting, const Job& job, sys::Disk& disk,
                       std::filesystem::path directory)
    : hosting_(hosting), job_(job), disk_(disk), directory_(std::move(directory)) {}

Result<void> MeshMember::check_members() const {
  const auto file = directory_ / kStateFolder / "members";
  const std::string now = std::to_string(hosting_.members);
  const auto differs = [&](const std::string& before) {
    return fail(
        {.code = ErrorCode::kConfig,
         .what = "was begun by " + printable(before, 20) + " ranks with clients, not " + now,
         .where = directory_.string(),
         .rule = "every rank has the state of its clients",
         .remedy = "start it with as many ranks as before, or anew with --force"});
  };
  if (!disk_.exists(file)) {
    if (hosting_.members == 1) return {};
    if (disk_.exists(directory_ / kStateFolder / "clients")) return differs("1");
    return disk_.write_atomic(file, now);
  }
  auto before = disk_.read_text(file);
  if (!before) return fail(std::move(before).error());
  return *before == now ? Result<void>{} : differs(*before);
}

void MeshMember::share_out(coordinator::ServerConfig& config,
                           std::span<const coordinator::PlannedUpdate> planned,
                           const model::Model& base,
                           const std::function<bool(const protocol::ClientId&)>& here,
                           std::function<const coordinator::RoundMachine&()> machine) {
  if (!hosting_.peers || !scatters(job_, planned, base, hosting_.members)) return;
  shards_.emplace(planned, base, hosting_.members);
  for (auto& [client, outline] : config.expected) {
    if (here(client)) continue;
    auto part = std::make_shared<coordinator::Outline>(*outline);
    std::erase_if(
        *part, [&](const auto& entry) { return shards_->owner(entry.first) != hosting_.member; });
    outline = std::move(part);
  }
  config.complete = [this, machine = std::move(machine), shapes = model::tensor_shapes(base)](
                        std::uint32_t round, adapter::Packet& packet,
                        std::function<void()> again) -> Result<bool> {
    if (auto all = all_took_part(machine(), round, "aggregation.exchange"); !all)
      return fail(std::move(all).error());
    keep_own(packet, *shards_, hosting_.member);
    auto parts = peers_->exchange(
        round, [&] { return packet.bytes(); }, std::move(again));
    if (!parts) return fail(std::move(parts).error());
    if (*parts == nullptr) return false;
    for (std::size_t member = 0; member < hosting_.members; ++member) {
      if (member == hosting_.member) continue;
      const Bytes& part = (*parts)->at(hosting_.member_name(member));
      if (auto added = add_part(packet, part, *shards_, member, shapes); !added)
        return fail(std::move(added).error());
    }
    return true;
  };
}

Result<void> MeshMember::open(sys::Executor& executor, std::function<void(const Error&)> lost) {
  if (!hosting_.peers) return {};
  auto peers = hosting_.peers(executor);
  if (!peers) return fail(std::move(peers).error());
  peers_ = std::move(*peers);
  peers_->lost = std::move(lost);
  if (!shards_) return {};
  auto kept = client::Outbox::open(disk_, directory_ / kStateFolder / "parts",
                                   sys::Durability::kProcess, /*own_lock=*/false);
  if (!kept) return fail(std::move(kept).error());
  const auto part_of = [this](const std::string& member, ByteSpan update) {
    return protocol::part_of(update, [&](std::string_view tensor) {
      return hosting_.member_name(shards_->owner(tensor)) == member;
    });
  };
  peers_->merge_parts(part_of, std::move(*kept));
  return {};
}

Result<void> all_took_part(const coordinator::RoundMachine& machine, std::uint32_t round,
                           const std::string& key) {
  if (machine.out().empty()) return {};
  const auto& [client, why] = *machine.out().begin();
  return fail({.code = ErrorCode::kQuorum,
               .what = fmt::format("round {} is without client {}: {}", round, client, why),
               .where = key,
               .rule = "here every client takes part in every round",
               .remedy = "mend what was refused, or start anew without it"});
}

}  // namespace strata::cli
