#pragma once
// A round's updates as they arrive, encoded, piece by piece and several at a time, in one file. An
// update gets a region of it; what the region holds counts once the journal says so. Whatever the
// journal does not name is dead space, such as what an earlier round has left there.
// Threads: one; kept updates may be read from several.
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "adapter/packet.h"
#include "adapter/seeded_factors.h"
#include "coordinator/updates/kept_update.h"
#include "sys/disk.h"

namespace strata::coordinator {

/// What updates of the round may leave out because this side draws it itself: never by what a
/// client says, only by the plan's seed, the round and the model's own shapes.
struct RoundFactors {
  adapter::SeededFactors source;
  adapter::TensorShapes shapes;  // of the tensors whose A may be left out
};

class RoundFile {
 public:
  /// Without `factors` an update that leaves something out is refused.
  RoundFile(sys::Disk& disk, std::filesystem::path path, sys::Durability durability,
            RoundFactors factors = {})
      : disk_(disk),
        path_(std::move(path)),
        durability_(durability),
        factors_(std::move(factors)) {}

  /// A region for an update of `size` bytes; nothing is written yet. kIo, kDiskFull.
  [[nodiscard]] Result<std::uint64_t> reserve(std::uint64_t size);
  /// No region that ends before `end` is given out: what the journal names is kept.
  [[nodiscard]] Result<void> keep_until(std::uint64_t end);
  [[nodiscard]] Result<void> write(std::uint64_t offset, ByteSpan bytes);
  /// All regions written so far are on the disk (nothing to do for Durability::kProcess). A failure
  /// is final.
  [[nodiscard]] Result<void> sync();
  /// SHA-256 of a region.
  [[nodiscard]] Result<Sha256> hash(std::uint64_t offset, std::uint64_t size);

  /// The update in a region: header and every value checked. kIncompatibleUpdate naming tensor and
  /// rule for what may not be used. With `whole`, what was just written there, nothing is read.
  [[nodiscard]] Result<SharedUpdate> open(const protocol::ClientId& client, std::uint64_t offset,
                                          std::uint64_t size, const std::string& encoding,
                                          ByteSpan whole = {});
  /// Round and base that the update just opened says it is of.
  [[nodiscard]] const protocol::UpdateHeader& last_header() const { return last_; }

 private:
  [[nodiscard]] Result<void> ensure_open();
  sys::Disk& disk_;
  std::filesystem::path path_;
  sys::Durability durability_;
  RoundFactors factors_;
  std::shared_ptr<sys::RandomFile> file_;
  std::uint64_t end_ = 0;
  protocol::UpdateHeader last_;
  struct Kind {
    std::shared_ptr<const protocol::UpdateLayout> layout;
    std::shared_ptr<const Outline> outline;
  };
  std::vector<Kind> kinds_;  // as many as there are kinds of clients
};

}  // namespace strata::coordinator
