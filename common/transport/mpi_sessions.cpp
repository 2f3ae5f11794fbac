// The connections of an MpiEngine: what its messages do to them.
#include <fmt/format.h>

#include "certs/identity.h"
#include "transport/mpi_engine.h"

namespace strata::transport {
namespace {

constexpr const char* kClosed = "the other side closed the connection";

MpiEnd other(MpiEnd end) { return end == MpiEnd::kDialer ? MpiEnd::kListener : MpiEnd::kDialer; }

std::string name_of(int rank) { return fmt::format("rank {}", rank); }

}  // namespace

MpiEngine::SessionPtr MpiEngine::find(int rank, MpiEnd end, std::uint64_t number) const {
  const auto at = sessions_.find({rank, end, number});
  return at == sessions_.end() ? nullptr : at->second;
}

void MpiEngine::listen(Handler* handler, std::shared_ptr<MpiHearing> hearing) {
  handler_ = handler;
  listener_hearing_ = std::move(hearing);
}

void MpiEngine::dial(std::shared_ptr<MpiLink> link, std::shared_ptr<MpiHearing> hearing,
                     const std::string& id, int to) {
  const Rank& hub = rank_at(to);
  if (hub.lost) return link->failed(*hub.lost);
  if (finishing_ || hub.left) {
    return link->failed({.code = ErrorCode::kInterrupted,
                         .what = "has finished",
                         .where = name_of(to),
                         .remedy = "the same command goes on if the run is not complete"});
  }
  auto session = std::make_shared<Session>(Session{.rank = to,
                                                   .end = MpiEnd::kDialer,
                                                   .number = ++last_number_,
                                                   .stage = Stage::kDialing,
                                                   .link = std::move(link),
                                                   .hearing = std::move(hearing)});
  session->reader.trust();
  rank_at(to).outbox.push(MpiKind::kOpen, MpiEnd::kListener, session->number, id);
  sessions_[{to, session->end, session->number}] = session;
}

void MpiEngine::close_all_of(const std::shared_ptr<MpiHearing>& hearing) {
  if (listener_hearing_ == hearing) listen(nullptr, nullptr);
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) {
    if (session->hearing == hearing) close(session);
  }
}

void MpiEngine::take(const MpiArrival& arrival) {
  Rank& from = rank_at(arrival.rank);
  from.heard = now_;
  // It was only slow. Its connections are gone all the same.
  // With a shut outbox nothing would ever reach it again.
  if (from.lost && !deaf_ && !from.outbox.is_shut()) from.lost.reset();
  const auto message = decode_message(arrival.bytes);
  if (!message) {
    Error why = message.error();
    why.where = name_of(arrival.rank);
    return end_all_of(arrival.rank, why, true);
  }
  switch (message->kind) {
    case MpiKind::kBeat:
      return;
    case MpiKind::kFarewell:
      from.left = true;
      {
        const std::lock_guard lock(mutex_);
        farewells_.insert(arrival.rank);
      }
      return end_all_of(
          arrival.rank,
          {.code = ErrorCode::kPeer, .what = "has finished", .where = name_of(arrival.rank)},
          false);
    case MpiKind::kOpen:
      return take_open(arrival.rank, *message);
    default:
      break;
  }
  const auto session = find(arrival.rank, message->end, message->connection);
  if (!session) {
    // It has missed our end of this connection. A close is never answered.
    if (message->kind != MpiKind::kClose)
      from.outbox.push(MpiKind::kClose, other(message->end), message->connection, kClosed);
    return;
  }
  if (message->kind == MpiKind::kClose) return take_close(session, *message);
  if (message->kind == MpiKind::kData) return take_data(session, *message);
  if (session->stage != Stage::kDialing) return;
  session->stage = Stage::kOpen;
  session->link->opened(wires_to(session),
                        {.id = session->rank == 0 ? "coordinator" : name_of(session->rank),
                         .address = name_of(session->rank)});
}

void MpiEngine::take_open(int rank, const MpiMessage& message) {
  const std::string id(text_of(message.body));
  const auto refuse = [&](std::string_view why) {
    rank_at(rank).outbox.push(MpiKind::kClose, MpiEnd::kDialer, message.connection, why);
  };
  if (handler_ == nullptr) return refuse("nobody listens on rank " + std::to_string(place_.rank));
  if (!certs::valid_id(id)) return refuse("\"" + printable(id, 64) + "\" is no id");
  if (find(rank, MpiEnd::kListener, message.connection)) return;
  auto session = std::make_shared<Session>(
      Session{.rank = rank,
              .number = message.connection,
              .link = std::make_shared<MpiLink>(executor_, listener_hearing_, *handler_, nullptr),
              .hearing = listener_hearing_});
  session->reader.trust();
  sessions_[{rank, session->end, session->number}] = session;
  rank_at(rank).outbox.push(MpiKind::kAccept, MpiEnd::kDialer, session->number, {});
  session->link->opened(wires_to(session), {.id = id, .address = name_of(rank)});
}

