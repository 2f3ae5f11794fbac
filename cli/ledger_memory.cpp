#include "cli/ledger_memory.h"

#include <map>
#include <nlohmann/json.hpp>

#include "base/hash.h"

namespace strata::cli {
namespace {

using nlohmann::ordered_json;
using protocol::LedgerMark;

constexpr int kFormat = 1;

class FileMemory final : public coordinator::LedgerMemory {
 public:
  using Ledgers = std::map<Sha256, LedgerMark>;

  FileMemory(sys::Disk& disk, std::filesystem::path file) : disk_(disk), file_(std::move(file)) {}

  Result<void> read() {
    if (!disk_.exists(file_)) return {};
    const auto text = disk_.read_text(file_);
    if (!text) return fail(text.error());
    try {
      const auto all = ordered_json::parse(*text);
      if (all.at("format") != kFormat) throw std::invalid_argument("another format");
      for (const auto& [client, ledgers] : all.at("clients").items()) {
        for (const auto& mark : ledgers) {
          const auto ledger = unhex(mark.at("ledger").get<std::string>());
          const auto head = unhex(mark.at("head").get<std::string>());
          if (!ledger || !head) throw std::invalid_argument("a hash has 64 digits");
          clients_[client][*ledger] = {*ledger, mark.at("records").get<std::uint64_t>(), *head};
        }
      }
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

  Result<void> keep(const protocol::ClientId& client, const LedgerMark& mark) override {
    if (mark.records <= of(client, mark.ledger).records) return {};
    clients_[client][mark.ledger] = mark;
    ordered_json clients = ordered_json::object();
    for (const auto& [name, ledgers] : clients_) {
      for (const auto& [id, own] : ledgers) {
        clients[name].push_back(
            {{"ledger", hex(id)}, {"records", own.records}, {"head", hex(own.head)}});
      }
    }
    return disk_.write_atomic(
        file_, ordered_json{{"format", kFormat}, {"clients", std::move(clients)}}.dump(1) + "\n");
  }

 private:
  sys::Disk& disk_;
  std::filesystem::path file_;
  std::map<protocol::ClientId, Ledgers> clients_;
};

}  // namespace

Result<std::unique_ptr<coordinator::LedgerMemory>> open_ledger_memory(
    sys::Disk& disk, const std::filesystem::path& file) {
  auto out = std::make_unique<FileMemory>(disk, file);
  if (auto done = out->read(); !done) return fail(std::move(done).error());
  return out;
}

}  // namespace strata::cli
