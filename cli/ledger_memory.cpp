#include "cli/ledger_memory.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "sys/temporary_files.h"

namespace strata::cli {
namespace {

using nlohmann::ordered_json;
using protocol::LedgerMark;

constexpr int kFormat = 1;
constexpr std::size_t kLedgersMax = 32;  // of one client

class FileMemory final : public coordinator::LedgerMemory {
 public:
  using Clients = std::map<protocol::ClientId, std::map<Sha256, LedgerMark>>;

  FileMemory(sys::Disk& disk, std::filesystem::path file) : disk_(disk), file_(std::move(file)) {}

  Result<void> read() {
    if (!disk_.exists(file_)) return {};
    const auto text = disk_.read_text(file_);
    if (!text) return fail(text.error());
    try {
      const auto all = ordered_json::parse(*text);
      if (all.at("format") != kFormat) throw std::invalid_argument("another format");
      Clients read;
      for (const auto& mark : all.at("ledgers")) {
        const auto ledger = unhex(mark.at("ledger").get<std::string>());
        const auto head = unhex(mark.at("head").get<std::string>());
        if (!ledger || !head) throw std::invalid_argument("a hash has 64 digits");
        read[mark.at("client").get<std::string>()][*ledger] = {
            *ledger, mark.at("records").get<std::uint64_t>(), *head};
      }
      clients_ = std::move(read);
    } catch (const std::exception& e) {
      return fail({.code = ErrorCode::kDamaged,
                   .what = "is not what was written: " + printable(e.what(), 120),
                   .where = file_.string(),
                   .rule = "it remembers how far the clients' ledgers had got",
                   .remedy = "restore it from a copy; without it a ledger that was put back is not "
                             "noticed"});
    }
    return {};
  }

  LedgerMark of(const protocol::ClientId& client, const Sha256& ledger) const override {
    const auto found = clients_.find(client);
    if (found == clients_.end()) return {};
    const auto mark = found->second.find(ledger);
    return mark == found->second.end() ? LedgerMark{} : mark->second;
  }

  bool knows_another(const protocol::ClientId& client, const Sha256& ledger) const override {
    const auto found = clients_.find(client);
    return found != clients_.end() && !found->second.contains(ledger);
  }

  // Coordinators of several runs may share the file: each adds to what is there.
  Result<void> keep(const protocol::ClientId& client, const LedgerMark& mark) override {
    if (mark.records <= of(client, mark.ledger).records) return {};
    auto lock = disk_.lock(file_.string() + ".lock");
    if (!lock) return fail(std::move(lock).error());
    if (auto again = read(); !again) return again;
    const auto folder = file_.has_parent_path() ? file_.parent_path() : std::filesystem::path(".");
    if (auto gone = sys::remove_temporaries(disk_, folder, file_.filename().string()); !gone)
      return gone;
    Clients next = clients_;
    LedgerMark& kept = next[client][mark.ledger];
    if (kept.records < mark.records) kept = mark;
    if (next[client].size() > kLedgersMax) {
      return fail({.code = ErrorCode::kData,
                   .what = fmt::format("client {} has shown {} ledgers", client, kLedgersMax),
                   .where = file_.string(),
                   .rule = "a party has one, or a few",
                   .remedy = "remove those that are gone from the file"});
    }
    auto all = ordered_json::array();
    for (const auto& [name, ledgers] : next) {
      for (const auto& [id, own] : ledgers) {
        all.push_back({{"client", name},
                       {"ledger", hex(id)},
                       {"records", own.records},
                       {"head", hex(own.head)}});
      }
    }
    auto written = disk_.write_atomic(
        file_, ordered_json{{"format", kFormat}, {"ledgers", std::move(all)}}.dump(1) + "\n");
    if (written) clients_ = std::move(next);
    return written;
  }

 private:
  sys::Disk& disk_;
  std::filesystem::path file_;
  Clients clients_;
};

}  // namespace

Result<std::unique_ptr<coordinator::LedgerMemory>> open_ledger_memory(
    sys::Disk& disk, const std::filesystem::path& file) {
  auto out = std::make_unique<FileMemory>(disk, file);
  if (auto done = out->read(); !done) return fail(std::move(done).error());
  return out;
}

}  // namespace strata::cli
