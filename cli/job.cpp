#include "cli/job.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/hash.h"
#include "cli/gradient_rules.h"
#include "cli/head_rules.h"
#include "cli/mesh_rules.h"
#include "cli/privacy_rules.h"
#include "cli/refusal.h"
#include "text/record_reader.h"

namespace strata::cli {
namespace {

using config::Fields;

void describe_model(Fields& f, ModelSection& m) {
  static constexpr std::array<std::string_view, 2> kTypes{"f32", "bf16"};
  f.path("path", m.path, "Hugging Face folder of the base model");
  f.choice("dtype", m.dtype, kTypes, "type of the matrix products; sums are always f32");
  f.boolean(
      "create", m.create,
      "fresh weights for the folder's config.json, drawn by training.seed, instead of its own");
  f.required({"path"});
}

void describe_data(Fields& f, DataSection& d) {
  static constexpr std::array<std::string_view, 3> kSplits{"iid", "field", "dirichlet"};
  f.path("path", d.path,
         "one file whose records are split over the clients; or give each client its own data");
  f.choice("split", d.split, kSplits,
           "how `path` is split: evenly, by a field's values, or Dirichlet over them");
  f.text("split_field", d.split_field, "record key for field and dirichlet splits");
  f.number("dirichlet_alpha", d.dirichlet_alpha, {.max = 1e6, .above = 0.0},
           "small: very unequal clients");
  f.number("held_out_fraction", d.held_out_fraction, {.min = 0.0, .below = 1.0},
           "share of each client's records kept for evaluation");
  f.boolean("plain_text", d.plain_text,
            "files that hold no records, and folders, are text: documents one behind another, cut "
            "into records of max_length tokens, as `strata pretrain` does");
  f.text("template", d.chat_template, "chat template: auto, plain, chatml, llama3, alpaca, ...");
  f.integer("max_length", d.max_length, {.min = 2, .max = 1e7},
            "tokens of a record; longer ones lose their end");
  f.boolean("completion_only", d.completion_only,
            "train on completions only; false: on every token");
  f.text("separator", d.separator, "plain template: what stands between prompt and completion");
  f.object(
      "fields",
      [&](Fields& inner) {
        for (const auto& name : text::field_names())
          inner.text(name, d.fields[name], "key in the file that holds the " + name);
      },
      "names of the keys in files with unusual ones");
}

void describe_adapter(Fields& f, adapter::AdapterConfig& a) {
  std::vector<std::string_view> names;
  for (const auto& method : adapter::methods()) names.push_back(method.name);
  names.emplace_back("full");
  f.choice("method", a.method, names, "adapter method; full trains every parameter");
  f.integer("rank", a.rank, {.min = 1, .max = 65536}, "rank of the factors");
  f.number("alpha", a.alpha, {.max = 1e6, .above = 0.0}, "scale numerator: alpha / rank");
  f.number("dropout", a.dropout, {.min = 0.0, .below = 1.0}, "on the adapter's input");
  f.number("lr_ratio_b", a.lr_ratio_b, {.max = 1e6, .above = 0.0},
           "LoRA+: learning rate of B over that of A");
  f.boolean("freeze_a", a.freeze_a, "A stays as it was drawn, only B is trained (LoRA-FA)");
  f.integer("heads", a.heads, {.min = 1, .max = 4096},
            "adapters side by side on each layer, each with its own part of every batch");
  f.texts("targets", a.targets, "layers: all-linear, names such as q_proj, or regular expressions");
  f.texts("modules_to_save", a.modules_to_save,
          "modules trained themselves beside the adapters; all-other: whatever no adapter changes");
  f.integer_map("rank_pattern", a.rank_pattern, {.min = 1, .max = 65536},
                "rank for layers that match; the first match counts");
  f.number_map("alpha_pattern", a.alpha_pattern, {.max = 1e6, .above = 0.0},
               "alpha for layers that match; the first match counts");
}

void describe_client(Fields& f, ClientSection& c) {
  f.text("name", c.name, "lower-case letters, digits, '.', '_' and '-'");
  f.path("data", c.data, "this client's records");
  f.text("key_sha256", c.key,
         "over TLS: the number of this client's key, as `strata certs request` prints it; no other "
         "key is let in under its name. Empty: any that the authority signed");
  f.number("weight", c.weight, {.min = 0.0, .max = 1e12},
           "relative weight in the aggregate; 0: its trained tokens");
  f.object(
      "adapter", [&](Fields& inner) { describe_adapter(inner, c.adapter); },
      "what differs from the job's adapter section");
  f.required({"name"});
}

void describe_aggregation(Fields& f, coordinator::AggregationConfig& a) {
  static constexpr std::array<std::string_view, 3> kRestarts{"auto", "fresh", "keep"};
  static constexpr std::array<std::string_view, 2> kTopologies{"star", "mesh"};
  static constexpr std::array<std::string_view, 3> kExchanges{"auto", "gather", "scatter"};
  std::vector<std::string_view> names;
  for (const auto& entry : coordinator::aggregators()) names.push_back(entry.name);
  f.choice(
      "method", a.method, names,
      "flora and lte are exact; data_parallel averages gradients; fedavg and zero_pad factors");
  f.choice(
      "restart", a.restart, kRestarts,
      "flora, lte: new factors each round, or factors and moments kept; auto: fresh for flora, "
      "keep for lte");
  f.integer("rounds", a.rounds, {.min = 1, .max = 1e6}, "number of rounds");
  f.integer("clients_per_round", a.clients_per_round, {.min = 0, .max = 1e6},
            "clients drawn for each round; 0: all");
  f.number("deadline", a.deadline, {.min = 0},
           "seconds of a round, after which it closes without those that are missing; 0: it waits "
           "for every client that was drawn. A run in one process waits");
  f.number("max_update_norm", a.max_update_norm, {.min = 0, .max = 1e30},
           "an update of a larger Frobenius norm is refused; 0: none is");
  f.choice("encoding", a.encoding, protocol::kEncodingNames,
           "values of updates on their way: f32, bf16 (half the bytes) or int8 (a quarter)");
  f.choice(
      "topology", a.topology, kTopologies,
      "of a job that mpirun starts: star, rank 0 coordinates; mesh, all ranks train, send each "
      "other their updates and merge them themselves. The model is the same");
  f.choice(
      "exchange", a.exchange, kExchanges,
      "in a mesh: gather, every rank gets all updates; scatter, each rank merges a part of the "
      "tensors and gets the other parts merged; auto, whichever is fewer bytes");
  f.boolean("overlap", a.overlap,
            "in a mesh, with kept factors: rounds are trained while the updates of the one before "
            "travel, on the model before their merge; each client carries its own on");
  f.integer("min_clients", a.min_clients, {.min = 1, .max = 1e6},
            "a round with fewer usable updates fails");
  f.boolean("measure", a.measure, "compute the exactness line of every round");
  f.boolean("diagnostics", a.diagnostics,
            "tell each round, by tensor, the effective rank of all that was merged, how far the "
            "heads' directions agree, and how what they merge goes along the gradient of the "
            "merged loss; for strata inspect");
}

void describe_evaluation(Fields& f, EvaluationSection& e) {
  f.path("data", e.data, "held-out records for the global model");
  f.integer("every", e.every, {.min = 1, .max = 1e6}, "rounds between evaluations");
  f.integer("max_records", e.max_records, {.min = 0, .max = 1e9},
            "use only the first so many; 0: all");
  f.integer("client_records", e.client_records, {.min = 0, .max = 1e9},
            "of each client's own, for its loss before and after");
  f.boolean("exact_match", e.exact_match,
            "generate answers greedily and compare with the reference");
  f.integer("max_new_tokens", e.max_new_tokens, {.min = 1, .max = 1e6}, "longest generated answer");
}

void describe_output(Fields& f, OutputSection& o) {
  static constexpr std::array<std::string_view, 3> kTypes{"f32", "bf16", "f16"};
  f.path("directory", o.directory, "run folder; -o wins");
  f.boolean("round_adapters", o.round_adapters, "write each round's update as a PEFT adapter");
  f.boolean("merged_model", o.merged_model, "write the final model as a Hugging Face folder");
  f.boolean("keep_updates", o.keep_updates,
            "keep every client's update of every round, so that strata replay can recompute it");
  f.choice("merged_dtype", o.merged_dtype, kTypes, "type of the merged model's tensors");
  f.integer("checkpoint_every", o.checkpoint_every, {.min = 0, .max = 1e6},
            "rounds between models written on the way, each a Hugging Face folder; 0: none");
  f.integer("keep_checkpoints", o.keep_checkpoints, {.min = 1, .max = 1e6},
            "how many of them are kept, the latest");
}

bool good_name(const std::string& name) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 63 && plain(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; });
}

