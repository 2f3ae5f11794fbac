#include "client/outbox.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/archive.h"
#include "base/crc32c.h"

namespace strata::client {
namespace {

constexpr std::string_view kMagic = "STRAOUT1";

struct Head {
  std::uint64_t state_bytes = 0;
  OutboxEntry entry;
};

template <class A, class H>
void fields(A& a, H& h) {
  auto& e = h.entry;
  a(e.run), a(e.round), a(e.base), a(e.update), a(e.update_bytes), a(h.state_bytes);
  protocol::training_fields(a, e.training);
}

Error damaged(const std::filesystem::path& path, std::string what) {
  return {.code = ErrorCode::kDamaged,
          .what = std::move(what),
          .where = path.string(),
          .remedy =
              "restore the file from a copy, or remove the client's state folder: it then "
              "takes part as one that has not trained yet"};
}

}  // namespace

std::filesystem::path Outbox::path_of(std::uint32_t round) const {
  return folder_ / fmt::format("{:04}", round);
}

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
  auto names = disk.list(out.folder_);
  if (!names) return fail(std::move(names).error());
  for (const auto& name : *names) {
    if (name.find(".tmp.") != std::string::npos) {  // of a process that was killed
      if (auto gone = disk.remove_all(out.folder_ / name); !gone)
        return fail(std::move(gone).error());
      continue;
    }
    const bool number =
        name.size() >= 4 && name.size() <= 9 &&
        std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number) out.rounds_.push_back(static_cast<std::uint32_t>(std::stoul(name)));
  }
  std::sort(out.rounds_.begin(), out.rounds_.end());
  if (durability == sys::Durability::kMachine) {
    if (auto synced = disk.sync_folder(out.folder_); !synced)
      return fail(std::move(synced).error());
  }
  if (auto loaded = out.load(); !loaded) return fail(std::move(loaded).error());
  return out;
}

Result<void> Outbox::load() {
  last_.reset();
  if (rounds_.empty()) return {};
  const auto path = path_of(rounds_.back());
  auto file = disk_->map(path);
  if (!file) return fail(std::move(file).error());
  const ByteSpan bytes = (*file)->bytes();
  if (bytes.size() < kMagic.size() + 4 || text_of(bytes.first(kMagic.size())) != kMagic)
    return fail(damaged(path, "is no outbox file"));
  const auto sum = *ByteReader(bytes.last(4)).number<std::uint32_t>();
  if (crc32c(bytes.first(bytes.size() - 4)) != sum)
    return fail(damaged(path, "has another checksum than its bytes"));
  ByteReader in(bytes.subspan(kMagic.size(), bytes.size() - kMagic.size() - 4));
  FieldReader reader(in);
  Head head;
  fields(reader, head);
  const std::uint64_t left = in.left();
  if (reader.problem() != nullptr || head.entry.update_bytes > left ||
      head.state_bytes != left - head.entry.update_bytes || head.entry.round != rounds_.back())
    return fail(damaged(path, "is not laid out as an outbox file"));
  update_at_ = bytes.size() - 4 - left;
  last_ = std::move(head.entry);
  state_bytes_ = head.state_bytes;
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
  const std::uint32_t round = entry.round;
  Head head{.state_bytes = entry.state.size(), .entry = std::move(entry)};
  ByteWriter out;
  out.raw(bytes_of(kMagic));
  FieldWriter writer(out);
  fields(writer, head);
  const Bytes front = std::move(out).take();
  const Bytes& state = head.entry.state;
  const std::uint32_t sum = crc32c(state, crc32c(update, crc32c(front)));
  auto written = disk_->write_atomic(
      path_of(round),
      [&](sys::FileWriter& file) -> Result<void> {
        for (const ByteSpan part :
             {ByteSpan(front), update, ByteSpan(state), std::as_bytes(std::span(&sum, 1))}) {
          if (auto ok = file.write(part); !ok) return ok;
        }
        return {};
      },
      durability_);
  if (!written) return written;
  update_at_ = front.size();
  state_bytes_ = state.size();
  last_ = std::move(head.entry);
  last_->state = {};
  std::erase(rounds_, round);
  rounds_.push_back(round);
  // The round before stays: its state is where this round began.
  while (rounds_.size() > 2) {
    if (auto gone = disk_->remove_all(path_of(rounds_.front())); !gone) return gone;
    rounds_.erase(rounds_.begin());
  }
  return {};
}

Result<void> Outbox::drop_last() {
  check(!rounds_.empty(), "there is an entry to drop");
  if (auto gone = disk_->remove_all(path_of(rounds_.back())); !gone) return gone;
  rounds_.pop_back();
  return load();
}

Result<Bytes> Outbox::state() const {
  if (!last_) return Bytes{};
  auto file = disk_->map(path_of(last_->round));
  if (!file) return fail(std::move(file).error());
  const auto part = (*file)->bytes().subspan(update_at_ + last_->update_bytes, state_bytes_);
  return Bytes(part.begin(), part.end());
}

Result<Bytes> Outbox::read(std::uint64_t offset, std::uint64_t length) const {
  check(last_ && offset + length <= last_->update_bytes, "a part of the update is read");
  auto file = disk_->map(path_of(last_->round));
  if (!file) return fail(std::move(file).error());
  const auto part = (*file)->bytes().subspan(update_at_ + offset, length);
  return Bytes(part.begin(), part.end());
}

}  // namespace strata::client
