// strata pretrain: a model from scratch, as a federation of one process: every parameter trained by
// one client (full) or by several whose gradients are averaged in every step (data-parallel), or
// parallel low-rank heads that merge rarely (LTE, Huh et al. 2024), whose norms and embeddings are
// trained themselves.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "cli/memory_plan.h"
#include "cli/mpi_run.h"
#include "cli/start_run.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

struct Options {
  std::string method = "full";
  std::int64_t heads = 8;
  std::int64_t rank = 32;
  double alpha = 0.0;  // 0: a scale of 1
  std::int64_t merge_every = 10;
  std::int64_t clients = 1;
  bool reset = false;
  bool freeze_a = false;
  bool train_a = false;
  bool diagnostics = false;
  double lr_ratio_b = 1.0;
  std::string model;
  std::string data;
  std::string held_out;
  std::string directory;
  std::string dtype = "f32";
  std::string save_dtype = "bf16";
  std::int64_t steps = 1000;
  std::int64_t batch_size = 16;
  std::int64_t max_length = 256;
  std::int64_t warmup = 100;
  std::int64_t evaluations = 5;
  std::int64_t checkpoints = 0;
  std::int64_t seed = 0;
  std::optional<double> learning_rate;
  double weight_decay = 0.1;
  std::optional<double> beta2;
  std::optional<double> max_grad_norm;
  std::vector<std::string> settings;
  std::string memory_limit;
  bool force = false;
};

// What suits parallel heads differs from what suits one model (docs/methods/lte.md): each has a
// part of the batch, whose gradient is longer and noisier.
bool parallel(const Options& o) { return o.method == "lte" && o.heads > 1; }
bool freezes_a(const Options& o) { return o.freeze_a || (parallel(o) && !o.train_a); }
double learning_rate(const Options& o) {
  return o.learning_rate.value_or(
      o.method == "lte" ? 0.003 * std::sqrt(static_cast<double>(o.heads)) : 0.001);
}
double beta2(const Options& o) { return o.beta2.value_or(parallel(o) ? 0.999 : 0.95); }
double max_grad_norm(const Options& o) { return o.max_grad_norm.value_or(parallel(o) ? 0.0 : 1.0); }

// Workers, each with its share of the data and of every batch.
void share_out(const Options& o, Job& job) {
  job.training.batch_size = o.batch_size / o.clients;
  job.clients.clear();
  for (std::int64_t k = 0; k < o.clients; ++k) {
    job.clients.push_back({.name = fmt::format("worker-{:0{}}", k, o.clients > 10 ? 4 : 1),
                           .data = o.clients == 1 ? o.data : std::string(),
                           .adapter = job.adapter.config});
  }
  if (o.clients > 1) job.data.path = o.data;
}

// What LTE trains: heads of `clients` that merge in each client every merge_every steps, and with
// each other when a round ends, which with several clients is as often.
void set_heads(const Options& o, Job& job) {
  auto& a = job.adapter.config;
  a.method = "lte";
  a.rank = o.rank;
  a.alpha = o.alpha > 0.0 ? o.alpha : static_cast<double>(o.rank);
  a.heads = o.heads / o.clients;
  a.freeze_a = freezes_a(o);
  a.lr_ratio_b = o.lr_ratio_b;
  a.modules_to_save = {"all-other"};
  job.aggregation.method = "lte";
  job.aggregation.restart = o.reset ? "fresh" : "keep";
  auto& t = job.training;
  if (o.clients == 1) {
    t.merge_every = static_cast<double>(o.merge_every);
    // Whole merges in a round, so that what a model comes to does not depend on how often it is
    // looked at.
    std::int64_t merges = (t.local_steps + o.merge_every - 1) / o.merge_every;
    if (o.reset) {  // the same number in each
      while (o.steps / o.merge_every % merges != 0) ++merges;
      t.max_steps = 0;
    }
    t.local_steps = merges * o.merge_every;
    job.aggregation.rounds = (o.steps + t.local_steps - 1) / t.local_steps;
  } else {
    t.local_steps = o.merge_every;
    job.aggregation.rounds = (o.steps + o.merge_every - 1) / o.merge_every;
  }
  share_out(o, job);
}