void MpiEngine::take_data(const SessionPtr& session, const MpiMessage& message) {
  if (session->stage != Stage::kOpen) return;
  const auto broken = [&](std::string what, std::string rule) {
    end(session,
        {.code = ErrorCode::kProtocol,
         .what = std::move(what),
         .where = name_of(session->rank),
         .rule = std::move(rule)},
        true);
  };
  if (message.offset != session->offset) {
    return broken(fmt::format("sent a piece that begins at byte {}", message.offset),
                  fmt::format("byte {} of the frame is next", session->offset));
  }
  ByteSpan rest = message.body;
  auto frame = session->reader.take(rest);
  if (!frame) {
    Error why = std::move(frame).error();
    why.where = name_of(session->rank) + ": " + why.where;
    return end(session, why, true);
  }
  session->offset += message.body.size();
  const bool whole = session->offset == message.total;
  if (!rest.empty() || whole != frame->has_value()) {
    return broken(fmt::format("sent a frame that does not end after {} bytes", message.total),
                  "a message holds bytes of one frame");
  }
  if (!whole) return;
  session->offset = 0;
  auto share = std::make_shared<MpiShare>(inbox_, (*frame)->payload.size());
  session->link->received(**std::move(frame), std::move(share));
}

void MpiEngine::take_close(const SessionPtr& session, const MpiMessage& message) {
  end(session,
      {.code = ErrorCode::kPeer,
       .what = printable(text_of(message.body)),
       .where = name_of(session->rank)},
      false);
}

// Sessions are reached through the door, so that a Connection may outlive them and the engine.
MpiWires MpiEngine::wires_to(const SessionPtr& session) {
  MpiWires out;
  out.meter = session->meter;
  const std::weak_ptr<Session> weak = session;
  out.send = [this, door = door_, weak](wire::Frame frame) {
    auto held = std::make_shared<wire::Frame>(std::move(frame));
    door->post([this, weak, held] {
      if (const auto found = weak.lock()) enqueue(found, std::move(*held));
    });
  };
  out.close = [this, door = door_, weak] {
    door->post([this, weak] {
      if (const auto found = weak.lock()) close(found);
    });
  };
  return out;
}

void MpiEngine::enqueue(const SessionPtr& session, wire::Frame frame) {
  if (session->stage != Stage::kOpen || session->meter->over) return;
  if (const std::size_t queued = session->meter->unsent; queued > options_.outbox_bytes_max) {
    return end(session,
               {.code = ErrorCode::kPeer,
                .what = fmt::format("is too slow: {} bytes are queued for it", queued),
                .where = name_of(session->rank),
                .rule = fmt::format("{} may be", options_.outbox_bytes_max)},
               true);
  }
  frame.header.sequence = session->sequence++;
  rank_at(session->rank)
      .outbox.push(other(session->end), session->number, std::move(frame), session->meter);
}

void MpiEngine::close(const SessionPtr& session) {
  if (session->stage == Stage::kClosing || session->meter->over) return;
  session->stage = Stage::kClosing;
  session->closed_at = now_;
  rank_at(session->rank)
      .outbox.push(MpiKind::kClose, other(session->end), session->number, kClosed, session->meter);
}

void MpiEngine::end(const SessionPtr& session, const Error& why, bool tell_peer) {
  session->meter->over = true;
  MpiOutbox& outbox = rank_at(session->rank).outbox;
  outbox.drop_frames(other(session->end), session->number);
  if (tell_peer && session->stage != Stage::kClosing)
    outbox.push(MpiKind::kClose, other(session->end), session->number, why.what);
  sessions_.erase({session->rank, session->end, session->number});
  if (session->stage == Stage::kDialing) session->link->failed(why);
  if (session->stage == Stage::kOpen) session->link->ended(why);
}

void MpiEngine::end_all_of(int rank, const Error& why, bool tell_peer) {
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) {
    if (session->rank == rank) end(session, why, tell_peer);
  }
}

}  // namespace strata::transport
