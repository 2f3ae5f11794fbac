#pragma once
// The program as a test runs it, and a small federation that works, for tests to change or break.
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/letters_tokenizer.h"
#include "support/process.h"

namespace strata::cli {

namespace fs = std::filesystem;
using nlohmann::json;
using support::Finished;
using support::read_file;
using support::ScratchFolder;
using support::write_file;

[[nodiscard]] inline std::vector<std::string> strata_args(std::vector<std::string> args) {
  args.insert(args.begin(), STRATA_BINARY);
  return args;
}

[[nodiscard]] inline Finished strata(std::vector<std::string> args, const std::string& input = {}) {
  return support::run_program(strata_args(std::move(args)), input);
}

[[nodiscard]] inline fs::path golden_model(const std::string& name) {
  return fs::path(STRATA_SOURCE_DIR) / "tests" / "golden" / "model" / name;
}

/// A folder with a job of two clients that runs: model/, a.jsonl, b.jsonl, job.json. Cases change
/// its parts.
struct Federation {
  fs::path folder;
  json job;

  explicit Federation(const fs::path& where) : folder(where) {
    fs::create_directories(model());
    for (const char* name : {"config.json", "model.safetensors"})
      fs::copy_file(golden_model("llama") / name, model() / name);
    support::write_file(model() / "tokenizer.json", support::letters_tokenizer().dump());
    support::write_file(a(), R"({"input_ids":[1,5,9,4,8,3],"labels":[-100,-100,9,4,8,3]})"
                             "\n"
                             R"({"input_ids":[7,7,2,6]})"
                             "\n");
    support::write_file(b(), R"({"prompt":"plain ","completion":"words"})"
                             "\n"
                             R"({"prompt":"a ","completion":"b"})"
                             "\n");
    job = {{"version", 1},
           {"model", {{"path", "model"}}},
           {"adapter", {{"rank", 2}, {"alpha", 4}, {"targets", {"q_proj", "v_proj"}}}},
           {"clients",
            {{{"name", "anna"}, {"data", "a.jsonl"}}, {{"name", "berta"}, {"data", "b.jsonl"}}}},
           {"training", {{"max_steps", 2}, {"batch_size", 2}, {"learning_rate", 0.001}}},
           {"aggregation", {{"method", "flora"}, {"rounds", 1}}},
           {"privacy", {{"mode", "none"}}}};
  }

  [[nodiscard]] fs::path model() const { return folder / "model"; }
  [[nodiscard]] fs::path weights() const { return model() / "model.safetensors"; }
  [[nodiscard]] fs::path a() const { return folder / "a.jsonl"; }
  [[nodiscard]] fs::path b() const { return folder / "b.jsonl"; }
  [[nodiscard]] fs::path out() const { return folder / "out"; }

  /// The job with noisy steps, as private.json.
  void write_private_job() const {
    nlohmann::json own = job;
    own["training"] = {{"local_steps", 2}, {"learning_rate", 0.001}};
    own["privacy"] = {{"mode", "example_dpsgd"},
                      {"budget", {{"epsilon", 8.0}, {"delta", 1e-5}}},
                      {"sampling", {{"q", 0.5}}},
                      {"batch_divisor", 1},
                      {"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}};
    support::write_file(folder / "private.json", own.dump(1));
  }

  /// `strata run` on the job, written first unless a case wrote one itself.
  [[nodiscard]] std::vector<std::string> run_args(const std::vector<std::string>& more = {}) const {
    if (!fs::exists(folder / "job.json")) support::write_file(folder / "job.json", job.dump(1));
    std::vector<std::string> args = {"run", folder / "job.json", "-o", out()};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  [[nodiscard]] Finished run(const std::vector<std::string>& more = {}) const {
    return strata(run_args(more));
  }
};

/// What a run folder's metrics.jsonl tells under `name`, in order.
[[nodiscard]] inline std::vector<json> events(const fs::path& folder, const std::string& name) {
  std::vector<json> out;
  std::istringstream lines(read_file(folder / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    json event = json::parse(line);
    if (event.at("event") == name) out.push_back(std::move(event));
  }
  return out;
}

/// Until `path` exists; throws after a minute.
inline void wait_for(const fs::path& path) {
  for (int i = 0; i < 30000; ++i) {
    if (fs::exists(path)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  throw std::runtime_error("waited in vain for " + path.string());
}

}  // namespace strata::cli