Job job_of(const Options& o, int threads) {
  // Each with at least one step.
  const std::int64_t rounds = std::min(std::max(o.evaluations, o.checkpoints), o.steps);
  Job job;
  job.name = "pretrain";
  job.model = {.path = o.model, .dtype = o.dtype, .create = true};
  job.data.max_length = o.max_length;
  job.data.plain_text = true;
  job.adapter.config.method = "full";
  job.clients.push_back({.name = "data", .data = o.data, .adapter = job.adapter.config});
  auto& t = job.training;
  t.batch_size = o.batch_size;
  t.local_steps = (o.steps + rounds - 1) / rounds;
  t.max_steps = o.steps;
  t.optimizer.learning_rate = learning_rate(o);
  t.optimizer.beta2 = beta2(o);
  t.optimizer.weight_decay = o.weight_decay;
  t.max_grad_norm = max_grad_norm(o);
  t.schedule = {.method = "cosine", .warmup_steps = o.warmup};
  t.seed = o.seed;
  t.threads = threads;
  job.aggregation = {.method = "flora", .restart = "keep", .rounds = rounds, .measure = false};
  job.aggregation.diagnostics = job.aggregation.measure = o.diagnostics;
  job.privacy.mode = "none";
  job.evaluation.data = o.held_out;
  job.output.directory = o.directory;
  job.output.round_adapters = false;
  job.output.merged_model = true;
  job.output.merged_dtype = o.save_dtype;
  if (o.method == "lte") set_heads(o, job);
  if (o.method == "data-parallel") {
    job.aggregation.method = "data_parallel";
    share_out(o, job);
    t.local_steps = 1;
    t.max_steps = 0;
    job.aggregation.rounds = o.steps;
  }
  const auto rounds_between = [&](std::int64_t times) {
    return std::max<std::int64_t>(1, job.aggregation.rounds / times);
  };
  job.evaluation.every = rounds_between(o.evaluations);
  if (o.checkpoints > 0) job.output.checkpoint_every = rounds_between(o.checkpoints);
  return job;
}

// Settings go over what the flags come to as they go over a job file; only -o wins.
Result<Job> job_with_settings(const Options& o, int threads) {
  Job job = job_of(o, threads);
  if (o.settings.empty()) return job;
  auto text = nlohmann::json::parse(resolved(job));
  for (auto& client : text["clients"]) {  // for the rest they go by the job's own sections
    client = {{"name", client["name"]}, {"data", client["data"]}};
  }
  auto read = parse_job(text.dump(), "strata pretrain", o.settings);
  if (read) read->output.directory = o.directory;
  return read;
}

Result<void> check(const Options& o) {
  const auto refuse = [](std::string flag, std::int64_t value, std::string rule) {
    return fail({.code = ErrorCode::kUsage,
                 .what = fmt::format("{} {}", flag, value),
                 .rule = std::move(rule)});
  };
  if (o.freeze_a && o.train_a)
    return fail(
        {.code = ErrorCode::kUsage, .what = "--freeze-a and --train-a", .rule = "one of them"});
  // The ranges of flags let nan pass.
  for (const auto& [flag, value] : {std::pair{"--alpha", o.alpha},
                                    {"--lr-ratio-b", o.lr_ratio_b},
                                    {"--learning-rate", learning_rate(o)},
                                    {"--weight-decay", o.weight_decay},
                                    {"--beta2", beta2(o)},
                                    {"--max-grad-norm", max_grad_norm(o)}}) {
    if (!std::isfinite(value))
      return fail({.code = ErrorCode::kUsage,
                   .what = fmt::format("{} {}", flag, value),
                   .rule = "a finite number"});
  }
  if (o.method != "lte") {
    if (o.method == "full" && o.clients > 1)
      return refuse("--clients", o.clients, "--method full trains one copy of the model");
    if (o.batch_size % o.clients != 0)
      return refuse("--batch-size", o.batch_size,
                    fmt::format("the {} clients have equal parts of a batch", o.clients));
    return {};
  }
  if (o.heads % o.clients != 0)
    return refuse("--heads", o.heads,
                  fmt::format("the {} clients have equal numbers of heads", o.clients));
  if (o.batch_size % o.heads != 0)
    return refuse("--batch-size", o.batch_size,
                  fmt::format("the {} heads have equal parts of a batch", o.heads));
  if (o.reset && o.steps % o.merge_every != 0)
    return refuse(
        "--steps", o.steps,
        fmt::format("with --reset every merge is after --merge-every {} steps", o.merge_every));
  return {};
}

Result<VerbOutput> pretrain(const Options& o, Context& context) {
  if (auto good = check(o); !good) return fail(std::move(good).error());
  const auto job = job_with_settings(o, context.threads);
  if (!job) return fail(job.error());
  auto limit = memory_limit_of(o.memory_limit);
  if (!limit) return fail(std::move(limit).error());
  auto place = mpi_place();
  if (!place) return fail(std::move(place).error());
  if (*place) return run_by_mpi(**place, *job, o.force, *limit, context);
  return start_run(*job, o.force, *limit, context,
                   [&] { return assemble(context.disk, *job, context.threads); });
}

}  // namespace

