// strata pretrain: a model from scratch, every parameter trained: a federation of one client in
// full mode.
#include <algorithm>

#include "cli/memory_plan.h"
#include "cli/start_run.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

struct Options {
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
  std::int64_t seed = 0;
  double learning_rate = 1e-3;
  double weight_decay = 0.1;
  std::string memory_limit;
  bool force = false;
};

Job job_of(const Options& o, int threads) {
  const std::int64_t rounds = std::min(o.evaluations, o.steps);  // each with at least one step
  Job job;
  job.name = "pretrain";
  job.model = {.path = o.model, .dtype = o.dtype};
  job.data.max_length = o.max_length;
  job.data.plain_text = true;
  job.adapter.config.method = "full";
  job.clients.push_back({.name = "data", .data = o.data, .adapter = job.adapter.config});
  auto& t = job.training;
  t.batch_size = o.batch_size;
  t.local_steps = (o.steps + rounds - 1) / rounds;
  t.max_steps = o.steps;
  t.optimizer.learning_rate = o.learning_rate;
  t.optimizer.beta2 = 0.95;
  t.optimizer.weight_decay = o.weight_decay;
  t.schedule = {.method = "cosine", .warmup_steps = o.warmup};
  t.seed = o.seed;
  t.threads = threads;
  job.aggregation = {.method = "flora", .restart = "keep", .rounds = rounds, .measure = false};
  job.evaluation.data = o.held_out;
  job.output.directory = o.directory;
  job.output.round_adapters = false;
  job.output.merged_model = true;
  job.output.merged_dtype = o.save_dtype;
  return job;
}

Result<VerbOutput> pretrain(const Options& o, Context& context) {
  const Job job = job_of(o, context.threads);
  auto limit = memory_limit_of(o.memory_limit);
  if (!limit) return fail(std::move(limit).error());
  return start_run(job, o.force, *limit, context, [&]() -> Result<Federation> {
    const std::string path = (std::filesystem::path(o.model) / "config.json").string();
    auto json = context.disk.read_text(path);
    if (!json) return fail(std::move(json).error());
    auto model = model::Model::create(*json, path, compute_type(o.dtype),
                                      sys::Stream(static_cast<std::uint64_t>(o.seed)));
    if (!model) return fail(std::move(model).error());
    return assemble(context.disk, job, std::move(*model), context.threads);
  });
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
        command.add_option("--dtype", o->dtype, "type of matrix products")
            ->check(CLI::IsMember({"f32", "bf16"}));
        command.add_option("--save-dtype", o->save_dtype, "type of the saved tensors")
            ->check(CLI::IsMember({"f32", "bf16", "f16"}));
        command.add_option("--steps", o->steps, "optimizer steps")->check(CLI::PositiveNumber);
        command.add_option("--batch-size", o->batch_size, "records per step")
            ->check(CLI::PositiveNumber);
        command
            .add_option("--max-length", o->max_length,
                        "tokens of a record; text is cut into so long ones")
            ->check(CLI::Range(2, 1 << 20));
        command.add_option("--warmup", o->warmup, "warm-up steps")->check(CLI::NonNegativeNumber);
        command.add_option("--evaluations", o->evaluations, "evaluations during training")
            ->check(CLI::PositiveNumber);
        command.add_option("--learning-rate", o->learning_rate, "peak learning rate")
            ->check(CLI::PositiveNumber);
        command.add_option("--weight-decay", o->weight_decay, "decoupled weight decay")
            ->check(CLI::NonNegativeNumber);
        command.add_option("--seed", o->seed, "seed of weights and order")
            ->check(CLI::NonNegativeNumber);
        command.add_option("--memory-limit", o->memory_limit,
                           "refuse to start what needs more, e.g. 2.5G");
        command.add_flag("--force", o->force, "replace an existing run folder");
        return [o](Context& context) { return pretrain(*o, context); };
      }};
}

}  // namespace strata::cli
