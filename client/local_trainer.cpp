#include "client/local_trainer_impl.h"
#include "client/passes.h"
#include "client/private_step.h"
#include "client/training_step.h"
#include "evaluation/evaluator.h"

namespace strata::client {

namespace {

std::int64_t steps_of(const TrainingConfig& t, std::size_t examples, std::size_t heads,
                      std::uint32_t rounds) {
  if (t.local_steps > 0) return t.local_steps;
  if (t.max_steps > 0)
    return (t.max_steps + rounds - 1) /
           rounds;  // says how long to train, as elsewhere; epochs follow
  const std::int64_t per_step = t.batch_size * t.gradient_accumulation;
  const auto dealt = static_cast<std::int64_t>(examples / heads * heads);  // as draw_order()
  return t.local_epochs * ((dealt + per_step - 1) / per_step);
}

Units units_of(const ClientSpec& spec) {
  Units out;
  if (spec.privacy->whole_update) {
    out.emplace_back(spec.examples.size());
    std::iota(out.front().begin(), out.front().end(), std::size_t{0});
    return out;
  }
  std::map<std::string, std::size_t> known;
  for (std::size_t i = 0; i < spec.examples.size(); ++i) {
    if (spec.people.empty()) {
      out.push_back({i});
      continue;
    }
    const auto [at, is_new] = known.emplace(spec.people[i], out.size());
    if (is_new) out.emplace_back();
    out[at->second].push_back(i);
  }
  return out;
}

// Mean over the first or last quarter of a round's steps: single steps are noisy.
double quarter_mean(const std::vector<double>& losses, bool last) {
  if (losses.empty()) return std::numeric_limits<double>::quiet_NaN();
  const std::size_t n = std::max<std::size_t>(1, losses.size() / 4);
  const auto first = last ? losses.end() - static_cast<std::ptrdiff_t>(n) : losses.begin();
  return std::accumulate(first, first + static_cast<std::ptrdiff_t>(n), 0.0) /
         static_cast<double>(n);
}

}  // namespace

Result<LocalTrainer> LocalTrainer::make(ClientSpec spec, const TrainingConfig& training,
                                        const model::Model& base, std::uint32_t rounds) {
  const std::string doing = "client " + spec.name;
  std::size_t trained = 0;
  for (const auto& example : spec.examples) trained += example.trained_tokens();
  if (trained == 0) {
    return fail({.code = ErrorCode::kData,
                 .what = "has no token to train on",
                 .where = doing,
                 .rule = "a client needs at least one record with a trained token",
                 .remedy = "check its data with `strata data preview`"});
  }
  if (auto ok = evaluation::check_examples(base, spec.examples); !ok)
    return fail(std::move(ok).error(), doing);
  const auto heads = static_cast<std::size_t>(std::max<std::int64_t>(1, spec.adapter.heads));
  if (spec.examples.size() < heads && !spec.privacy) {
    return fail({.code = ErrorCode::kData,
                 .what = "has " + std::to_string(spec.examples.size()) + " records for " +
                         std::to_string(heads) + " heads",
                 .where = doing,
                 .rule = "every head needs a record of its own",
                 .remedy = "lower adapter.heads"});
  }
  const auto per_step =
      static_cast<std::size_t>(training.batch_size * training.gradient_accumulation);
  if (per_step % heads != 0 && !(spec.privacy && !spec.privacy->whole_update)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = std::to_string(heads) + " heads and " + std::to_string(per_step) +
                         " records a step",
                 .where = doing,
                 .rule = "heads have equal parts of a step",
                 .remedy = "choose a training.batch_size that adapter.heads divides"});
  }
  auto optimizer = SplitOptimizer::make(training.optimizer);
  if (!optimizer) return fail(std::move(optimizer).error());
  const std::int64_t per_round = steps_of(training, spec.examples.size(), heads, rounds);
  std::int64_t total = per_round * rounds;
  if (training.max_steps > 0) total = std::min(total, training.max_steps);
  auto schedule = Schedule::make(training.schedule, total);
  if (!schedule) return fail(std::move(schedule).error());
  // A private client's number of tokens is nobody's business.
  const bool is_private = spec.privacy || spec.central;
  if (spec.weight <= 0.0) spec.weight = is_private ? 1.0 : static_cast<double>(trained);
  auto impl = std::make_unique<Impl>(std::move(spec), training, std::move(*optimizer), *schedule);
  // Made once to see that it fits the model; made again when the client's first round comes.
  if (auto made = impl->ensure_trainable(base, Impl::Factors::kZero); !made)
    return fail(std::move(made).error(), doing);
  impl->rank = impl->trainable->rank();
  if (impl->spec.privacy) {
    if (auto fits = impl->check_private(); !fits) return fail(std::move(fits).error(), doing);
    impl->units = units_of(impl->spec);
  }
  if (const auto* adapters = impl->trainable->adapters()) {
    for (std::size_t i = 0; i < base.linears().size(); ++i) {
      if (const auto* own = adapters->at(i))
        impl->ranks.emplace(own->shape().module + ".weight", own->rank());
    }
  }
  impl->trainable.reset();
  impl->steps_per_round = per_round;
  impl->steps_total = total;
  return LocalTrainer(std::move(impl));
}

