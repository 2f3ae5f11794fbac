#include "cli/assemble.h"

#include <algorithm>
#include <cmath>

#include "cli/common_start.h"
#include "cli/owner_ledger.h"
#include "cli/private_run.h"
#include "client/descent_rule.h"
#include "evaluation/exact_match.h"
#include "export/peft.h"
#include "text/corpus.h"
#include "text/record_reader.h"
#include "text/split.h"
#include "text/windows.h"
#include "vision/image_records.h"

namespace strata::cli {
namespace {

// Records of every client: its own file, or its share of the common one.
struct ClientRecords {
  std::vector<text::Record> records;
  std::string source;
};

Result<std::vector<ClientRecords>> client_records(const sys::Disk& disk, const Job& job,
                                                  const TextSide& text, const Parts& parts);

// One example a picture; nothing is cut or dropped.
text::Examples image_examples(std::span<const text::Record> records) {
  text::Examples out;
  for (const auto& record : records) {
    const auto& picture = std::get<text::Picture>(record.content);
    out.examples.push_back({.tokens = std::vector<text::TokenId>(picture.rows, 0),
                            .trained = {},
                            .source = record.source,
                            .pixels = picture.pixels,
                            .label = picture.label});
    ++out.report.records;
    ++out.report.examples;
    out.report.tokens += picture.rows;
    ++out.report.trained_tokens;
  }
  return out;
}

// Already tokenised records need no tokenizer; anything else does.
Result<text::Examples> token_examples(std::span<const text::Record> records, std::size_t max_length,
                                      std::string_view who, std::string_view path) {
  text::Examples out;
  for (const auto& record : records) {
    const auto* tokens = std::get_if<text::Tokens>(&record.content);
    if (tokens == nullptr) {
      return fail({.code = ErrorCode::kData,
                   .what = "is text, but the model folder has no tokenizer.json",
                   .where = record.source,
                   .rule = "without a tokenizer records are {\"input_ids\": [...]}",
                   .remedy = "add the model's tokenizer.json"});
    }
    ++out.report.records;
    text::Example example{
        .tokens = tokens->ids, .trained = tokens->trained, .source = record.source};
    if (example.tokens.size() > max_length) {
      out.report.cut_tokens += example.tokens.size() - max_length;
      example.tokens.resize(max_length);
      example.trained.resize(max_length);
      ++out.report.truncated;
    }
    if (example.trained_tokens() == 0) {
      ++out.report.dropped;
      continue;
    }
    ++out.report.examples;
    out.report.tokens += example.tokens.size();
    out.report.trained_tokens += example.trained_tokens();
    out.examples.push_back(std::move(example));
  }
  if (out.examples.empty()) {
    return fail({.code = ErrorCode::kData,
                 .what = std::string(who) + " has no token to train on",
                 .where = std::string(path),
                 .rule = "at least one record needs a trained token",
                 .remedy = "check labels and data.max_length"});
  }
  return out;
}

}  // namespace

tensor::DType compute_type(const std::string& dtype) {
  return dtype == "bf16" ? tensor::DType::kBF16 : tensor::DType::kF32;
}

Result<text::Examples> TextSide::examples(std::span<const text::Record> records,
                                          std::string_view who, std::string_view path) const {
  if (!records.empty() && std::holds_alternative<text::Picture>(records.front().content))
    return image_examples(records);
  if (!text) return token_examples(records, options.max_length, who, path);
  return text::ExampleBuilder(*text, options).build_all(records, who, path);
}

Result<TextSide> load_text(const sys::Disk& disk, const std::string& model_dir,
                           const DataSection& data, const model::DecoderConfig& model) {
  TextSide out{.text = std::nullopt,
               .options = {.max_length = static_cast<std::size_t>(data.max_length),
                           .completion_only = data.completion_only,
                           .separator = data.separator},
               .vocab = model.vocab,
               .images = model.patches};
  if (out.images) return out;
  if (!disk.exists(std::filesystem::path(model_dir) / "tokenizer.json")) {
    // Nothing to render, but a template that does not exist is a mistake all the same.
    if (data.chat_template == "auto") return out;
    auto chat = text::ChatTemplate::named(data.chat_template, {});
    if (!chat) return fail(std::move(chat).error());
    return out;
  }
  auto text = text::load_model_text(disk, model_dir, data.chat_template);
  if (!text) return fail(std::move(text).error());
  out.text.emplace(std::move(*text));
  return out;
}

Result<std::vector<text::Record>> read_data(const sys::Disk& disk, const TextSide& text,
                                            const std::string& path, const text::FieldMap& fields) {
  if (text.images) return vision::read_images(disk, path, *text.images, text.vocab);
  auto file = text::read_records(disk, path, fields);
  if (!file) return fail(std::move(file).error());
  return std::move(file->records);
}

namespace {

// The records of a file, or of plain text where the job takes it.
Result<std::vector<text::Record>> records_of(const sys::Disk& disk, const Job& job,
                                             const TextSide& text, const std::string& path) {
  if (text.images || !job.data.plain_text || text::holds_records(disk, path))
    return read_data(disk, text, path, job.data.fields);
  if (!text.text) {
    return fail({.code = ErrorCode::kFileMissing,
                 .what = "text needs a tokenizer",
                 .where = (std::filesystem::path(job.model.path) / "tokenizer.json").string(),
                 .remedy = "make one with `strata tokenizer train`"});
  }
  return text::read_windows(disk, path, *text.text, text.options.max_length);
}

Result<std::vector<ClientRecords>> client_records(const sys::Disk& disk, const Job& job,
                                                  const TextSide& text, const Parts& parts) {
  std::vector<ClientRecords> out(job.clients.size());
  bool shares_wanted = false;
  std::vector<std::size_t> sharing;  // clients that take a share of data.path
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    const auto& client = job.clients[i];
    if (client.data.empty()) {
      sharing.push_back(i);
      shares_wanted = shares_wanted || parts.holds(client.name);
      continue;
    }
    if (!parts.holds(client.name)) continue;
    auto records = records_of(disk, job, text, client.data);
    if (!records) return fail(std::move(records).error(), "client " + client.name);
    out[i] = {*std::move(records), client.data};
  }
  if (!shares_wanted) return out;
  const auto file = records_of(disk, job, text, job.data.path);
  if (!file) return fail(file.error());
  std::vector<std::string> names;
  names.reserve(sharing.size());
  for (const std::size_t i : sharing) names.push_back(job.clients[i].name);
  const auto draws =
      sys::Stream(static_cast<std::uint64_t>(job.training.seed)).at({.purpose = "split"});
  auto shares = job.data.split == "field" ? text::split_by_field(*file, job.data.split_field, names)
                : job.data.split == "dirichlet"
                    ? text::split_dirichlet(*file, job.data.split_field, job.data.dirichlet_alpha,
                                            names, draws)
                    : text::split_iid(file->size(), names, draws);
  if (!shares) return fail(std::move(shares).error(), "splitting " + job.data.path);
  for (const auto& share : *shares) {
    const auto at = std::find(names.begin(), names.end(), share.client) - names.begin();
    out[sharing[static_cast<std::size_t>(at)]] = {text::select(*file, share.records),
                                                  job.data.path};
  }
  return out;
}

// Moves a share of a client's records to the held-out ones.
Result<void> keep_back(ClientRecords& own, double fraction, const sys::Stream& draws,
                       std::vector<text::Record>& held_out) {
  if (fraction <= 0.0) return {};
  auto parts = text::hold_out(own.records.size(), fraction, draws);
  if (!parts) return fail(std::move(parts).error());
  for (auto& record : text::select(own.records, parts->held_out))
    held_out.push_back(std::move(record));
  own.records = text::select(own.records, parts->train);
  return {};
}

std::map<std::string, adapter::Factors> scaled_factors(const exporting::PeftAdapter& peft) {
  std::map<std::string, adapter::Factors> out;
  for (const auto& [module, pair] : peft.modules) {
    adapter::Factors factors{pair.b, pair.a};
    for (float& value : factors.b.values())
      value = static_cast<float>(static_cast<double>(value) * pair.scale);
    out.emplace(module, std::move(factors));
  }
  return out;
}

// An initial adapter says itself which layers it sits on, with which ranks and scales; what the
// job's adapter section says of them does not apply.
adapter::AdapterConfig shaped_by(adapter::AdapterConfig config,
                                 const exporting::PeftAdapter& peft) {
  if (config.method == "lora" || config.method == "rslora")
    config.method = peft.config.use_rslora ? "rslora" : "lora";
  config.targets.clear();
  config.rank_pattern.clear();
  config.alpha_pattern.clear();
  for (const auto& [module, pair] : peft.modules) {
    config.targets.push_back(module);
    const auto rank = static_cast<double>(pair.rank);
    config.rank_pattern.emplace_back(module, static_cast<std::int64_t>(pair.rank));
    // The alpha by which the method comes to the adapter's own scale.
    config.alpha_pattern.emplace_back(
        module, pair.scale * (config.method == "rslora" ? std::sqrt(rank) : rank));
  }
  return config;
}

// Exact match generates text, which not every job can: better known before the first round.
// `kept_elsewhere`: clients that train in other processes keep their held-out records there.
Result<void> check_exact_match(const TextSide& text, std::span<const text::Record> held_out,
                               bool kept_elsewhere) {
  const auto refuse = [](std::string rule, std::string remedy) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is true",
                 .where = "evaluation.exact_match",
                 .rule = std::move(rule),
                 .remedy = std::move(remedy)});
  };
  if (!text.text)
    return refuse("answers are text, but the model folder has no tokenizer.json",
                  "add the model's tokenizer.json");
  if (held_out.empty() && kept_elsewhere)
    return refuse("records that clients hold back stay with them; here are none to compare with",
                  "set evaluation.data, which the coordinator reads");
  if (held_out.empty())
    return refuse("answers are compared on held-out records",
                  "set evaluation.data or data.held_out_fraction");
  return evaluation::check_references(text::ExampleBuilder(*text.text, text.options), held_out);
}

