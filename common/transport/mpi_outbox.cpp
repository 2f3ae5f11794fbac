#include "transport/mpi_outbox.h"

#include <algorithm>
#include <array>

namespace strata::transport {
namespace {

// Pieces that one turn sends: messages to other ranks, and what comes, have their turn too.
constexpr int kPiecesPerTurn = 16;

// Up to this size a message goes between the pieces of others.
constexpr std::size_t kShortMax = 4096;

bool is_of(const MpiMessage& head, MpiEnd end, std::uint64_t connection) {
  return head.end == end && head.connection == connection;
}

bool is_frame_of(const MpiMessage& head, MpiEnd end, std::uint64_t connection) {
  return head.kind == MpiKind::kData && is_of(head, end, connection);
}

}  // namespace

void MpiOutbox::push(MpiKind kind, MpiEnd end, std::uint64_t connection, std::string_view text,
                     std::shared_ptr<MpiMeter> meter) {
  const auto body = bytes_of(text.substr(0, kMpiTextMax));
  Item item{.head = {.kind = kind, .end = end, .connection = connection, .total = body.size()},
            .payload = Bytes(body.begin(), body.end()),
            .meter = std::move(meter)};
  push(std::move(item));
}

void MpiOutbox::push(MpiEnd end, std::uint64_t connection, wire::Frame frame,
                     std::shared_ptr<MpiMeter> meter) {
  Item item{.head = {.kind = MpiKind::kData, .end = end, .connection = connection},
            .ends = wire::encode_ends(frame),
            .payload = std::move(frame.payload),
            .meter = std::move(meter)};
  item.head.total = wire::kHeaderBytes + item.payload.size() + wire::kTrailerBytes;
  push(std::move(item));
}

void MpiOutbox::push(Item item) {
  if (shut_) return settle(item);
  auto& queue = goes_short(item) ? shorts_ : longs_;
  queue.push_back(std::move(item));
}

// Not before what is queued of its connection; and a farewell is the last word of all.
bool MpiOutbox::goes_short(const Item& item) const {
  if (item.head.total > kShortMax || item.head.kind == MpiKind::kFarewell) return false;
  const auto before = [&](const Item& other) {
    return is_of(other.head, item.head.end, item.head.connection);
  };
  return !(long_ && before(*long_)) && std::none_of(longs_.begin(), longs_.end(), before);
}

void MpiOutbox::drop_frames(MpiEnd end, std::uint64_t connection) {
  if (long_ && is_frame_of(long_->head, end, connection)) long_->dropped = true;
  for (auto* queue : {&shorts_, &longs_}) {
    std::erase_if(*queue, [&](const Item& item) {
      const bool found = is_frame_of(item.head, end, connection);
      if (found) settle(item);
      return found;
    });
  }
}

void MpiOutbox::shut() {
  shut_ = true;
  for (auto* queue : {&shorts_, &longs_}) {
    for (const Item& item : *queue) settle(item);
    queue->clear();
  }
  for (auto* begun : {&short_, &long_}) {
    if (*begun) settle(**begun);
    begun->reset();
  }
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
    const Item* item = next();
    if (item == nullptr) return moved;
    write_piece(*item);
    if (auto begun = port.send(rank_, ByteSpan(piece_).first(kMpiHeaderBytes + piece_body_));
        !begun)
      return fail(begun.error());
    under_way_ = true;
    said_ = now;
  }
  return true;
}

const MpiOutbox::Item* MpiOutbox::next() {
  const auto take = [](std::deque<Item>& queue) {
    Item out = std::move(queue.front());
    queue.pop_front();
    return out;
  };
  if (!shorts_.empty()) {
    short_ = take(shorts_);
    return &*short_;
  }
  if (!long_ && !longs_.empty()) long_ = take(longs_);
  return long_ ? &*long_ : nullptr;
}

// The next bytes of header, payload and trailer, which lie in three places.
void MpiOutbox::write_piece(const Item& item) {
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
  auto& sent = short_ ? short_ : long_;
  if (!sent) return;  // shut in between
  sent->head.offset += piece_body_;
  if (!sent->dropped && sent->head.offset < sent->head.total) return;
  settle(*sent);
  sent.reset();
}

void MpiOutbox::settle(const Item& item) {
  if (!item.meter) return;
  if (item.head.kind == MpiKind::kData)
    item.meter->unsent -= item.payload.size();
  else
    item.meter->over = true;
}

}  // namespace strata::transport
