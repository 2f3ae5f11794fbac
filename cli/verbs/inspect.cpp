// strata inspect RUN: how training went, round by round, from the run's metrics.jsonl: losses, what
// was merged, and (aggregation.diagnostics) in how many directions, how alike the heads are and how
// their mean goes along the gradient of the merged loss.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>
#include <sstream>

#include "cli/table.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

using json = nlohmann::json;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double number(const json& event, const char* key) {
  const auto found = event.find(key);
  return found != event.end() && found->is_number() ? found->get<double>() : kNone;
}

// A mean over what is a number.
class Mean {
 public:
  void add(double value) {
    if (!std::isfinite(value)) return;
    sum_ += value;
    ++count_;
  }
  [[nodiscard]] double value() const { return count_ > 0 ? sum_ / count_ : kNone; }

 private:
  double sum_ = 0.0;
  double count_ = 0.0;
};

struct Round {
  double loss = kNone, update_norm = kNone, rank = kNone;
  double merged_loss = kNone, gradient_norm = kNone, gradient_cosine = kNone, descent = kNone;
  std::string records_of;  // the gradient's
  Mean effective_rank, alignment_b, alignment_a;
};

struct Metrics {
  std::map<std::int64_t, Round> rounds;
  std::map<std::int64_t, std::vector<json>> tensors;  // by round
};

void take(Metrics& out, const json& event) {
  const std::string name = event.value("event", "");
  const auto at = event.find("round");
  if (at == event.end() || !at->is_number_integer()) return;
  const auto round = at->get<std::int64_t>();
  if (name == "evaluation") {
    out.rounds[round].loss = number(event, "loss");
  } else if (name == "aggregate") {
    out.rounds[round].update_norm = number(event, "update_norm");
    out.rounds[round].rank = number(event, "rank");
  } else if (name == "gradient") {
    auto& own = out.rounds[round];
    own.records_of = event.value("records_of", "");
    own.merged_loss = number(event, "loss");
    own.gradient_norm = number(event, "gradient_norm");
    own.gradient_cosine = number(event, "gradient_cosine");
    own.descent = number(event, "descent");
  } else if (name == "tensor") {
    auto& own = out.rounds[round];
    own.effective_rank.add(number(event, "effective_rank"));
    own.alignment_b.add(number(event, "alignment_b"));
    own.alignment_a.add(number(event, "alignment_a"));
    out.tensors[round].push_back(event);
  }
}

json data_of(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

Result<VerbOutput> inspect(const std::string& folder, std::int64_t wanted, Context& context) {
  const auto path = std::filesystem::path(folder) / "metrics.jsonl";
  auto text = context.disk.read_text(path);
  if (!text) return fail(std::move(text).error());
  Metrics metrics;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const json event = json::parse(line, nullptr, false);  // the last line may be cut off
    if (event.is_object()) take(metrics, event);
  }
  if (metrics.rounds.empty()) {
    return fail({.code = ErrorCode::kData,
                 .what = "tells of no round",
                 .where = path.string(),
                 .rule = "a run that has finished a round has told of it"});
  }
  VerbOutput out;
  json rounds = json::array();
  std::vector<std::vector<std::string>> rows{{"round", "loss", "update norm", "effective rank",
                                              "B alike", "A alike", "gradient", "along it"}};
  for (const auto& [round, own] : metrics.rounds) {
    rounds.push_back(
        {{"round", round},
         {"loss", data_of(own.loss)},
         {"update_norm", data_of(own.update_norm)},
         {"effective_rank", data_of(own.effective_rank.value())},
         {"alignment_b", data_of(own.alignment_b.value())},
         {"alignment_a", data_of(own.alignment_a.value())},
         {"gradient_of", own.records_of.empty() ? json(nullptr) : json(own.records_of)},
         {"merged_loss", data_of(own.merged_loss)},
         {"gradient_norm", data_of(own.gradient_norm)},
         {"gradient_cosine", data_of(own.gradient_cosine)},
         {"descent", data_of(own.descent)}});
    rows.push_back({fmt::format("{}", round), number_text(own.loss, 4),
                    number_text(own.update_norm, 4), number_text(own.effective_rank.value(), 1),
                    number_text(own.alignment_b.value(), 3),
                    number_text(own.alignment_a.value(), 3), number_text(own.gradient_norm, 4),
                    number_text(own.gradient_cosine, 3)});
  }
  out.text = table(rows);
  json tensors = json::array();
  if (!metrics.tensors.empty()) {
    const auto found = wanted > 0 ? metrics.tensors.find(wanted) : std::prev(metrics.tensors.end());
    if (found == metrics.tensors.end()) {
      return fail({.code = ErrorCode::kUsage,
                   .what = fmt::format("--round {}", wanted),
                   .where = path.string(),
                   .rule = "nothing is told of the tensors of that round"});
    }
    std::vector<std::vector<std::string>> of{{fmt::format("after round {}", found->first),
                                              "effective rank", "stable rank", "change", "B alike",
                                              "A alike", "gradient", "along it"}};
    for (const auto& event : found->second) {
      tensors.push_back(event);
      of.push_back({event.value("tensor", ""), number_text(number(event, "effective_rank"), 1),
                    number_text(number(event, "stable_rank"), 2),
                    number_text(number(event, "change_norm"), 4),
                    number_text(number(event, "alignment_b"), 3),
                    number_text(number(event, "alignment_a"), 3),
                    number_text(number(event, "gradient_norm"), 4),
                    number_text(number(event, "gradient_cosine"), 3)});
    }
    out.text += "\n" + table(of);
  }
  out.data = {{"rounds", std::move(rounds)}, {"tensors", std::move(tensors)}};
  return out;
}

}  // namespace

Verb inspect_verb() {
  return {.name = "inspect",
          .help = "how training went, round by round",
          .example = "strata inspect runs/spring",
          .declare = [](CLI::App& command) -> RunVerb {
            struct Options {
              std::string folder;
              std::int64_t round = 0;
            };
            auto o = std::make_shared<Options>();
            command.add_option("run", o->folder, "run folder")->required();
            command.add_option("--round", o->round, "whose tensors are shown; default: the last")
                ->check(CLI::PositiveNumber);
            return [o](Context& context) { return inspect(o->folder, o->round, context); };
          }};
}

}  // namespace strata::cli
