#pragma once
// The `privacy` section of a job: what is promised to whom about whom, and by which mechanism. Only
// what one key alone or two keys of the section can say is checked here; what depends on the rest
// of a job is the job's affair.
// Threads: values.
#include <cstdint>
#include <optional>
#include <string>

#include "config/section.h"
#include "privacy/accountant/event.h"

namespace strata::privacy {

struct UnitConfig {
  std::string kind = "example";  // example | user | client: who is protected as a whole
  std::string key;               // user: the record key that names the person
};

struct BudgetConfig {
  std::optional<double> epsilon;
  std::optional<double> delta;
  std::string scope = "run";  // run | dataset_lifetime
};

struct SamplingConfig {
  std::string scheme = "poisson";  // poisson | full
  std::optional<double> q;         // probability of a unit to be in a step
};

struct StepsConfig {
  std::int64_t local_per_round =
      0;                    // noisy releases of a client in a round; 0: training.local_steps
  std::int64_t rounds = 0;  // 0: aggregation.rounds
};

struct ClipConfig {
  std::string kind = "flat";       // flat | per_layer | normalise | adaptive
  double norm = 1.0;               // C
  config::Entries<double> bounds;  // per_layer: C_l by layer; the first match counts
  double gamma = 0.01;             // normalise: g C / (||g|| + gamma)
  double quantile = 0.5;           // adaptive: share of units to be below C
  double eta = 0.2;
  std::optional<double> sigma_b;  // adaptive: noise of the count of units below C
  double norm_min = 1e-3;
  double norm_max = 100.0;
};

struct NoiseConfig {
  std::optional<double> multiplier;  // z; absent: calibrated to the budget
  std::int64_t grid_bits = 0;        // 0: as many as the guarantee needs, from 20
};

struct AccountantSection {
  std::string kind = "pld";
  double eps_tolerance = 1e-3;
};

struct WeightsConfig {
  std::string kind = "uniform";    // uniform | public
  config::Entries<double> values;  // public: by client
  std::optional<double> denominator;
};

struct MetricsConfig {
  std::string train_loss = "off";  // off: never told; otherwise refused
  std::string eval = "off";        // off | public_data
  std::string counts = "off";
};

struct LedgerConfig {
  std::string path;                        // folder; empty: the user's own
  std::string dataset_id;                  // empty: the client's name
  std::optional<double> lifetime_epsilon;  // cap over all runs on the data set
  std::optional<double> lifetime_delta;
  std::string across_runs = "sum";
  bool inherit = false;      // rows that another data set has bring along what that set has spent
  std::string lock_service;  // who makes sure of locks and lasting where the file system does not
};

struct PrivacyConfig {
  std::string mode;  // none | example_dpsgd | client_local | client_central
  UnitConfig unit;
  std::string adjacency = "add_remove";
  BudgetConfig budget;
  SamplingConfig sampling;
  std::optional<double> batch_divisor;  // public constant that sums are divided by
  StepsConfig steps;
  ClipConfig clip;
  NoiseConfig noise;
  AccountantSection accountant;
  WeightsConfig weights;
  MetricsConfig metrics;
  bool amplified_by_client_sampling = false;
  std::int64_t max_clients_per_person = 1;
  bool secagg = false;
  LedgerConfig ledger;
  bool seeded_noise = false;  // tests only: nothing made with it is private
  bool i_understand = false;

  /// Whether anything is promised.
  [[nodiscard]] bool on() const { return !mode.empty() && mode != "none"; }
};

void describe(config::Fields& fields, PrivacyConfig& privacy);

/// What the section's keys say together. kConfig naming the key below `where` ("job.json:
/// privacy").
[[nodiscard]] Result<void> check(const PrivacyConfig& privacy, const std::string& where);

}  // namespace strata::privacy