// As a client's updates say it; 0: by its trained tokens. Where the plan fixes shares, it knows no
// client's tokens: every head counts alike.
double weight_of(const Job& job, const ClientSection& client,
                 const adapter::AdapterConfig& config) {
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  if (client.weight > 0.0 || !entry || !(*entry)->fixed_shares) return client.weight;
  return static_cast<double>(config.heads);
}

// What a client's updates will look like.
Result<coordinator::PlannedUpdate> planned(const Job& job, const ClientSection& section,
                                           const adapter::AdapterConfig& config,
                                           const model::Model& base) {
  const std::string& client = section.name;
  coordinator::PlannedUpdate out{.client = client,
                                 .ranks = {},
                                 .heads = static_cast<std::size_t>(config.heads),
                                 .weight = weight_of(job, section, config)};
  if (config.method == "full") {
    for (const auto& parameter : base.parameters()) out.ranks.emplace(parameter.name(), 0);
    return out;
  }
  const auto method = adapter::find_method(config.method);
  if (!method) return fail(method.error(), "client " + client);
  out.seeded = (*method)->seeded;
  const bool trains_a = (*method)->own_factors && !config.freeze_a;
  out.terms = job.aggregation.restart == "keep" && trains_a ? 2 : 1;
  const auto linears = client::linear_shapes(base);
  const auto set = adapter::AdapterSet::make(config, linears, sys::Stream(0));
  if (!set) return fail(set.error(), "client " + client);
  // Fresh factors between rounds leave the old ones behind, all of which an update tells.
  const std::size_t parts =
      client::parts_between_rounds(job.training, job.aggregation.restart == "fresh");
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (const auto* own = set->at(i))
      out.ranks.emplace(linears[i].module + ".weight", own->rank() * parts);
  }
  const auto saved = client::saved_parameters(config, base, *set);
  if (!saved) return fail(saved.error(), "client " + client);
  for (const std::size_t i : *saved) out.ranks.emplace(base.parameters()[i].name(), 0);
  return out;
}

