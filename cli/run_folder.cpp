#include "cli/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/audit_trail.h"
#include "cli/federation.h"
#include "cli/private_run.h"
#include "cli/version.h"
#include "export/huggingface.h"
#include "export/peft.h"
#include "formats/atomic_folder.h"
#include "sys/temporary_files.h"
#include "tensor/linalg.h"

namespace strata::cli {
namespace {

using adapter::DeltaTerms;
using nlohmann::json;

constexpr const char* kCheckpointsFolder = "checkpoints";

bool all_low_rank(const DeltaTerms& delta) {
  return std::all_of(delta.begin(), delta.end(), [](const auto& entry) {
    return std::all_of(entry.second.terms.begin(), entry.second.terms.end(), [](const auto& term) {
      return std::holds_alternative<adapter::LowRank>(term);
    });
  });
}

// The terms of a tensor side by side as one pair.
adapter::LowRank as_pair(const adapter::TensorDelta& delta) {
  const std::size_t rank = delta.rank_bound();
  adapter::LowRank out{.b = tensor::Matrix(delta.d_out, rank),
                       .a = tensor::Matrix(rank, delta.d_in)};
  std::size_t first = 0;
  for (const auto& term : delta.terms) {
    const auto& pair = std::get<adapter::LowRank>(term);
    const std::size_t r = pair.a.rows();
    for (std::size_t i = 0; i < delta.d_out; ++i)
      std::copy_n(pair.b.data() + i * r, r, out.b.data() + i * rank + first);
    std::copy_n(pair.a.data(), pair.a.size(), out.a.data() + first * delta.d_in);
    first += r;
  }
  return out;
}

// A stack that has grown beyond the layer's own rank carries nothing more than that rank can: two
// QRs bring it back, losing only the rounding of float.
void shorten(DeltaTerms& delta) {
  for (auto& [name, change] : delta) {
    if (change.rank_bound() <= std::min(change.d_out, change.d_in)) continue;
    const adapter::LowRank whole = as_pair(change);
    const auto shorter = tensor::recompress({.b = whole.b.view(), .a = whole.a.view()});
    change.terms.clear();
    if (shorter.rank() > 0)
      change.terms.emplace_back(adapter::LowRank{.b = shorter.b.narrow(), .a = shorter.a.narrow()});
  }
  std::erase_if(delta, [](const auto& entry) { return entry.second.terms.empty(); });
}

Result<json> file_hashes(const sys::Disk& disk, const std::filesystem::path& folder,
                         const std::filesystem::path& below) {
  json out = json::object();
  auto names = disk.list(folder / below);
  if (!names) return fail(std::move(names).error());
  for (const auto& name : *names) {
    const auto relative = below.empty() ? std::filesystem::path(name) : below / name;
    if (relative == kStateFolder) continue;  // the run's own, for going on
    if (disk.is_directory(folder / relative)) {
      auto inner = file_hashes(disk, folder, relative);
      if (!inner) return inner;
      out.update(*inner);
      continue;
    }
    auto file = disk.map(folder / relative);
    if (!file) return fail(std::move(file).error());
    out[relative.string()] = hex(sha256((*file)->bytes()));
  }
  return out;
}

}  // namespace

Result<void> RunFolder::begin(const TextSide& text, const std::vector<ClientData>& data,
                              const nlohmann::ordered_json& statement) {
  if (!reports_) return {};
  // The manifest names every file of the folder.
  if (auto gone = sys::remove_temporaries(disk_, folder_); !gone) return gone;
  if (auto written = disk_.write_atomic(folder_ / "config.json", resolved(job_)); !written)
    return written;
  if (auto written = disk_.write_atomic(folder_ / "privacy.json", json(statement).dump(2) + "\n");
      !written)
    return written;
  json clients = json::array();
  for (const auto& client : data) {
    clients.push_back({{"name", client.name},
                       {"source", client.source},
                       {"records", client.report.records},
                       {"examples", client.report.examples},
                       {"dropped", client.report.dropped},
                       {"truncated", client.report.truncated},
                       {"tokens", client.report.tokens},
                       {"trained_tokens", client.report.trained_tokens}});
  }
  const json report{
      {"clients", clients},
      {"template", text.text ? text.text->template_note : "none: records are token ids"}};
  // File names need not be UTF-8.
  const std::string text_form = report.dump(2, ' ', false, json::error_handler_t::replace);
  return disk_.write_atomic(folder_ / "data.json", text_form + "\n");
}

Result<void> RunFolder::write_adapter(const std::filesystem::path& folder, const DeltaTerms& delta,
                                      const model::Model& model) {
  std::vector<std::string> modules;
  for (const auto& site : model.linears()) modules.push_back(site.module);
  auto written =
      exporting::write_peft_files(disk_, folder, delta,
                                  {.base_model = job_.model.path,
                                   .target_modules = exporting::short_targets(delta, modules),
                                   .fan_in_fan_out = model.config().transposed_linear});
  if (!written) return fail(std::move(written).error());
  return {};
}

Result<void> RunFolder::write_model(const std::filesystem::path& folder,
                                    const model::Model& model) {
  const auto dtype = job_.output.merged_dtype == "f32"   ? tensor::DType::kF32
                     : job_.output.merged_dtype == "f16" ? tensor::DType::kF16
                                                         : tensor::DType::kBF16;
  return formats::write_folder(
      disk_, folder, true, [&](const std::filesystem::path& place) -> Result<void> {
        auto done = exporting::write_checkpoint_files(disk_, place, job_.model.path, model, dtype);
        if (!done) return fail(std::move(done).error());
        return {};
      });
}

Result<void> RunFolder::write_checkpoint(std::uint32_t round, const model::Model& model) {
  const auto& o = job_.output;
  if (o.checkpoint_every == 0 || round % o.checkpoint_every != 0) return {};
  const auto place = folder_ / kCheckpointsFolder;
  if (auto written = write_model(place / fmt::format("{:06}", round), model); !written)
    return written;
  auto names = disk_.list(place);
  if (!names) return fail(std::move(names).error());
  std::sort(names->begin(), names->end());
  const auto keep = static_cast<std::size_t>(o.keep_checkpoints);
  for (std::size_t i = 0; i + keep < names->size(); ++i) {
    if (auto removed = disk_.remove_all(place / (*names)[i]); !removed) return removed;
  }
  return {};
}

Result<DeltaTerms> RunFolder::count(const protocol::RoundChange& change) {
  const bool averaged = !change.mean_factors.empty();
  DeltaTerms delta =
      averaged ? protocol::as_packet(change.mean_factors).terms() : change.packet.terms();
  low_rank_ = low_rank_ && all_low_rank(delta);
  if (averaged) {
    total_ =
        delta;  // the factors stand beside an unchanged base: the last round's are the whole change
  } else if (low_rank_) {
    if (auto added = adapter::add(total_, delta); !added) return fail(std::move(added).error());
    shorten(total_);
  }
  return delta;
}

Result<void> RunFolder::resume_round(const protocol::RoundChange& change) {
  if (!reports_) return {};
  auto counted = count(change);
  if (!counted) return fail(std::move(counted).error());
  return {};
}

Result<void> RunFolder::write_round(const coordinator::RoundReport& report,
                                    const coordinator::Coordinator& coordinator) {
  if (!reports_) return {};
  const bool averaged = !report.aggregate.mean_factors.empty();
  auto counted = count(report.aggregate);
  if (!counted) return fail(std::move(counted).error());
  const DeltaTerms& delta = *counted;
  if (auto written = write_checkpoint(report.round, coordinator.model()); !written) return written;
  if (!job_.output.round_adapters) return {};
  json facts{{"round", report.round},
             {"method", job_.aggregation.method},
             {"packet_hash", hex(report.packet)},
             {"chain_hash", hex(report.chain)},
             {"stands_on", averaged ? "the original base" : "the model of the round before"}};
  if (tells_of_clients(job_)) {
    facts["clients"] = report.clients;
    facts["weights"] = report.aggregate.weights;
  }
  if (job_.aggregation.measure) {
    facts["relative_error"] = report.exactness.relative_error;
    facts["factor_averaging_error"] = report.exactness.factor_averaging_error;
  }
  return formats::write_folder(
      disk_, folder_ / "rounds" / fmt::format("{:04}", report.round), true,
      [&](const std::filesystem::path& place) -> Result<void> {
        if (low_rank_ && !delta.empty()) {
          if (auto written = write_adapter(place, delta, coordinator.model()); !written)
            return written;
        }
        return disk_.write_atomic(place / "strata.json",
                                  facts.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
      });
}

ToldRound RunFolder::told_of(std::uint32_t round) const {
  ToldRound out;
  std::istringstream lines(disk_.read_text(folder_ / "metrics.jsonl").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const json event = json::parse(line, nullptr, false);  // the last line may be cut off
    if (!event.is_object() || event.value("round", std::uint32_t{0}) != round) continue;
    const std::string name = event.value("event", "");
    if (name == "client_round") out.clients.insert(event.value("client", ""));
    if (name == "aggregate") out.aggregate = true;
  }
  return out;
}

Result<void> RunFolder::finish(const model::Model& model, const RunSummary& summary) {
  if (!reports_) return {};
  if (low_rank_ && !total_.empty()) {
    auto written = formats::write_folder(
        disk_, folder_ / "adapter", true,
        [&](const std::filesystem::path& place) { return write_adapter(place, total_, model); });
    if (!written) return written;
  }
  if (job_.output.merged_model) {
    if (auto written = write_model(folder_ / "model", model); !written) return written;
  }
  if (auto gone = sys::remove_temporaries(disk_, folder_); !gone) return gone;  // of killed ones
  auto files = file_hashes(disk_, folder_, {});
  if (!files) return fail(std::move(files).error());
  files->erase("metrics.jsonl");  // still being written
  files->erase(std::string(kAuditFile));
  json manifest{{"version", kVersion},
                {"name", job_.name},
                {"final_model_hash", hex(summary.final_model)},
                {"rounds", summary.rounds.size()},
                {"refused", tells_of_clients(job_) ? summary.refused : std::vector<std::string>{}},
                {"seconds", summary.seconds},
                {"tokens", summary.tokens},
                {"peak_memory_bytes", summary.peak_memory_bytes},
                {"instruction_set", instruction_set()},
                {"files", std::move(*files)}};
  return disk_.write_atomic(folder_ / "manifest.json",
                            manifest.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace strata::cli