LocalTrainer::LocalTrainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LocalTrainer::LocalTrainer(LocalTrainer&&) noexcept = default;
LocalTrainer& LocalTrainer::operator=(LocalTrainer&&) noexcept = default;
LocalTrainer::~LocalTrainer() = default;

const std::string& LocalTrainer::name() const { return impl_->spec.name; }
std::size_t LocalTrainer::rank() const { return impl_->rank; }
const std::map<std::string, std::size_t>& LocalTrainer::ranks() const { return impl_->ranks; }
std::span<const text::Example> LocalTrainer::examples() const { return impl_->spec.examples; }
std::span<const text::Example> LocalTrainer::first_step() const {
  const Impl& c = *impl_;
  check(!c.spec.privacy && !c.spec.central, "the records of a private client are not looked at");
  const auto heads = static_cast<std::size_t>(c.spec.adapter.heads);
  const std::size_t count = std::min(c.records_per_step(), c.spec.examples.size());
  return std::span(c.spec.examples).first(count / heads * heads);
}
std::int64_t LocalTrainer::steps_per_round() const { return impl_->steps_per_round; }

std::size_t LocalTrainer::units() const { return impl_->units.size(); }
std::size_t LocalTrainer::trained_values() const { return impl_->values; }

const adapter::AdapterConfig& LocalTrainer::adapter_config() const { return impl_->spec.adapter; }

std::size_t LocalTrainer::idle_bytes() const {
  const Impl& c = *impl_;
  std::size_t n = c.order.capacity() * sizeof(std::size_t);
  for (const auto& example : c.spec.examples) {
    n += sizeof(example) + example.tokens.capacity() * sizeof(text::TokenId) +
         example.trained.capacity() + example.source.capacity() + example.pixels.capacity();
  }
  if (c.trainable) {
    for (const auto& param : c.trainable->kept_params())
      n += (param.value.size() + param.grad.size()) * sizeof(float);
    for (const auto& [name, values] : c.trainable->carried()) n += values.size() * sizeof(float);
  }
  for (const auto& values : c.began_with) n += values.size() * sizeof(float);
  for (const auto& [name, values] : c.optimizer->state()) n += values.size() * sizeof(float);
  return n;
}

Result<void> LocalTrainer::Impl::ensure_trainable(const model::Model& base, Factors factors,
                                                  tensor::Team* team) {
  if (trainable) return {};
  const auto seed = static_cast<std::uint64_t>(training.seed);
  std::optional<sys::Stream> own;
  if (factors == Factors::kDrawn)
    own = spec.central ? adapter::common_start_stream(seed)
                       : stream.at({.round = fresh_since, .purpose = "init"});
  auto made = make_trainable(spec.adapter, base, own, adapter::shared_stream(seed), fresh_since + 1,
                             spec.gradients      ? Merging::kGradients
                             : merge_every() > 0 ? Merging::kOwnCopy
                                                 : Merging::kAtRounds,
                             spec.late, team);
  if (!made) return fail(std::move(made).error());
  if (fresh_since == 0 && !spec.initial.empty()) {
    if (auto loaded = (*made)->load(spec.initial); !loaded) return loaded;
  }
  trainable = std::move(*made);
  return {};
}

// What a client's heads came to, into its own copy of the model.
void LocalTrainer::Impl::merge(const RoundTask& task, RoundTools& tools, std::int64_t done) {
  const auto draws =
      stream.at({.round = task.round, .step = static_cast<std::uint32_t>(done), .purpose = "init"});
  trainable->merge(task.restart, draws, tools.workspace.team());
  if (task.restart != protocol::Restart::kFresh) return;
  restart_moments();
  restarted_at = step + 1;
}

