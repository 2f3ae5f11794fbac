// One description of each message serves writing and reading, so that the two cannot disagree.
#include <fmt/format.h>

#include <utility>

#include "base/archive.h"
#include "protocol/messages.h"

namespace strata::protocol {
namespace {

constexpr std::size_t kHistoryMax = 8192;

// `M` is a message, const when it is written.
template <class A, class M>
void head(A& a, M& m) {
  a(m.round), a(m.chain);
}
template <class A, class M>
void object(A& a, M& m) {
  a(m.hash), a(m.size), a(m.data);
  a.limit(m.data.empty() || m.data.size() == m.size, "data of another size than announced");
}
template <class A, class M>
void mark(A& a, M& m) {
  a(m.ledger), a(m.records), a(m.head);
}

template <class M>
struct Layout;

template <>
struct Layout<Hello> {
  static constexpr std::uint16_t kType = 16;
  static constexpr std::string_view kName = "HELLO";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.min_version), a(m.max_version), a(m.program), a(m.run), a(m.plan), head(a, m.head);
    mark(a, m.ledger);
  }
};
template <>
struct Layout<Welcome> {
  static constexpr std::uint16_t kType = 17;
  static constexpr std::string_view kName = "WELCOME";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.version), a(m.run), a(m.client), a(m.plan), head(a, m.head), a(m.last_round);
    mark(a, m.remembered);
  }
};
template <>
struct Layout<Ready> {
  static constexpr std::uint16_t kType = 18;
  static constexpr std::string_view kName = "READY";
  template <class A, class M>
  static void fields(A& a, M& m) {
    head(a, m.head);
  }
};
template <>
struct Layout<RoundOpen> {
  static constexpr std::uint16_t kType = 19;
  static constexpr std::string_view kName = "ROUND_OPEN";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.round), a(m.rounds), a(m.base), a(m.restart), a(m.used_before), a(m.deadline_seconds);
    a.limit(m.restart <= Restart::kMean, "an unknown restart policy");
  }
};
template <>
struct Layout<Offer> {
  static constexpr std::uint16_t kType = 20;
  static constexpr std::string_view kName = "OFFER";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.round), a(m.base), object(a, m.update);
    training_fields(a, m.training), mark(a, m.ledger);
  }
};
template <>
struct Layout<Failed> {
  static constexpr std::uint16_t kType = 21;
  static constexpr std::string_view kName = "FAILED";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.round), a(m.base), a(m.reason);
  }
};
template <>
struct Layout<Ack> {
  static constexpr std::uint16_t kType = 22;
  static constexpr std::string_view kName = "ACK";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.round), a(m.base), a(m.update), a(m.outcome), a(m.reason);
    a.limit(m.outcome <= Outcome::kRetryLater, "an unknown outcome");
  }
};
template <>
struct Layout<RoundDone> {
  static constexpr std::uint16_t kType = 23;
  static constexpr std::string_view kName = "ROUND_DONE";
  template <class A, class M>
  static void fields(A& a, M& m) {
    head(a, m.head), object(a, m.result);
  }
};
template <>
struct Layout<CatchUp> {
  static constexpr std::uint16_t kType = 24;
  static constexpr std::string_view kName = "CATCH_UP";
  template <class A, class M>
  static void fields(A& a, M& m) {
    head(a, m.head);
  }
};
template <>
struct Layout<History> {
  static constexpr std::uint16_t kType = 25;
  static constexpr std::string_view kName = "HISTORY";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a.list(m.rounds, kHistoryMax,
           [&](auto& entry) { head(a, entry.head), object(a, entry.result); });
    head(a, m.snapshot_head), object(a, m.snapshot), a(m.state);
  }
};
template <>
struct Layout<Fetch> {
  static constexpr std::uint16_t kType = 26;
  static constexpr std::string_view kName = "FETCH";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.object), a(m.offset), a(m.length);
    a.limit(m.length > 0 && m.length <= wire::kChunkBytes, "a length that no chunk has");
  }
};
template <>
struct Layout<Finished> {
  static constexpr std::uint16_t kType = 27;
  static constexpr std::string_view kName = "FINISHED";
  template <class A, class M>
  static void fields(A& a, M& m) {
    head(a, m.head), a(m.state);
  }
};
template <>
struct Layout<Problem> {
  static constexpr std::uint16_t kType = 28;
  static constexpr std::string_view kName = "PROBLEM";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.code), a(m.message), a(m.retry);
  }
};
// A chunk whose bytes lie elsewhere.
struct ChunkView {
  Sha256 object{};
  std::uint64_t offset = 0;
  ByteSpan data;
};
template <>
struct Layout<Chunk> {
  static constexpr std::uint16_t kType = wire::kFirstBulkType;
  static constexpr std::string_view kName = "CHUNK";
  template <class A, class M>
  static void fields(A& a, M& m) {
    a(m.object), a(m.offset), a(m.data);
    a.limit(m.data.size() <= wire::kChunkBytes, "a chunk that is too large");
  }
};

