#pragma once
// Values into objects: from a job to the model, the clients' records and the trainers of a
// federation in one process.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/job.h"
#include "client/budget.h"
#include "client/local_trainer.h"
#include "coordinator/coordinator.h"
#include "model/fold_rule.h"
#include "privacy/promise.h"
#include "sys/disk.h"
#include "text/example_builder.h"
#include "text/model_text.h"
#include "text/record_reader.h"

namespace strata::cli {

/// The text side of a model folder; `text` is empty when the folder has no tokenizer.json (records
/// must then be input_ids).
struct TextSide {
  std::optional<text::ModelText> text;
  text::BuildOptions options;
  std::size_t vocab = 0;
  std::optional<model::PatchGrid> images = {};  // of a model of images, which reads those alone

  /// Examples of a file's records; `who` names them in errors.
  [[nodiscard]] Result<text::Examples> examples(std::span<const text::Record> records,
                                                std::string_view who, std::string_view path) const;
};

[[nodiscard]] Result<TextSide> load_text(const sys::Disk& disk, const std::string& model_dir,
                                         const DataSection& data,
                                         const model::DecoderConfig& model);

/// The records of a file; of a model of images, those of a file or folder of images.
[[nodiscard]] Result<std::vector<text::Record>> read_data(const sys::Disk& disk,
                                                          const TextSide& text,
                                                          const std::string& path,
                                                          const text::FieldMap& fields);

/// What became of one client's data, for people.
struct ClientData {
  std::string name;
  std::string source;
  text::DataReport report;
};

/// Which parts of a federation one process plays.
struct Parts {
  bool coordinator = true;
  bool every_client = true;
  std::vector<std::string> clients = {};  // those of this process, unless every one

  [[nodiscard]] bool holds(const std::string& client) const;
};

/// What a process needs for its parts, apart from the coordinator itself. Movable.
struct Site {
  TextSide text;
  model::Model base;
  std::vector<client::LocalTrainer> trainers;       // of its clients, in the order of their names
  std::vector<ClientData> data;                     // same order
  std::vector<coordinator::PlannedUpdate> planned;  // of every client of the job, in that order
  std::vector<text::Example> held_out;
  std::vector<text::Record> held_out_records;  // for exact match
  std::map<std::string, adapter::Factors>
      initial;  // adapter.init with its scale in B, beside the base before round 1
  std::optional<privacy::Promise> promise;               // of a private run
  std::vector<std::unique_ptr<client::Budget>> budgets;  // of its clients; else empty
  coordinator::CommonStart common;  // what rounds of client_central begin with; else empty
};

/// The job's base model: loaded, or made from its config.json by the job's seed.
[[nodiscard]] Result<model::Model> base_model(const sys::Disk& disk, const Job& job);
[[nodiscard]] Result<model::Model> base_model(const sys::Disk& disk, const Job& job,
                                              tensor::DType compute);

/// Whether its updates are gradients.
[[nodiscard]] bool tells_gradients(const Job& job);
/// How its packets change the model; null: they are added.
[[nodiscard]] Result<std::unique_ptr<model::FoldRule>> fold_rule(const Job& job);

/// Loads and checks what the parts need; reads no other client's data.
[[nodiscard]] Result<Site> assemble_site(sys::Disk& disk, const Job& job, model::Model base,
                                         const Parts& parts);
[[nodiscard]] Result<Site> assemble_site(sys::Disk& disk, const Job& job, const Parts& parts);

/// A whole run in one process. Movable.
struct Federation {
  TextSide text;
  coordinator::Coordinator coordinator;
  std::vector<client::LocalTrainer> trainers;       // in client-name order
  std::vector<coordinator::PlannedUpdate> planned;  // same order
  std::vector<ClientData> data;                     // same order
  std::vector<text::Example> held_out;
  std::vector<text::Record> held_out_records;  // for exact match
  std::map<std::string, adapter::Factors>
      initial;  // adapter.init with its scale in B, beside the base before round 1
  std::optional<privacy::Promise> promise;               // of a private run
  std::vector<std::unique_ptr<client::Budget>> budgets;  // of its clients; else empty
  coordinator::CommonStart common;  // what rounds of client_central begin with; else empty
};

/// Loads and checks everything before anything is computed or written.
[[nodiscard]] Result<Federation> assemble(sys::Disk& disk, const Job& job, int threads);
/// The same around a model that is already there (made from scratch); job.model.path still gives
/// tokenizer and configuration.
[[nodiscard]] Result<Federation> assemble(sys::Disk& disk, const Job& job, model::Model base,
                                          int threads);

/// A member's part of a mesh: a coordinator, and of the clients those that are named. What these
/// keep back from training is not evaluated: the others' would be missing.
[[nodiscard]] Result<Federation> assemble_member(sys::Disk& disk, const Job& job,
                                                 std::vector<std::string> clients, int threads);

/// The coordinator's part of a run whose clients are elsewhere: no trainers, no client's records.
[[nodiscard]] Result<Federation> assemble_coordinator(sys::Disk& disk, const Job& job, int threads);

[[nodiscard]] tensor::DType compute_type(const std::string& dtype);

}  // namespace strata::cli
