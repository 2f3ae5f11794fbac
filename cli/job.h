#pragma once
// A job file: every section of a federation, read and described in one place. Sections that belong
// to a module are described by it. Const after read_job().
#include <cstdint>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "base/result.h"
#include "client/training_config.h"
#include "config/section.h"
#include "coordinator/coordinator.h"
#include "privacy/privacy_config.h"
#include "sys/disk.h"

namespace strata::cli {

struct ModelSection {
  std::string path;
  std::string dtype = "f32";  // of matrix products: f32 | bf16
  bool create = false;        // fresh weights by training.seed instead of the folder's
};

/// Where records come from and how they become tokens.
struct DataSection {
  std::string path;  // one file for all clients, split below; empty: each client names its own
  std::string split = "iid";  // iid | field | dirichlet
  std::string split_field;    // field and dirichlet
  double dirichlet_alpha = 0.5;
  double held_out_fraction = 0.0;  // of each client's records, kept for evaluation
  std::string chat_template = "auto";
  std::int64_t max_length = 512;
  bool completion_only = true;
  std::string separator;                      // plain template: between prompt and completion
  std::map<std::string, std::string> fields;  // name strata knows -> key in the file
  bool plain_text = false;  // text files and folders too, in records of max_length tokens
};

struct AdapterSection {
  adapter::AdapterConfig config;
  std::string init;  // PEFT folder to start from
};

struct ClientSection {
  std::string name;
  std::string data;     // file; empty: its share of data.path
  std::string key;      // hash of its public key, which it must have; empty: any that is signed
  double weight = 0.0;  // 0: number of trained tokens
  adapter::AdapterConfig
      adapter;  // the job's adapter section with this client's own values over it
};

struct EvaluationSection {
  std::string data;                  // held-out file
  std::int64_t every = 1;            // rounds between evaluations
  std::int64_t max_records = 0;      // 0: all
  std::int64_t client_records = 64;  // of each client's own, for the loss before and after; 0: none
  bool exact_match = false;          // generate answers and compare
  std::int64_t max_new_tokens = 32;
};

/// Seconds of a process's patience with the others of its run; each process has its own.
struct NetworkSection {
  double connect = 10;  // over TLS: to find a host and to be connected
  double handshake =
      10;               // over TLS: until a peer has proved who it is; as long for its first frame
  double silence = 45;  // over TLS and MPI: without a word, until a peer is gone
  double reload = 60;   // a coordinator's: between looks for changed certificates
};

struct OutputSection {
  std::string directory;
  bool round_adapters = true;         // each round's update as a PEFT adapter
  bool merged_model = false;          // the final model as a Hugging Face folder
  bool keep_updates = false;          // what each client sent, for `strata replay`
  std::int64_t checkpoint_every = 0;  // rounds between models written on the way; 0: none
  std::int64_t keep_checkpoints = 2;  // the latest of them
  std::string merged_dtype = "bf16";
};

struct Job {
  std::string name = "run";
  ModelSection model;
  DataSection data;
  AdapterSection adapter;
  std::vector<ClientSection> clients;
  client::TrainingConfig training;
  coordinator::AggregationConfig aggregation;
  privacy::PrivacyConfig privacy;
  EvaluationSection evaluation;
  NetworkSection network;
  OutputSection output;
};

/// Every key of a job file with its rule and help.
void describe(config::Fields& fields, Job& job);

/// The keys of the section network, of a job and of a client's own file.
void describe(config::Fields& fields, NetworkSection& network);

/// Reads a job file, applies `overrides` ("training.seed=3"), checks what one field alone cannot
/// say (client names, data for every client). kConfig naming file and key.
[[nodiscard]] Result<Job> read_job(const sys::Disk& disk, const std::string& path,
                                   const std::vector<std::string>& overrides);

/// The same of a text; `where` names it in errors and is where relative paths start from.
[[nodiscard]] Result<Job> parse_job(const std::string& text, const std::string& where,
                                    const std::vector<std::string>& overrides);

/// The job with every default filled in, as JSON.
[[nodiscard]] std::string resolved(const Job& job);
/// JSON Schema of a job file.
[[nodiscard]] std::string job_schema();

}  // namespace strata::cli
