#include "transport/mpi_outbox.h"

#include <algorithm>
#include <array>

namespace strata::transport {
namespace {

// Pieces that one turn sends: messages to other ranks, and what comes, have their turn too.
constexpr int kPiecesPerTurn = 16;

bool is_frame_of(const MpiMessage& head, MpiEnd end, std::uint64_t connection) {
  return head.kind == MpiKind::kData && head.end == end && head.connection == connection;
}

}  // namespace

void MpiOutbox::push(MpiKind kind, MpiEnd end, std::uint64_t connection, std::string_view text,
                     std::shared_ptr<MpiMeter> meter) {
  const auto body = bytes_of(text.substr(0, kMpiTextMax));
  Item item{.head = {.kind = kind, .end = end, .connection = connection, .total = body.size()},
            .payload = Bytes(body.begin(), body.end()),
            .meter = std::move(meter)};
  if (shut_) return settle(item);
  queue_.push_back(std::move(item));
}

void MpiOutbox::push(MpiEnd end, std::uint64_t connection, wire::Frame frame,
                     std::shared_ptr<MpiMeter> meter) {
  Item item{.head = {.kind = MpiKind::kData, .end = end, .connection = connection},
            .ends = wire::encode_ends(frame),
            .payload = std::move(frame.payload),
            .meter = std::move(meter)};
  item.head.total = wire::kHeaderBytes + item.payload.size() + wire::kTrailerBytes;
  if (shut_) return settle(item);
  queue_.push_back(std::move(item));
}

void MpiOutbox::drop_frames(MpiEnd end, std::uint64_t connection) {
  if (current_ && is_frame_of(current_->head, end, connection)) current_->dropped = true;
  std::erase_if(queue_, [&](const Item& item) {
    const bool found = is_frame_of(item.head, end, connection);
    if (found) settle(item);
    return found;
  });
}

void MpiOutbox::shut() {
  shut_ = true;
  for (const Item& item : queue_) settle(item);
  queue_.clear();
  if (current_) settle(*current_);
  current_.reset();
}

Result<bool> MpiOutbox::turn(MpiPort& port, double now) {
  bool moved = false;
  for (int i = 0; i < kPiecesPerTurn; ++i) {
    if (under_way_) {
      const auto done = port.sent(rank_);
      if (!done) return fail(done.error());
      if (!*done) return moved;
      under_way_ = false;
      moved = true;
      piece_sent();
    }
    if (!current_) {
      if (queue_.empty()) return moved;
      current_ = std::move(queue_.front());
      queue_.pop_front();
    }
    write_piece();
    if (auto begun = port.send(rank_, ByteSpan(piece_).first(kMpiHeaderBytes + piece_body_));
        !begun)
      return fail(begun.error());
    under_way_ = true;
    said_ = now;
  }
  return true;
}

// The next bytes of header, payload and trailer, which lie in three places.
void MpiOutbox::write_piece() {
  const Item& item = *current_;
  piece_body_ =
      std::min<std::size_t>(kMpiPieceMax - kMpiHeaderBytes, item.head.total - item.head.offset);
  // Never smaller again: growing writes zeros.
  if (piece_.size() < kMpiHeaderBytes + piece_body_) piece_.resize(kMpiHeaderBytes + piece_body_);
  const auto head = encode_header(item.head);
  auto to = std::copy(head.begin(), head.end(), piece_.begin());
  std::array<ByteSpan, 3> parts{ByteSpan{}, item.payload, ByteSpan{}};
  if (item.ends) parts = {item.ends->head, item.payload, item.ends->tail};
  std::size_t skip = item.head.offset;
  std::size_t left = piece_body_;
  for (const ByteSpan part : parts) {
    const std::size_t from = std::min(skip, part.size());
    const std::size_t n = std::min(left, part.size() - from);
    to = std::copy_n(part.begin() + static_cast<std::ptrdiff_t>(from), n, to);
    skip -= from;
    left -= n;
  }
}

void MpiOutbox::piece_sent() {
  if (!current_) return;  // shut in between
  current_->head.offset += piece_body_;
  if (!current_->dropped && current_->head.offset < current_->head.total) return;
  settle(*current_);
  current_.reset();
}

void MpiOutbox::settle(const Item& item) {
  if (!item.meter) return;
  if (item.head.kind == MpiKind::kData)
    item.meter->unsent -= item.payload.size();
  else
    item.meter->over = true;
}

}  // namespace strata::transport
