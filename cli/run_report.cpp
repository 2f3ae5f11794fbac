#include "cli/run_report.h"

#include <fmt/format.h>

#include <cmath>

#include "cli/private_run.h"
#include "cli/table.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

std::string clients_table(const RunSummary& summary) {
  std::vector<std::vector<std::string>> rows{
      {"client", "rank", "records", "rounds", "sent", "received", "loss before", "after"}};
  for (const auto& c : summary.clients) {
    rows.push_back({c.name, c.rank == 0 ? "full" : std::to_string(c.rank),
                    c.records > 0 ? std::to_string(c.records) : "-", std::to_string(c.rounds),
                    bytes_text(static_cast<double>(c.bytes_up)),
                    bytes_text(static_cast<double>(c.bytes_down)), number_text(c.loss_before, 4),
                    number_text(c.loss_after, 4)});
  }
  return table(rows);
}

std::string rounds_table(const RunSummary& summary, bool measured) {
  const bool images = summary.evaluations.front().images;
  std::vector<std::vector<std::string>> rows{{"round", "held-out loss",
                                              images ? "accuracy" : "perplexity", "merge error",
                                              "factor averaging loses"}};
  for (const auto& e : summary.evaluations) {
    std::string error = "-", lost = "-";
    for (const auto& round : summary.rounds) {
      if (round.round != e.round || !measured) continue;
      error = fmt::format("{:.1e}", round.exactness.relative_error);
      if (std::isfinite(round.exactness.factor_averaging_error))
        lost = fmt::format("{:.1e}", round.exactness.factor_averaging_error);
    }
    rows.push_back(
        {std::to_string(e.round), number_text(e.loss, 4),
         images ? fmt::format("{:.2f} %", 100.0 * e.accuracy) : number_text(e.perplexity, 2), error,
         lost});
  }
  return table(rows);
}

}  // namespace

VerbOutput run_report(const RunSummary& summary, const Job& job, const std::string& directory) {
  VerbOutput out;
  out.text = "\n" + clients_table(summary);
  if (!summary.evaluations.empty())
    out.text += "\n" + rounds_table(summary, job.aggregation.measure);
  for (const auto& line : summary.refused) out.text += "left out: " + line + "\n";
  const double rate =
      summary.train_seconds > 0 ? static_cast<double>(summary.tokens) / summary.train_seconds : 0.0;
  const std::string speed =
      tells_of_records(job)
          ? fmt::format("{} tokens in {} ({:.0f} tokens/s per client thread team)", summary.tokens,
                        duration_text(summary.seconds), rate)
          : duration_text(summary.seconds);
  out.text +=
      fmt::format("\n{}, {} at peak\nfinal model {}\nrun folder  {}\nprivacy     {}\n", speed,
                  bytes_text(static_cast<double>(summary.peak_memory_bytes)),
                  hex(summary.final_model).substr(0, 16), directory, privacy_line(summary.promise));

  json clients = json::array();
  for (const auto& c : summary.clients) {
    clients.push_back({{"name", c.name},
                       {"rank", c.rank},
                       {"records", c.records > 0 ? json(c.records) : json(nullptr)},
                       {"rounds", c.rounds},
                       {"bytes_up", c.bytes_up},
                       {"bytes_down", c.bytes_down},
                       {"loss_before", number(c.loss_before)},
                       {"loss_after", number(c.loss_after)}});
  }
  json evaluations = json::array();
  for (const auto& e : summary.evaluations) {
    json entry{{"round", e.round},
               {"loss", number(e.loss)},
               {"perplexity", e.images ? json(nullptr) : number(e.perplexity)},
               {"accuracy", number(e.accuracy)},
               {"trained_tokens", e.trained_tokens}};
    if (e.exact_match >= 0.0) entry["exact_match"] = e.exact_match;
    evaluations.push_back(std::move(entry));
  }
  json rounds = json::array();
  for (const auto& r : summary.rounds) {
    json entry{{"round", r.round},
               {"clients", r.clients},
               {"packet_hash", hex(r.packet)},
               {"chain_hash", hex(r.chain)}};
    if (job.aggregation.measure) {
      entry["relative_error"] = number(r.exactness.relative_error);
      entry["factor_averaging_error"] = number(r.exactness.factor_averaging_error);
    }
    rounds.push_back(std::move(entry));
  }
  out.data = {{"directory", directory},
              {"final_model_hash", hex(summary.final_model)},
              {"clients", clients},
              {"evaluations", evaluations},
              {"rounds", rounds},
              {"refused", summary.refused},
              {"tokens", summary.tokens},
              {"train_seconds", summary.train_seconds},
              {"seconds", summary.seconds},
              {"peak_memory_bytes", summary.peak_memory_bytes},
              {"privacy", statement_of(job, summary.promise)}};
  return out;
}

}  // namespace strata::cli
