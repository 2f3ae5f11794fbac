#pragma once
// One member of a mesh, beside a run of its own: it shows the others what its clients trained and
// gets what theirs did, whole or as the tensors that it merges (cli/mesh_exchange.h).
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "cli/federation.h"
#include "cli/mesh_exchange.h"

namespace strata::cli {

class MeshMember {
 public:
  /// All outlive it. Without Hosting::peers there is no mesh, and nothing here does anything.
  MeshMember(const Hosting& hosting, const Job& job, sys::Disk& disk,
             std::filesystem::path directory);

  /// kConfig when the run was begun by another number of members: every client's state lies with
  /// the member that has it, and which that is depends on their number.
  [[nodiscard]] Result<void> check_members() const;

  /// If members merge a part of the tensors each: of clients that are not `here` nothing more than
  /// that part is expected, and a round is complete with what the others have merged.
  void share_out(coordinator::ServerConfig& config,
                 std::span<const coordinator::PlannedUpdate> planned, const model::Model& base,
                 const std::function<bool(const protocol::ClientId&)>& here,
                 std::function<const coordinator::RoundMachine&()> machine);

  /// The others may ask from now on. `lost`: see client/peers.h.
  [[nodiscard]] Result<void> open(sys::Executor& executor, std::function<void(const Error&)> lost);
  /// Null outside a mesh, and before open().
  [[nodiscard]] client::Peers* peers() const { return peers_.get(); }

 private:
  const Hosting& hosting_;
  const Job& job_;
  sys::Disk& disk_;
  std::filesystem::path directory_;
  std::unique_ptr<client::Peers> peers_;
  std::optional<Shards> shards_;  // whose members merge a part each
};

/// kQuorum when the round is without a client: one that is left out here may be merged by others,
/// whose part of it is good, or has gone on as if it were merged. `key` is of the job, and says so.
[[nodiscard]] Result<void> all_took_part(const coordinator::RoundMachine& machine,
                                         std::uint32_t round, const std::string& key);

}  // namespace strata::cli