// The person of each example: the value of privacy.unit.key in its record.
Result<std::vector<std::string>> people_of(const Job& job, std::span<const text::Record> records,
                                           std::span<const text::Example> examples) {
  const std::string& key = job.privacy.unit.key;
  std::map<std::string_view, std::string_view> by_source;
  for (const auto& record : records) {
    const auto person = record.field(key);
    if (!person || person->empty()) {
      return fail({.code = ErrorCode::kData,
                   .what = "has no \"" + printable(key, 80) + "\"",
                   .where = record.source,
                   .rule = "privacy.unit.key names the person of every record"});
    }
    by_source.emplace(record.source, *person);
  }
  std::vector<std::string> out;
  for (const auto& example : examples) out.emplace_back(by_source.at(example.source));
  return out;
}

Result<void> make_private(const Job& job, const std::optional<privacy::Promise>& promise,
                          const model::Model& base, std::span<const text::Record> records,
                          client::ClientSpec& spec) {
  if (!promise) return {};
  if (job.privacy.mode == "client_central") {
    spec.central = true;
    return {};
  }
  auto set = adapter::AdapterSet::make(spec.adapter, client::linear_shapes(base), sys::Stream(0));
  if (!set) return fail(std::move(set).error(), "client " + spec.name);
  auto mechanism = dp_sgd_of(job, *promise, set->trainable_count());
  if (!mechanism) return fail(std::move(mechanism).error(), "client " + spec.name);
  spec.privacy = std::move(*mechanism);
  if (job.privacy.unit.kind != "user") return {};
  auto people = people_of(job, records, spec.examples);
  if (!people) return fail(std::move(people).error(), "client " + spec.name);
  spec.people = std::move(*people);
  return {};
}

