#include "client/outbox.h"

#include "base/archive.h"
#include "base/crc32c.h"

namespace strata::client {
namespace {

constexpr std::string_view kMagic = "STRAOUT2";
constexpr std::size_t kJoinedBytes = 64u << 10;

struct Head {
  std::uint32_t before = 0;
  std::uint64_t state_bytes = 0;
  OutboxEntry entry;
};

template <class A, class H>
void fields(A& a, H& h) {
  auto& e = h.entry;
  a(e.run), a(e.round), a(h.before), a(e.base), a(e.update), a(e.update_bytes), a(h.state_bytes);
  protocol::training_fields(a, e.training);
}

// The entry that a file holds, if it is whole; `front` is set to the bytes before the update.
std::optional<Head> entry_of(ByteSpan bytes, std::uint64_t& front) {
  if (bytes.size() < kMagic.size() || text_of(bytes.first(kMagic.size())) != kMagic)
    return std::nullopt;
  ByteReader in(bytes.subspan(kMagic.size()));
  FieldReader reader(in);
  Head head;
  fields(reader, head);
  const std::uint64_t left = in.left();
  if (reader.problem() != nullptr || head.entry.update_bytes > left ||
      head.state_bytes > left - head.entry.update_bytes)
    return std::nullopt;
  front = bytes.size() - left;
  const std::uint64_t whole = front + head.entry.update_bytes + head.state_bytes;
  const auto sum = ByteReader(bytes.subspan(whole)).number<std::uint32_t>();
  if (!sum || crc32c(bytes.first(whole)) != *sum) return std::nullopt;
  return head;
}

}  // namespace

Result<Outbox> Outbox::open(sys::Disk& disk, std::filesystem::path folder,
                            sys::Durability durability, bool own_lock) {
  Outbox out(disk, std::move(folder), durability);
  if (auto made = disk.create_private_directory(out.folder_); !made)
    return fail(std::move(made).error());
  if (own_lock) {
    auto lock = disk.lock(out.folder_ / "lock");
    if (!lock) return fail(std::move(lock).error());
    out.lock_ = std::move(*lock);
  }
  // Whatever was on its way is fetched anew.
  if (auto gone = disk.remove_all(out.download()); !gone) return fail(std::move(gone).error());
  for (int slot = 0; slot < 2; ++slot) {
    auto file = disk.open(out.path_of(slot), durability);
    if (!file) return fail(std::move(file).error());
    // What a process wrote that was killed before its flush is there to be read, and must not be
    // shown before it is sure to last.
    if (durability == sys::Durability::kMachine) {
      if (auto synced = (*file)->sync(); !synced) return fail(std::move(synced).error());
    }
  }
  if (auto loaded = out.load(); !loaded) return fail(std::move(loaded).error());
  return out;
}

Result<void> Outbox::load() {
  last_.reset();
  before_.reset();
  slot_ = 1;
  written_to_ = false;
  for (int slot = 0; slot < 2; ++slot) {
    auto file = disk_->map(path_of(slot));
    if (!file) return fail(std::move(file).error());
    written_to_ = written_to_ || !(*file)->bytes().empty();
    std::uint64_t front = 0;
    auto head = entry_of((*file)->bytes(), front);
    if (!head) continue;
    if (last_ && last_->round > head->entry.round) {
      before_ = Kept{std::move(head->entry), front};
      continue;
    }
    if (last_) before_ = Kept{std::move(*last_), place_.update_at};
    last_ = std::move(head->entry);
    place_ = {front, head->state_bytes, head->before};
    slot_ = slot;
  }
  return {};
}

Result<void> Outbox::put(OutboxEntry entry, ByteSpan update) {
  entry.update = sha256(update);
  entry.update_bytes = update.size();
  return write(std::move(entry), update);
}

Result<void> Outbox::put_state(OutboxEntry entry, ByteSpan update) {
  entry.update = sha256(update);
  entry.update_bytes = 0;
  return write(std::move(entry), {});
}

Result<void> Outbox::write(OutboxEntry entry, ByteSpan update) {
  // A round that is trained for once more takes its own place: the one before it stays.
  if (last_ && last_->round == entry.round) {
    if (auto dropped = drop_last(); !dropped) return dropped;
  }
  const std::uint32_t before = last_ ? last_->round : 0;
  const std::uint64_t state_bytes = entry.state.size();
  Head head{.before = before, .state_bytes = state_bytes, .entry = std::move(entry)};
  ByteWriter out;
  out.reserve(512);
  out.raw(bytes_of(kMagic));
  FieldWriter writer(out);
  fields(writer, head);
  const Bytes front = std::move(out).take();
  const Bytes& state = head.entry.state;
  const std::uint32_t sum = crc32c(state, crc32c(update, crc32c(front)));
  const int slot = 1 - slot_;
  before_.reset();                                                    // written over
  auto file = disk_->open(path_of(slot), sys::Durability::kProcess);  // its name lasts already
  if (!file) return fail(std::move(file).error());
  Bytes joined;  // small parts go out in one call
  std::uint64_t at = 0;
  const auto flush = [&]() -> Result<void> {
    auto written = (*file)->write(at, joined);
    at += joined.size();
    joined.clear();
    return written;
  };
  for (const ByteSpan part :
       {ByteSpan(front), update, ByteSpan(state), std::as_bytes(std::span(&sum, 1))}) {
    if (joined.size() + part.size() <= kJoinedBytes) {
      joined.insert(joined.end(), part.begin(), part.end());
      continue;
    }
    if (auto written = flush(); !written) return written;
    if (auto written = (*file)->write(at, part); !written) return written;
    at += part.size();
  }
  if (auto written = flush(); !written) return written;
  if (durability_ == sys::Durability::kMachine) {
    if (auto synced = (*file)->sync(); !synced) return synced;
  }
  if (last_) before_ = Kept{std::move(*last_), place_.update_at};
  slot_ = slot;
  place_ = {front.size(), state.size(), before};
  last_ = std::move(head.entry);
  Bytes().swap(last_->state);  // `= {}` would keep its memory
  return {};
}

Result<void> Outbox::drop_last() {
  check(last_.has_value(), "there is an entry to drop");
  const std::uint32_t before = place_.before;
  auto file = disk_->open(path_of(slot_), sys::Durability::kProcess);
  if (!file) return fail(std::move(file).error());
  const Bytes zeros(kMagic.size());
  if (auto written = (*file)->write(0, zeros); !written) return written;
  if (durability_ == sys::Durability::kMachine) {
    if (auto synced = (*file)->sync(); !synced) return synced;
  }
  if (auto loaded = load(); !loaded) return loaded;
  if ((last_ ? last_->round : 0) == before) return {};
  return fail({.code = ErrorCode::kDamaged,
               .what = "does not hold round " + std::to_string(before) + " any more",
               .where = folder_.string(),
               .rule = "the client goes back to it",
               .remedy = "restore the folder from a copy, or remove it: the client then takes part "
                         "as one that has not trained yet"});
}

Result<Bytes> Outbox::state() const {
  if (!last_) return Bytes{};
  auto file = disk_->map(path_of(slot_));
  if (!file) return fail(std::move(file).error());
  const auto part =
      (*file)->bytes().subspan(place_.update_at + last_->update_bytes, place_.state_bytes);
  return Bytes(part.begin(), part.end());
}

Result<OutboxPart> Outbox::read(std::uint64_t offset, std::uint64_t length) const {
  check(last_ && offset + length <= last_->update_bytes, "a part of the update is read");
  auto file = disk_->map(path_of(slot_));
  if (!file) return fail(std::move(file).error());
  const auto part = (*file)->bytes().subspan(place_.update_at + offset, length);
  return OutboxPart{std::move(*file), part};
}

const OutboxEntry* Outbox::kept(std::uint32_t round) const {
  const OutboxEntry* out = last_ && last_->round == round             ? &*last_
                           : before_ && before_->entry.round == round ? &before_->entry
                                                                      : nullptr;
  return out != nullptr && out->update_bytes > 0 ? out : nullptr;
}

Result<OutboxPart> Outbox::read_kept(std::uint32_t round, std::uint64_t offset,
                                     std::uint64_t length) const {
  const OutboxEntry* entry = kept(round);
  if (entry == nullptr || offset > entry->update_bytes || length > entry->update_bytes - offset) {
    return fail({.code = ErrorCode::kInternal,
                 .what = "does not hold that part of round " + std::to_string(round) + " any more",
                 .where = folder_.string()});
  }
  const bool is_last = entry == &*last_;
  auto file = disk_->map(path_of(is_last ? slot_ : 1 - slot_));
  if (!file) return fail(std::move(file).error());
  const std::uint64_t from = (is_last ? place_.update_at : before_->update_at) + offset;
  const auto part = (*file)->bytes().subspan(from, length);
  return OutboxPart{std::move(*file), part};
}

}  // namespace strata::client