Result<void> check_job(const Job& job, const std::string& file) {
  const Refusal refuse{file};
  if (!good_name(job.name)) {
    return refuse("name", "is \"" + printable(job.name, 80) + "\"",
                  "the run's folder is called so: up to 63 lower-case letters, digits, '.', '_' or "
                  "'-', starting with a letter or digit");
  }
  if (job.clients.empty())
    return refuse("clients", "is empty", "a federation has at least one client");
  std::set<std::string> names;
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    const auto& client = job.clients[i];
    const std::string key = "clients[" + std::to_string(i) + "]";
    if (!good_name(client.name)) {
      return refuse(key + ".name", "is \"" + printable(client.name, 80) + "\"",
                    "a name is up to 63 lower-case letters, digits, '.', '_' or '-', starting with "
                    "a letter or digit");
    }
    if (!names.insert(client.name).second)
      return refuse(key + ".name", "\"" + client.name + "\" is used twice", "names are unique");
    if (!client.key.empty() && !unhex(client.key))
      return refuse(key + ".key_sha256", "is \"" + printable(client.key, 80) + "\"",
                    "64 lower-case hexadecimal digits, as `strata certs request` prints them");
    if (client.data.empty() && job.data.path.empty()) {
      return refuse(key + ".data", "is missing", "every client needs records",
                    "give the client data, or set data.path and data.split");
    }
    if (client.adapter.method == "full" && !job.adapter.init.empty()) {
      return refuse("adapter.init", "is set although " + client.name + " trains all parameters",
                    "an initial adapter needs adapters");
    }
    const auto method = adapter::find_method(client.adapter.method);
    if (method && (*method)->seeded && !job.adapter.init.empty()) {
      return refuse("adapter.init", "is set although " + client.name + " draws A anew each round",
                    "an initial adapter brings an A of its own", "use adapter.method \"ffa\"");
    }
  }
  if (job.data.split != "iid" && !job.data.path.empty() && job.data.split_field.empty()) {
    return refuse("data.split_field", "is missing",
                  "a " + job.data.split + " split needs the record key to split by");
  }
  return {};
}

