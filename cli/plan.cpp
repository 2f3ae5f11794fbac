#include "cli/plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_depth.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t kPlanDepthMax = 16;  // ours are nested a third of that

json shared(const Job& job) {
  json plan = json::parse(resolved(job));
  plan.erase("output");
  plan.erase("evaluation");
  plan.erase("network");  // each process's own
  plan["model"].erase("path");
  plan["adapter"].erase("init");
  plan["privacy"].erase("ledger");  // the data owner's own
  auto& data = plan["data"];
  for (const char* own : {"path", "split", "split_field", "dirichlet_alpha", "fields"})
    data.erase(own);
  for (auto& client : plan["clients"]) {
    client.erase("data");
    client.erase("key_sha256");  // the coordinator's door
  }
  std::sort(plan["clients"].begin(), plan["clients"].end(),
            [](const json& a, const json& b) { return a.at("name") < b.at("name"); });
  return plan;
}

// Where two plans part, as a path of keys; empty when they do not.
std::string difference(const json& a, const json& b, const std::string& path) {
  if (!a.is_object() || !b.is_object())
    return a == b ? "" : path + " is " + a.dump() + " there and " + b.dump() + " here";
  for (const auto& [key, value] : a.items()) {
    const std::string below = path.empty() ? key : path + "." + key;
    if (!b.contains(key)) return below + " is " + value.dump() + " there and absent here";
    if (auto found = difference(value, b[key], below); !found.empty()) return found;
  }
  for (const auto& [key, value] : b.items()) {
    if (!a.contains(key))
      return (path.empty() ? key : path + "." + key) + " is absent there and " + value.dump() +
             " here";
  }
  return {};
}

Error not_a_plan() {
  return {.code = ErrorCode::kProtocol, .what = "the coordinator's plan is no JSON object"};
}

// A plan that came from elsewhere, down to where its parts are looked at.
Result<json> parse_plan(const std::string& text) {
  if (json_depth(text) > kPlanDepthMax) return fail(not_a_plan());
  json plan = json::parse(text, nullptr, false);
  if (!plan.is_object()) return fail(not_a_plan());
  for (const char* part :
       {"model", "data", "adapter", "training", "aggregation", "privacy", "client"}) {
    if (!plan.contains(part) || !plan[part].is_object()) return fail(not_a_plan());
  }
  return plan;
}

}  // namespace

Plan::Plan(const Job& job) {
  json plan = shared(job);
  whole_ = plan.dump();
  for (const auto& entry : plan["clients"])
    clients_.emplace(entry.at("name").get<std::string>(), entry.dump());
  plan.erase("clients");
  shared_ = plan.dump();
  shared_.pop_back();
}

std::string Plan::of(const std::string& client) const {
  return shared_ + ",\"client\":" + clients_.at(client) + "}";
}

Result<void> compare_plans(const std::string& theirs, const std::string& mine) {
  auto plan = parse_plan(theirs);
  if (!plan) return fail(std::move(plan).error());
  const json& a = *plan;
  const std::string found = difference(a, json::parse(mine), "");
  if (found.empty()) return {};
  return fail({.code = ErrorCode::kConfig,
               .what = "the coordinator's plan is another: " + printable(found, 300),
               .rule = "both sides run the same job",
               .remedy = "use the coordinator's job file"});
}

Result<Job> job_from_plan(const std::string& plan, const ClientFile& own) {
  auto parsed = parse_plan(plan);
  if (!parsed) return fail(std::move(parsed).error());
  json& job = *parsed;
  job["model"]["path"] = own.model;
  if (const json said = job["model"]["dtype"]; said != own.dtype) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is \"" + own.dtype + "\"",
                 .where = own.name + ": model.dtype",
                 .rule = "the coordinator's plan says " + printable(said.dump(), 40)});
  }
  job["data"]["fields"] = own.fields;
  job["privacy"]["ledger"] = json{{"path", own.ledger.path},
                                  {"dataset_id", own.ledger.dataset_id},
                                  {"lock_service", own.ledger.lock_service}};
  json client = std::move(job["client"]);
  client["data"] = own.data;
  job.erase("client");
  job["clients"] = json::array({std::move(client)});
  return parse_job(job.dump(), "the coordinator's plan", {});
}

}  // namespace strata::cli