// What depends on how much a client has and trains; what is said stays with the client.
Result<void> check_private(const std::optional<privacy::Promise>& promise,
                           const client::LocalTrainer& trainer) {
  if (!promise) return {};
  if (promise->delta * static_cast<double>(trainer.units()) >= 1.0) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is too large for the records of this client",
                 .where = "privacy.budget.delta",
                 .rule = "delta is below 1 / (number of units): one unit's data could be published",
                 .remedy = "lower it",
                 .doing = {"client " + trainer.name()}});
  }
  return {};
}

}  // namespace

Result<model::Model> base_model(const sys::Disk& disk, const Job& job, tensor::DType compute) {
  if (!job.model.create) {
    auto model = model::Model::load(disk, job.model.path, compute);
    if (!model) return fail(std::move(model).error(), "loading the base model");
    return model;
  }
  const std::string path = (std::filesystem::path(job.model.path) / "config.json").string();
  auto json = disk.read_text(path);
  if (!json) return fail(std::move(json).error());
  return model::Model::create(*json, path, compute,
                              sys::Stream(static_cast<std::uint64_t>(job.training.seed)));
}

Result<model::Model> base_model(const sys::Disk& disk, const Job& job) {
  return base_model(disk, job, compute_type(job.model.dtype));
}

bool tells_gradients(const Job& job) {
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  return entry && (*entry)->gradients;
}

Result<std::unique_ptr<model::FoldRule>> fold_rule(const Job& job) {
  if (!tells_gradients(job)) return std::unique_ptr<model::FoldRule>();
  return client::make_descent_rule(job.training, job.aggregation.rounds);
}

bool Parts::holds(const std::string& client) const {
  return every_client || std::find(clients.begin(), clients.end(), client) != clients.end();
}

Result<Site> assemble_site(sys::Disk& disk, const Job& job, model::Model base, const Parts& parts) {
  auto promise = promise_of(job, "the job");
  if (!promise) return fail(std::move(promise).error());
  if (parts.every_client || !parts.clients.empty()) {
    if (auto may = check_owner(disk, job, *promise); !may) return fail(std::move(may).error());
  }
  auto text = load_text(disk, job.model.path, job.data, base.config());
  if (!text) return fail(std::move(text).error());
  std::map<std::string, adapter::Factors> initial, initial_scaled;
  std::optional<exporting::PeftAdapter> start;
  if (!job.adapter.init.empty()) {
    auto peft = exporting::read_peft(disk, job.adapter.init);
    if (!peft) return fail(std::move(peft).error(), "reading adapter.init");
    initial = exporting::factors(*peft);
    initial_scaled = scaled_factors(*peft);
    start = std::move(*peft);
  }
  auto records = client_records(disk, job, *text, parts);
  if (!records) return fail(std::move(records).error());

  std::vector<std::size_t> order(job.clients.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return job.clients[a].name < job.clients[b].name;
  });

  std::vector<text::Record> held_out_records;
  const sys::Stream root(static_cast<std::uint64_t>(job.training.seed));
  std::vector<client::LocalTrainer> trainers;
  std::vector<ClientData> data;
  std::vector<coordinator::PlannedUpdate> updates;
  std::vector<std::unique_ptr<client::Budget>> budgets;
  std::vector<adapter::AdapterConfig> adapters;
  const bool central = job.privacy.mode == "client_central";
  for (const std::size_t i : order) {
    const auto& client = job.clients[i];
    const auto config = start ? shaped_by(client.adapter, *start) : client.adapter;
    auto update = planned(job, client, config, base);
    if (!update) return fail(std::move(update).error());
    updates.push_back(std::move(*update));
    adapters.push_back(config);
    if (!parts.holds(client.name)) continue;
    ClientRecords& own = (*records)[i];
    const auto draws = root.at({.client = sys::name_hash(client.name), .purpose = "hold_out"});
    if (auto kept = keep_back(own, job.data.held_out_fraction, draws, held_out_records); !kept) {
      return fail(std::move(kept).error(), "client " + client.name);
    }
    auto examples = text->examples(own.records, "client " + client.name, own.source);
    if (!examples) return fail(std::move(examples).error());
    data.push_back({client.name, own.source, examples->report});
    client::ClientSpec spec{.name = client.name,
                            .adapter = config,
                            .initial = initial,
                            .examples = std::move(examples->examples),
                            .weight = weight_of(job, client, config),
                            .gradients = tells_gradients(job),
                            .late = job.aggregation.overlap};
    if (auto ready = make_private(job, *promise, base, own.records, spec); !ready)
      return fail(std::move(ready).error());
    auto trainer = client::LocalTrainer::make(std::move(spec), job.training, base,
                                              static_cast<std::uint32_t>(job.aggregation.rounds));
    if (!trainer) return fail(std::move(trainer).error());
    if (auto sound = check_private(*promise, *trainer); !sound)
      return fail(std::move(sound).error());
    trainers.push_back(std::move(*trainer));
    // Where the coordinator adds the noise, it keeps the ledger.
    if (!*promise || central || job.privacy.seeded_noise) continue;
    auto budget = open_budget(disk, job, **promise, client.name, own.records);
    if (!budget) return fail(std::move(budget).error());
    budgets.push_back(std::move(*budget));
  }

  // Each client's own; and part of them would be no measure of the whole.
  if (!parts.coordinator || !parts.every_client) held_out_records.clear();
  if (parts.coordinator && !job.evaluation.data.empty()) {
    auto records_held = records_of(disk, job, *text, job.evaluation.data);
    if (!records_held) return fail(std::move(records_held).error(), "reading evaluation.data");
    for (auto& record : *records_held) held_out_records.push_back(std::move(record));
  }
  const auto limit = static_cast<std::size_t>(job.evaluation.max_records);
  if (limit > 0 && held_out_records.size() > limit) held_out_records.resize(limit);
  if (parts.coordinator && job.evaluation.exact_match) {
    if (auto able = check_exact_match(*text, held_out_records, !parts.every_client); !able)
      return fail(std::move(able).error());
  }
  std::vector<text::Example> held_out;
  if (!held_out_records.empty()) {
    auto examples = text->examples(held_out_records, "held-out data", job.evaluation.data);
    if (!examples) return fail(std::move(examples).error());
    held_out = std::move(examples->examples);
  }
  coordinator::CommonStart common;
  if (central && parts.coordinator)
    common = common_start(base, std::move(adapters), initial,
                          static_cast<std::uint64_t>(job.training.seed));
  return Site{.text = std::move(*text),
              .base = std::move(base),
              .trainers = std::move(trainers),
              .data = std::move(data),
              .planned = std::move(updates),
              .held_out = std::move(held_out),
              .held_out_records = std::move(held_out_records),
              .initial = std::move(initial_scaled),
              .promise = std::move(*promise),
              .budgets = std::move(budgets),
              .common = std::move(common)};
}