// NOLINTNEXTLINE(readability-make-member-function-const): it changes what the optimizer holds
void LocalTrainer::Impl::restart_moments() {
  if (spec.adapter.method == "full") return optimizer->reset();
  optimizer->restart_factors(training.moments == "keep"    ? MomentsAfter::kKeep
                             : training.moments == "prune" ? MomentsAfter::kPrune
                                                           : MomentsAfter::kReset);
}

namespace {

// Leaves gradients as they are, for others to step by.
class NoStep final : public Optimizer {
 public:
  void step(std::span<const adapter::ParamRef>, double, tensor::Team&) override {}
  void reset() override {}
  std::map<std::string, std::vector<float>> state() const override { return {}; }
  Result<void> load(const std::map<std::string, std::vector<float>>&) override { return {}; }
};

}  // namespace

Result<void> LocalTrainer::Impl::run_steps(const RoundTask& task, RoundTools& tools,
                                           RoundStats& stats) {
  model::Decoder decoder(trainable->model(), tools.workspace, {.recompute = training.recompute});
  StepMemory memory;
  std::vector<double> losses;
  NoStep no_step;
  Optimizer& stepping = spec.gradients ? static_cast<Optimizer&>(no_step) : *optimizer;
  TrainingConfig own = training;
  if (spec.gradients) own.max_grad_norm = 0.0;  // their mean is what is clipped
  const std::int64_t planned = std::min(steps_per_round, steps_total - step);
  for (std::int64_t i = 0; i < planned; ++i, ++step) {
    if (tools.stopped())
      return fail({.code = ErrorCode::kInterrupted, .what = "stopped by a signal"});
    const double before = tools.clock.seconds();
    const double rate = training.optimizer.learning_rate *
                        (spec.gradients ? schedule.factor(std::int64_t{task.round} - 1)
                                        : schedule.factor(step, restarted_at));
    const auto dropout = stream.at(
        {.round = task.round, .step = static_cast<std::uint32_t>(step), .purpose = "dropout"});
    auto report = training_step(decoder, memory, *trainable, stepping, spec.examples,
                                next_records(), own, rate, dropout);
    if (!report) {
      return fail(std::move(report).error(), "client " + spec.name + ", round " +
                                                 std::to_string(task.round) + ", step " +
                                                 std::to_string(step + 1));
    }
    losses.push_back(report->loss);
    if (merges_after(i + 1, planned)) merge(task, tools, i + 1);
    stats.tokens += report->tokens;
    stats.trained_tokens += report->trained_tokens;
    ++stats.steps;
    const double seconds = tools.clock.seconds() - before;
    tools.observer.on({.name = "step",
                       .fields = {{"round", static_cast<std::int64_t>(task.round)},
                                  {"client", spec.name},
                                  {"step", step + 1},
                                  {"steps", steps_total},
                                  {"loss", report->loss},
                                  {"grad_norm", report->grad_norm},
                                  {"learning_rate", rate},
                                  {"tokens", static_cast<std::int64_t>(report->tokens)},
                                  {"tokens_per_second", static_cast<double>(report->tokens) /
                                                            std::max(seconds, 1e-9)}}});
  }
  stats.first_loss = quarter_mean(losses, false);
  stats.last_loss = quarter_mean(losses, true);
  return {};
}

Result<std::unique_ptr<noise::NoiseSupply>> LocalTrainer::Impl::noise_supply(
    std::uint32_t round) const {
  const auto threads = static_cast<int>(training.threads);
  if (!spec.privacy->seeded) return noise::make_secure_supply(threads);
  auto seed = stream.at({.round = round, .purpose = "test noise"});
  const std::uint64_t high = seed.next();
  return noise::make_seeded_test_supply(high << 32 | seed.next(), threads);
}

// What can be known before the first round. The gradient's numbers are set up as a step does it.
Result<void> LocalTrainer::Impl::check_private() {
  if (trainable->adapters() == nullptr) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is set for full training",
                 .where = "privacy.mode",
                 .rule = "each record's own gradient is clipped, which needs an adapter method"});
  }
  if (!spec.adapter.modules_to_save.empty()) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is given",
                 .where = "adapter.modules_to_save",
                 .rule = "each unit's own gradient is clipped, which is of adapters only",
                 .remedy = "leave it out of a private run"});
  }
  values = trainable->adapters()->trainable_count();
  std::vector<float> memory;
  auto made = PrivateGradient::make(*spec.privacy, 0.0, *trainable->adapters(), memory);
  return made ? Result<void>{} : fail(std::move(made).error());
}

