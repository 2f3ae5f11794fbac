#include "cli/plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

json shared(const Job& job) {
  json plan = json::parse(resolved(job));
  plan.erase("output");
  plan.erase("evaluation");
  plan["model"].erase("path");
  plan["adapter"].erase("init");
  auto& data = plan["data"];
  for (const char* own : {"path", "split", "split_field", "dirichlet_alpha", "fields"})
    data.erase(own);
  for (auto& client : plan["clients"]) client.erase("data");
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

}  // namespace

std::string shared_plan(const Job& job) { return shared(job).dump(); }

std::string plan_for(const Job& job, const std::string& client) {
  json plan = shared(job);
  for (auto& entry : plan["clients"]) {
    if (entry.at("name") == client) plan["client"] = entry;
  }
  plan.erase("clients");
  return plan.dump();
}

Result<void> compare_plans(const std::string& theirs, const std::string& mine) {
  const json a = json::parse(theirs, nullptr, false);
  if (!a.is_object()) return fail(not_a_plan());
  const std::string found = difference(a, json::parse(mine), "");
  if (found.empty()) return {};
  return fail({.code = ErrorCode::kConfig,
               .what = "the coordinator's plan is another: " + printable(found, 300),
               .rule = "both sides run the same job",
               .remedy = "use the coordinator's job file"});
}

Result<Job> job_from_plan(const std::string& plan, const ClientFile& own) {
  json job = json::parse(plan, nullptr, false);
  if (!job.is_object() || !job.contains("client") || !job["client"].is_object())
    return fail(not_a_plan());
  job["model"]["path"] = own.model;
  if (job["model"].value("dtype", "f32") != own.dtype) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is \"" + own.dtype + "\"",
                 .where = own.name + ": model.dtype",
                 .rule = "the coordinator's plan says " + job["model"]["dtype"].dump()});
  }
  job["data"]["fields"] = own.fields;
  json client = std::move(job["client"]);
  client["data"] = own.data;
  job.erase("client");
  job["clients"] = json::array({std::move(client)});
  return parse_job(job.dump(), "the coordinator's plan", {});
}

}  // namespace strata::cli