Result<Site> assemble_site(sys::Disk& disk, const Job& job, const Parts& parts) {
  auto model = base_model(disk, job);
  if (!model) return fail(std::move(model).error());
  return assemble_site(disk, job, std::move(*model), parts);
}

Result<Federation> assemble(sys::Disk& disk, const Job& job, int threads) {
  auto model = base_model(disk, job);
  if (!model) return fail(std::move(model).error());
  return assemble(disk, job, std::move(*model), threads);
}

namespace {

Result<Federation> with_coordinator(Result<Site> site, const Job& job, int threads) {
  if (!site) return fail(std::move(site).error());
  auto coordinator =
      coordinator::Coordinator::make(job.aggregation, std::move(site->base), threads);
  if (!coordinator) return fail(std::move(coordinator).error());
  if (auto able = coordinator->check_clients(site->planned); !able)
    return fail(std::move(able).error());
  coordinator->expect(site->planned);
  auto rule = fold_rule(job);
  if (!rule) return fail(std::move(rule).error());
  coordinator->fold_by(std::move(*rule));
  return Federation{.text = std::move(site->text),
                    .coordinator = std::move(*coordinator),
                    .trainers = std::move(site->trainers),
                    .planned = std::move(site->planned),
                    .data = std::move(site->data),
                    .held_out = std::move(site->held_out),
                    .held_out_records = std::move(site->held_out_records),
                    .initial = std::move(site->initial),
                    .promise = std::move(site->promise),
                    .budgets = std::move(site->budgets),
                    .common = std::move(site->common)};
}

}  // namespace

Result<Federation> assemble(sys::Disk& disk, const Job& job, model::Model base, int threads) {
  return with_coordinator(assemble_site(disk, job, std::move(base), Parts{}), job, threads);
}

Result<Federation> assemble_member(sys::Disk& disk, const Job& job,
                                   std::vector<std::string> clients, int threads) {
  Parts parts{.coordinator = true, .every_client = false, .clients = std::move(clients)};
  return with_coordinator(assemble_site(disk, job, parts), job, threads);
}

Result<Federation> assemble_coordinator(sys::Disk& disk, const Job& job, int threads) {
  return with_coordinator(assemble_site(disk, job, {.coordinator = true, .every_client = false}),
                          job, threads);
}

}  // namespace strata::cli