Result<void> LocalTrainer::Impl::run_private_steps(const RoundTask& task, RoundTools& tools,
                                                   RoundStats& stats) {
  model::Decoder decoder(trainable->model(), tools.workspace, {.recompute = training.recompute});
  StepMemory memory;
  auto supply = noise_supply(task.round);
  if (!supply) return fail(std::move(supply).error());
  auto gradient = PrivateGradient::make(*spec.privacy, clip_norm, *trainable->adapters(),
                                        memory.record_gradients);
  if (!gradient) return fail(std::move(gradient).error());
  const std::int64_t planned = std::min(steps_per_round, steps_total - step);
  for (std::int64_t i = 0; i < planned; ++i, ++step) {
    if (tools.stopped())
      return fail({.code = ErrorCode::kInterrupted, .what = "stopped by a signal"});
    const double rate = training.optimizer.learning_rate * schedule.factor(step, restarted_at);
    const auto dropout = stream.at(
        {.round = task.round, .step = static_cast<std::uint32_t>(step), .purpose = "dropout"});
    auto done =
        private_step(decoder, memory, *trainable, *optimizer, spec.examples, units, *spec.privacy,
                     *gradient, **supply, training, rate, dropout, spec.planted);
    if (!done) return fail(std::move(done).error(), "client " + spec.name);
    if (merges_after(i + 1, planned)) merge(task, tools, i + 1);
    ++stats.steps;
    tools.observer.on({.name = "step",
                       .fields = {{"round", static_cast<std::int64_t>(task.round)},
                                  {"client", spec.name},
                                  {"step", step + 1},
                                  {"steps", steps_total},
                                  {"learning_rate", rate}}});
  }
  clip_norm = gradient->clip_norm();
  stats.first_loss = stats.last_loss = std::numeric_limits<double>::quiet_NaN();
  return {};
}

std::vector<float> LocalTrainer::Impl::trained_now() const {
  std::vector<float> out;
  for (const auto& param : trainable->params())
    out.insert(out.end(), param.value.begin(), param.value.end());
  return out;
}

// Plain steps, of which nothing is told. False: the records made training fail, which is nobody's
// business.
Result<bool> LocalTrainer::Impl::run_untold_steps(const RoundTask& task, RoundTools& tools) {
  const std::int64_t end = std::min(step + steps_per_round, steps_total);
  observe::NullObserver nobody;
  RoundTools quiet{tools.clock, nobody, tools.workspace, tools.stopped};
  RoundStats untold;
  auto trained = run_steps(task, quiet, untold);
  if (!trained && trained.error().code != ErrorCode::kNumeric)
    return fail(std::move(trained).error());
  if (!trained) optimizer->reset();
  step = end;
  return trained.has_value();
}

// Then what they changed, as the round's only unit, clipped and noised. The next round, if it goes
// on from here, goes on from the noisy factors.
Result<void> LocalTrainer::Impl::run_hidden_steps(const RoundTask& task, RoundTools& tools,
                                                  RoundStats& stats) {
  const auto params = trainable->params();
  const std::vector<float> before = trained_now();
  const auto trained = run_untold_steps(task, tools);
  if (!trained) return fail(trained.error());
  std::vector<float> memory;
  auto supply = noise_supply(task.round);
  if (!supply) return fail(std::move(supply).error());
  auto noisy = PrivateGradient::make(*spec.privacy, 0.0, *trainable->adapters(), memory);
  if (!noisy) return fail(std::move(noisy).error());
  tensor::Team& team = tools.workspace.team();
  noisy->add_unit(
      [&](std::span<float> change) {
        std::fill(change.begin(), change.end(), 0.0F);
        std::size_t at = 0;
        for (const auto& param : params) {
          for (const float value : param.value) {
            if (*trained) change[at] = value - before[at];
            ++at;
          }
        }
      },
      team);
  if (auto released = noisy->release(**supply, params, team); !released) return released;
  std::size_t at = 0;
  for (const auto& param : params) {
    for (std::size_t i = 0; i < param.value.size(); ++i, ++at)
      param.value[i] = before[at] + param.grad[i];
  }
  stats.steps = 1;
  stats.first_loss = stats.last_loss = std::numeric_limits<double>::quiet_NaN();
  return {};
}

