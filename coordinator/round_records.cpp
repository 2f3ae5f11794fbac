#include "coordinator/round_records.h"

#include "base/archive.h"

namespace strata::coordinator {
namespace {

constexpr std::size_t kClientsMax = 100000;

template <class A, class M>
void clients(A& a, M& list) {
  a.list(list, kClientsMax, [&](auto& client) { a(client); });
}

// One function a type of record, in the order of the variant; the type number is the place + 1.
template <class A, class M>
void fields(A& a, M& m) {
  using T = std::remove_const_t<M>;
  if constexpr (std::is_same_v<T, RunOpened>) {
    a(m.run), a(m.plan), a(m.base);
  } else if constexpr (std::is_same_v<T, RoundOpened>) {
    a(m.round), a(m.base), clients(a, m.selected);
  } else if constexpr (std::is_same_v<T, UpdateAccepted>) {
    a(m.round), a(m.client), a(m.update), a(m.offset), a(m.size);
    protocol::training_fields(a, m.training);
  } else if constexpr (std::is_same_v<T, ClientOut> || std::is_same_v<T, UpdateRejected>) {
    a(m.round), a(m.client), a(m.reason);
  } else if constexpr (std::is_same_v<T, RoundClosed>) {
    a(m.round), clients(a, m.contributors), a(m.by_deadline);
  } else if constexpr (std::is_same_v<T, RoundCommitted>) {
    a(m.round), a(m.result), a(m.size), a(m.packet), a(m.chain);
  } else if constexpr (std::is_same_v<T, RunClosed>) {
    a(m.state);
  } else if constexpr (std::is_same_v<T, UpdateLost>) {
    a(m.round), a(m.client);
  } else {
    static_assert(std::is_same_v<T, RoundReopened>);
    a(m.round);
  }
}

template <std::size_t i = 0>
Result<RoundRecord> read_as(const journal::Record& record) {
  if constexpr (i < std::variant_size_v<RoundRecord>) {
    if (record.type != i + 1) return read_as<i + 1>(record);
    ByteReader in(record.payload);
    FieldReader reader(in);
    std::variant_alternative_t<i, RoundRecord> out;
    fields(reader, out);
    reader.limit(in.left() == 0, "bytes behind its end");
    if (reader.problem() == nullptr) return RoundRecord(std::move(out));
    return fail({.code = ErrorCode::kDamaged,
                 .what = std::string("has ") + reader.problem(),
                 .where = "journal record " + std::to_string(record.sequence)});
  } else {
    return fail({.code = ErrorCode::kDamaged,
                 .what = "has type " + std::to_string(record.type),
                 .where = "journal record " + std::to_string(record.sequence),
                 .rule = "a coordinator writes no such record"});
  }
}

}  // namespace

Result<void> append(journal::Journal& journal, const RoundRecord& record) {
  ByteWriter bytes;
  bytes.reserve(256);
  FieldWriter writer(bytes);
  std::visit([&](const auto& r) { fields(writer, r); }, record);
  return journal.append(static_cast<std::uint16_t>(record.index() + 1), std::move(bytes).take());
}

Result<RoundRecord> round_record(const journal::Record& record) { return read_as<>(record); }

std::string_view name(const RoundRecord& record) {
  static constexpr std::string_view kNames[] = {
      "RUN_OPENED",      "ROUND_OPENED", "UPDATE_ACCEPTED", "CLIENT_OUT",     "ROUND_CLOSED",
      "ROUND_COMMITTED", "RUN_CLOSED",   "UPDATE_LOST",     "ROUND_REOPENED", "UPDATE_REJECTED"};
  return kNames[record.index()];
}

}  // namespace strata::coordinator