// The fields of `M`, borrowed where `Fields` borrows.
template <class M, class Fields = M>
Result<Fields> read_fields(const wire::Frame& frame) {
  ByteReader in(frame.payload);
  FieldReader reader(in);
  Fields out;
  Layout<M>::fields(reader, out);
  reader.limit(in.left() == 0, "bytes behind its end");
  if (reader.problem() == nullptr) return out;
  return fail({.code = ErrorCode::kProtocol,
               .what = fmt::format("has {}", reader.problem()),
               .where = std::string(Layout<M>::kName) + " message"});
}

// Its data is the payload's end: what lies before it goes, and the memory stays.
Result<Message> read_chunk(wire::Frame& frame) {
  const auto view = read_fields<Chunk, ChunkView>(frame);
  if (!view) return fail(view.error());
  Chunk out{.object = view->object, .offset = view->offset, .data = std::move(frame.payload)};
  const auto before = static_cast<std::ptrdiff_t>(out.data.size() - view->data.size());
  out.data.erase(out.data.begin(), out.data.begin() + before);
  return Message(std::move(out));
}

template <class M>
std::optional<Result<Message>> read_as(wire::Frame& frame) {
  if (frame.header.type != Layout<M>::kType) return std::nullopt;
  if constexpr (std::is_same_v<M, Chunk>) {
    return read_chunk(frame);
  } else {
    auto message = read_fields<M>(frame);
    if (!message) return fail(std::move(message).error());
    return Message(std::move(*message));
  }
}

template <class... Messages>
Result<Message> read_any(wire::Frame& frame, const std::variant<Messages...>*) {
  std::optional<Result<Message>> out;
  (void)((out = read_as<Messages>(frame)).has_value() || ...);
  if (out) return std::move(*out);
  return fail({.code = ErrorCode::kProtocol,
               .what = fmt::format("has type {}", frame.header.type),
               .where = "message",
               .rule = fmt::format("protocol version {} knows no such message", kVersion)});
}

}  // namespace

wire::Frame chunk_frame(const Sha256& object, std::uint64_t offset, ByteSpan data,
                        const RunId& run) {
  wire::Frame out;
  out.header.run = run;
  out.header.type = Layout<Chunk>::kType;
  ByteWriter bytes;
  bytes.reserve(data.size() + 64);
  FieldWriter writer(bytes);
  const ChunkView view{object, offset, data};
  Layout<Chunk>::fields(writer, view);
  out.payload = std::move(bytes).take();
  return out;
}

wire::Frame to_frame(const Message& message, const RunId& run) {
  wire::Frame out;
  out.header.run = run;
  std::visit(
      [&](const auto& m) {
        using M = std::decay_t<decltype(m)>;
        out.header.type = Layout<M>::kType;
        if constexpr (requires { m.round; }) out.header.round = m.round;
        ByteWriter bytes;
        FieldWriter writer(bytes);
        Layout<M>::fields(writer, m);
        out.payload = std::move(bytes).take();
      },
      message);
  return out;
}

Result<Message> from_frame(wire::Frame frame) {
  return read_any(frame, static_cast<const Message*>(nullptr));
}

std::string_view name(const Message& message) {
  return std::visit([](const auto& m) { return Layout<std::decay_t<decltype(m)>>::kName; },
                    message);
}

}  // namespace strata::protocol