// What goes to the coordinator as it is.
Result<void> LocalTrainer::Impl::run_central_steps(const RoundTask& task, RoundTools& tools,
                                                   RoundStats& stats) {
  const std::vector<float> before = trained_now();
  const auto trained = run_untold_steps(task, tools);
  if (!trained) return fail(trained.error());
  if (!*trained) {
    auto from = before.begin();
    for (const auto& param : trainable->params()) {
      std::copy_n(from, param.value.size(), param.value.begin());
      from += static_cast<std::ptrdiff_t>(param.value.size());
    }
  }
  stats.steps = 1;
  stats.first_loss = stats.last_loss = std::numeric_limits<double>::quiet_NaN();
  return {};
}

namespace {

// The next round has other factors, but for those that all clients share.
void own_factors_end(adapter::DeltaTerms& delta) {
  for (auto& [name, change] : delta) {
    for (auto& term : change.terms) {
      auto* pair = std::get_if<adapter::LowRank>(&term);
      if (pair != nullptr && pair->id_a == 0) pair->lasting_a = 0;
    }
  }
}

}  // namespace

Result<RoundResult> LocalTrainer::run_round(const model::Model& base, const RoundTask& task,
                                            RoundTools& tools) {
  Impl& c = *impl_;
  const double start = tools.clock.seconds();
  RoundResult out;
  if (auto made = c.ensure_trainable(base, Impl::Factors::kDrawn, &tools.workspace.team()); !made)
    return fail(std::move(made).error(), "client " + c.spec.name);
  c.trainable->begin_round(base);
  auto done = c.spec.central                 ? c.run_central_steps(task, tools, out.stats)
              : !c.spec.privacy              ? c.run_steps(task, tools, out.stats)
              : c.spec.privacy->whole_update ? c.run_hidden_steps(task, tools, out.stats)
                                             : c.run_private_steps(task, tools, out.stats);
  if (!done) return fail(std::move(done).error());
  c.trainable->prepare(tools.workspace.team());
  out.update = {
      .client = c.spec.name,
      .round = task.round,
      .base = task.base,
      .weight = c.spec.gradients ? static_cast<double>(out.stats.trained_tokens) : c.spec.weight,
      .delta = c.trainable->delta()};
  if (task.restart != protocol::Restart::kKeep) own_factors_end(out.update.delta);
  c.trainable->end_round();
  if (task.restart == protocol::Restart::kFresh) {  // nothing of this round is used again
    c.trainable.reset();
    c.restart_moments();
  }
  // How long a step took tells how many records it drew.
  if (!c.spec.privacy && !c.spec.central) out.stats.seconds = tools.clock.seconds() - start;
  return out;
}

Result<void> LocalTrainer::restart(
    protocol::Restart policy, std::uint32_t round,
    const std::map<std::string, adapter::LowRank, std::less<>>& mean) {
  Impl& c = *impl_;
  if (policy != protocol::Restart::kFresh) return c.go_on(policy, mean);
  const bool trained = c.trainable != nullptr;
  c.trainable.reset();
  c.fresh_since = round;
  if (trained) c.restart_moments();  // else it was done when the round ended
  c.restarted_at = c.step;
  return {};
}

Result<void> LocalTrainer::Impl::go_on(protocol::Restart policy,
                                       const protocol::MeanFactors& mean) {
  if (spec.late) {
    began_with.clear();
    for (const auto& param : trainable->kept_params())
      began_with.emplace_back(param.value.begin(), param.value.end());
  }
  return trainable->restart(policy, mean);
}

Result<void> LocalTrainer::begin(protocol::Restart policy, std::uint32_t round, bool used_before,
                                 const std::map<std::string, adapter::LowRank, std::less<>>& mean,
                                 const model::Model& base) {
  if (round <= 1) return {};
  const bool goes_on = policy == protocol::Restart::kMean ||
                       (policy == protocol::Restart::kKeep && used_before && impl_->trainable);
  if (!goes_on) return restart(protocol::Restart::kFresh, round - 1, mean);
  if (auto made = impl_->ensure_trainable(base); !made) return made;
  return restart(policy, round - 1, mean);
}

}  // namespace strata::client
