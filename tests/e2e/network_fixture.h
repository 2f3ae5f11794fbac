#pragma once
// The small federation with the jobs that are run by more than one way of being many processes.
#include "e2e/federation_fixture.h"

namespace strata {

class Network : public Federation {
 protected:
  // Noisy steps, and `more` in the section.
  void write_private_job(const json& more) {
    job_["privacy"] = {{"mode", "example_dpsgd"},
                       {"budget", {{"epsilon", 8.0}, {"delta", 1e-3}}},
                       {"sampling", {{"q", 0.5}}},
                       {"batch_divisor", 3}};
    job_["privacy"].update(more);
    write_job();
  }
  // Whole clients, hidden by the coordinator.
  void write_central_job(const json& more) {
    job_["adapter"]["method"] = "seeded-a";
    job_["aggregation"]["restart"] = "fresh";
    job_["privacy"] = {{"mode", "client_central"},
                       {"unit", {{"kind", "client"}}},
                       {"budget", {{"epsilon", 8.0}, {"delta", 1e-3}}},
                       {"weights", {{"denominator", 3}}}};
    job_["privacy"].update(more);
    write_job();
  }
};

// Parallel heads that merge in their clients every step, on a model that everybody draws.
inline nlohmann::json lte_of(nlohmann::json job) {
  job["model"]["create"] = true;
  job["adapter"] = {{"method", "lte"}, {"rank", 2},
                    {"alpha", 4},      {"targets", {"q_proj", "v_proj"}},
                    {"heads", 2},      {"modules_to_save", {"norm"}}};
  job["clients"][1]["adapter"] = {{"rank", 3}};
  job["training"]["merge_every"] = 1;
  job["aggregation"] = {{"method", "lte"}, {"rounds", 3}};
  return job;
}

// Gradients of every step.
inline nlohmann::json data_parallel_of(nlohmann::json job) {
  job["adapter"] = {{"method", "full"}};
  for (auto& client : job["clients"]) client.erase("adapter");
  job["training"]["local_steps"] = 1;
  job["aggregation"] = {{"method", "data_parallel"}, {"rounds", 4}};
  return job;
}

}  // namespace strata