Verb pretrain_verb() {
  return {
      .name = "pretrain",
      .help = "train a model from scratch",
      .example =
          "strata pretrain --model DIR --data corpus.jsonl --held-out held.jsonl --steps 2000 -o "
          "runs/base",
      .declare = [](CLI::App& command) -> RunVerb {
        const CLI::Range count(1, 1000000000);
        auto o = std::make_shared<Options>();
        command
            .add_option("--model", o->model,
                        "folder with config.json and tokenizer.json; weights are drawn")
            ->required();
        command.add_option("--data", o->data, "text file, folder of them, or records (JSONL)")
            ->required();
        command.add_option("--held-out", o->held_out, "text or records for evaluation");
        command.add_option("-o,--output-dir", o->directory, "run folder; the model is its model/")
            ->required();
        command
            .add_option("--method", o->method,
                        "full: every parameter; lte: parallel heads; "
                        "data-parallel: gradients averaged in every step")
            ->check(CLI::IsMember({"full", "lte", "data-parallel"}));
        command.add_option("--heads", o->heads, "lte: parallel heads, all clients together")
            ->check(CLI::Range(1, 4096));
        command.add_option("--rank", o->rank, "lte: rank of each head")->check(count);
        command.add_option("--alpha", o->alpha, "lte: scale numerator; default: the rank")
            ->check(CLI::PositiveNumber);
        command.add_option("--merge-every", o->merge_every, "lte: steps between merges")
            ->check(count);
        command
            .add_option("--clients", o->clients,
                        "workers that share the data, and the heads of lte")
            ->check(CLI::Range(1, 4096));
        command.add_flag("--reset", o->reset, "lte: new factors after each merge");
        command.add_flag("--freeze-a", o->freeze_a,
                         "lte: A stays as it was drawn; so it does with several heads");
        command.add_flag("--train-a", o->train_a, "lte: A is trained, also with several heads");
        command
            .add_option("--lr-ratio-b", o->lr_ratio_b,
                        "lte: learning rate of B over that of everything else")
            ->check(CLI::Range(1e-6, 1e6));
        command.add_flag("--diagnostics", o->diagnostics,
                         "effective ranks, alignment of heads and their descent, for `strata "
                         "inspect`");
        command.add_option("--dtype", o->dtype, "type of matrix products")
            ->check(CLI::IsMember({"f32", "bf16"}));
        command.add_option("--save-dtype", o->save_dtype, "type of the saved tensors")
            ->check(CLI::IsMember({"f32", "bf16", "f16"}));
        command.add_option("--steps", o->steps, "optimizer steps")->check(count);
        command.add_option("--batch-size", o->batch_size, "records per step")->check(count);
        command
            .add_option("--max-length", o->max_length,
                        "tokens of a record; text is cut into so long ones")
            ->check(CLI::Range(2, 1 << 20));
        command.add_option("--warmup", o->warmup, "warm-up steps")->check(CLI::NonNegativeNumber);
        command.add_option("--evaluations", o->evaluations, "evaluations during training")
            ->check(count);
        command
            .add_option("--checkpoints", o->checkpoints,
                        "models written during training, of which the latest two are kept")
            ->check(count);
        command
            .add_option("--learning-rate", o->learning_rate,
                        "peak learning rate (0.001; lte: 0.003 times the root of the heads)")
            ->check(CLI::PositiveNumber);
        command.add_option("--weight-decay", o->weight_decay, "decoupled weight decay")
            ->check(CLI::NonNegativeNumber);
        command
            .add_option("--beta2", o->beta2,
                        "AdamW's decay of the second moment (0.95; several heads: 0.999)")
            ->check(CLI::Range(0.0, 0.999999));
        command
            .add_option(
                "--max-grad-norm", o->max_grad_norm,
                "clip the gradient's norm, of each head its own; 0: no clipping (1; several "
                "heads: 0)")
            ->check(CLI::NonNegativeNumber);
        command.add_option("--seed", o->seed, "seed of weights and order")
            ->check(CLI::NonNegativeNumber);
        command.add_option("--set", o->settings,
                           "KEY=VALUE of a job file over what the flags say, e.g. "
                           "training.moments=prune; repeatable");
        command.add_option("--memory-limit", o->memory_limit,
                           "refuse to start what needs more, e.g. 2.5G");
        command.add_flag("--force", o->force, "replace an existing run folder");
        return [o](Context& context) { return pretrain(*o, context); };
      }};
}

}  // namespace strata::cli