Result<void> check_checkpoints(const Job& job, const std::string& file) {
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  const bool factors = std::any_of(job.clients.begin(), job.clients.end(), [](const auto& client) {
    return client.adapter.method != "full";
  });
  if (job.output.checkpoint_every == 0 || !entry || !(*entry)->averages_factors || !factors)
    return {};
  return Refusal{file}("output.checkpoint_every",
                       "is " + std::to_string(job.output.checkpoint_every),
                       job.aggregation.method + " leaves the model as it was until the last round",
                       "rounds/NNNN has each round's adapter");
}

// In a job that has been read, what "auto" came to.
void settle_restart(Job& job) {
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  if (job.aggregation.restart == "auto" && entry) job.aggregation.restart = (*entry)->restart;
}

}  // namespace

void describe(Fields& f, Job& job) {
  f.text("name", job.name, "name of the run");
  f.object(
      "model", [&](Fields& inner) { describe_model(inner, job.model); }, "the base model");
  f.object(
      "data", [&](Fields& inner) { describe_data(inner, job.data); },
      "records and how they become tokens");
  f.object(
      "adapter",
      [&](Fields& inner) {
        describe_adapter(inner, job.adapter.config);
        inner.path(
            "init", job.adapter.init,
            "PEFT folder to start from; its layers, ranks and scales then hold for all clients");
      },
      "what clients train, unless they say otherwise");
  f.objects(
      "clients", job.clients.size(),
      [&](std::size_t n) {
        job.clients.resize(n);
        for (auto& client : job.clients)
          client.adapter = job.adapter.config;  // read above: defaults for each client
      },
      [&](std::size_t i, Fields& inner) {
        if (i >= job.clients.size()) job.clients.resize(i + 1);
        describe_client(inner, job.clients[i]);
      },
      "the clients");
  f.object(
      "training", [&](Fields& inner) { client::describe(inner, job.training); },
      "how clients train");
  f.object(
      "aggregation", [&](Fields& inner) { describe_aggregation(inner, job.aggregation); },
      "how updates become one model");
  f.object(
      "privacy", [&](Fields& inner) { privacy::describe(inner, job.privacy); },
      "what is promised about the clients' records");
  f.object(
      "evaluation", [&](Fields& inner) { describe_evaluation(inner, job.evaluation); },
      "what is measured");
  f.object(
      "network", [&](Fields& inner) { describe(inner, job.network); },
      "how long the processes of a run wait for each other");
  f.object(
      "output", [&](Fields& inner) { describe_output(inner, job.output); }, "what is written");
  f.required({"model", "clients"});
}

