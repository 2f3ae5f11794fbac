#pragma once
// What a client must not lose: the update of the last round it trained for, as sent, and its own
// state after that training. Both are written at once and before the update is offered, so that a
// client that is killed sends the same bytes again and goes on from the same state. Two files take
// turns, each written over in place: one flush a round. A file that a crash left half-written does
// not count; the other one does.
//   folder/  lock  a  b (the last two rounds)  download
//   file     "STRAOUT2" | run 16 | round 4 | round before 4 | base 32 | update hash 32 | update
//            bytes 8 | state bytes 8 | training | update | state | CRC-32C 4 | left from before
// Threads: one.
#include <filesystem>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "protocol/messages.h"
#include "sys/disk.h"

namespace strata::client {

/// One trained round.
struct OutboxEntry {
  protocol::RunId run{};
  std::uint32_t round = 0;
  Sha256 base{};
  protocol::Training training;
  Sha256 update{};
  std::uint64_t update_bytes = 0;  // 0: the update itself was not kept
  Bytes state;
};

/// Bytes of an outbox where they lie; they must not be read after the outbox takes another entry.
struct OutboxPart {
  std::shared_ptr<const sys::MappedFile> file;
  ByteSpan bytes;
};

class Outbox {
 public:
  /// Makes the folder, for its owner only, and reads what is there. kLocked when another process
  /// works in it.
  /// `own_lock` false: whoever calls holds a lock on a folder around it.
  [[nodiscard]] static Result<Outbox> open(sys::Disk& disk, std::filesystem::path folder,
                                           sys::Durability durability, bool own_lock = true);

  /// The last trained round, if any; its `state` is empty here, see state().
  [[nodiscard]] const std::optional<OutboxEntry>& last() const { return last_; }
  /// Whether an entry was ever begun here: one that is not there now was lost, or never finished.
  [[nodiscard]] bool was_used() const { return written_to_ || last_; }
  /// The client's state after the last trained round; empty before the first. Read from the disk:
  /// a thousand idle clients keep none in memory.
  [[nodiscard]] Result<Bytes> state() const;
  /// Keeps an entry (`state` is given; `update` and `update_bytes` are set from the bytes);
  /// from its return on the update may be shown. kDiskFull, kIo: the last entry is what it was; of
  /// a round that is put once more, the one before.
  [[nodiscard]] Result<void> put(OutboxEntry entry, ByteSpan update);
  /// The same without the update: for a client whose coordinator lives and dies with it.
  [[nodiscard]] Result<void> put_state(OutboxEntry entry, ByteSpan update);
  /// Forgets the last entry: the one before it counts again. kDamaged when that one is not there.
  [[nodiscard]] Result<void> drop_last();
  /// A part of the last entry's update.
  [[nodiscard]] Result<OutboxPart> read(std::uint64_t offset, std::uint64_t length) const;
  /// The entry of a round with its update, as long as it lies here: the last or the one before it;
  /// null when it does not. Until the next call that changes something.
  [[nodiscard]] const OutboxEntry* kept(std::uint32_t round) const;
  /// A part of its update. kInternal when it does not lie here any more.
  [[nodiscard]] Result<OutboxPart> read_kept(std::uint32_t round, std::uint64_t offset,
                                             std::uint64_t length) const;

  /// A file for something large on its way.
  [[nodiscard]] std::filesystem::path download() const { return folder_ / "download"; }

 private:
  Outbox(sys::Disk& disk, std::filesystem::path folder, sys::Durability durability)
      : disk_(&disk), folder_(std::move(folder)), durability_(durability) {}
  struct Place {  // where the parts of an entry lie in its file
    std::uint64_t update_at = 0;
    std::uint64_t state_bytes = 0;
    std::uint32_t before = 0;  // the client's round before; 0: none
  };
  [[nodiscard]] std::filesystem::path path_of(int slot) const { return folder_ / kSlots[slot]; }
  struct Kept {
    OutboxEntry entry;  // without its state
    std::uint64_t update_at = 0;
  };
  [[nodiscard]] Result<void> load();
  [[nodiscard]] Result<void> write(OutboxEntry entry, ByteSpan update);

  static constexpr const char* kSlots[2] = {"a", "b"};

  sys::Disk* disk_;
  std::filesystem::path folder_;
  sys::Durability durability_;
  std::unique_ptr<sys::FileLock> lock_;
  std::optional<OutboxEntry> last_;
  Place place_;                 // of the last entry
  std::optional<Kept> before_;  // what lies in the other slot
  int slot_ = 1;                // that holds it; the other one is written next
  bool written_to_ = false;     // as load() found it
};

}  // namespace strata::client