void describe(Fields& f, NetworkSection& n) {
  constexpr double kDay = 86400;
  f.number("connect", n.connect, {.max = kDay, .above = 0.0},
           "seconds to find a host and to be connected to it by TLS");
  f.number("handshake", n.handshake, {.max = kDay, .above = 0.0},
           "seconds until a TLS peer has proved who it is, and as many until its first frame");
  f.number("silence", n.silence, {.min = 1, .max = kDay},
           "seconds without a word after which a peer is taken for gone, over TLS and MPI; each "
           "side says something in a third of them");
  f.number("reload", n.reload, {.max = kDay, .above = 0.0},
           "seconds between a coordinator's looks for a new certificate or list of revoked ones");
}

Result<Job> read_job(const sys::Disk& disk, const std::string& path,
                     const std::vector<std::string>& overrides) {
  auto json = disk.read_text(path);
  if (!json) return fail(std::move(json).error());
  return parse_job(*json, path, overrides);
}

Result<Job> parse_job(const std::string& text, const std::string& where,
                      const std::vector<std::string>& overrides) {
  Job job;
  if (auto read = config::read(text, where, overrides, [&](Fields& f) { describe(f, job); });
      !read) {
    return fail(std::move(read).error());
  }
  std::erase_if(job.data.fields, [](const auto& entry) { return entry.second.empty(); });
  if (auto ok = check_job(job, where); !ok) return fail(std::move(ok).error());
  settle_restart(job);
  // What is changed beside adapters is in no adapter: the model is the result.
  for (const auto& client : job.clients)
    job.output.merged_model = job.output.merged_model || !client.adapter.modules_to_save.empty();
  if (auto ok = check_heads(job, where); !ok) return fail(std::move(ok).error());
  if (auto ok = check_gradients(job, where); !ok) return fail(std::move(ok).error());
  if (auto ok = check_checkpoints(job, where); !ok) return fail(std::move(ok).error());
  if (auto ok = check_mesh(job, where); !ok) return fail(std::move(ok).error());
  if (auto ok = settle_privacy(job, where); !ok) return fail(std::move(ok).error());
  return job;
}

std::string resolved(const Job& job) {
  Job copy = job;
  return config::resolved_json([&](Fields& f) { describe(f, copy); });
}

std::string job_schema() {
  Job job;
  return config::schema_json("strata job", [&](Fields& f) { describe(f, job); });
}

}  // namespace strata::cli
