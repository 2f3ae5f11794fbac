// Clients that send B alone: the same model over the network as in one process, whoever is killed,
// and files that others can read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "e2e/federation_fixture.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using support::Running;
using testing::HasSubstr;

class SeededANetwork : public Federation {
 protected:
  void SetUp() override {
    Federation::SetUp();
    job_["adapter"]["method"] = "seeded-a";
    job_["aggregation"]["restart"] = "fresh";
    for (std::size_t i = 0; i < names_.size(); ++i) job_["clients"][i]["adapter"]["rank"] = 2 + i;
  }
  json header_of(const fs::path& file) {
    const std::string bytes = support::read_file(file);
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    return json::parse(bytes.substr(8, size));
  }
};

TEST_F(SeededANetwork, GivesTheModelOfOneProcessWhoeverIsKilled) {
  job_["aggregation"]["rounds"] = 6;
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  std::map<std::string, std::unique_ptr<Running>> clients;
  for (const auto& name : names_) clients[name] = client(name);
  if (await_round(2)) {
    clients["berta"]->signal(SIGKILL);
    (void)clients["berta"]->wait();
    clients["berta"] = client("berta");
  }
  if (await_round(4)) {
    server->signal(SIGKILL);
    (void)server->wait();
    server = coordinator();
  }
  expect_model(*server, clients, expected);
  expect_every_contribution_once(6);
}

TEST_F(SeededANetwork, StacksToTheLargestRankAndWritesAOut) {
  job_["output"] = {{"keep_updates", true}};
  job_["aggregation"]["rounds"] = 2;
  write_job();
  const std::string first = plain_hash();
  const json adapter = header_of(at("plain/rounds/0001/adapter_model.safetensors"));
  std::size_t factors = 0;
  for (const auto& [name, tensor] : adapter.items()) {
    if (name.find("lora_A") == std::string::npos) continue;
    EXPECT_EQ(tensor.at("shape").at(0), 4) << name;
    ++factors;
  }
  EXPECT_GT(factors, 0U);
  const Finished replayed = strata({"replay", at("plain"), "--format", "json"});
  EXPECT_EQ(replayed.status, 0) << replayed.err;
  // Another seed: other factors, another model.
  job_["training"]["seed"] = 12345;
  write_job();
  fs::remove_all(at("plain"));
  EXPECT_NE(plain_hash(), first);
}

TEST_F(SeededANetwork, WorksBesideOtherMethodsAndInFewerBits) {
  job_["clients"][1]["adapter"]["method"] = "lora";
  job_["aggregation"]["encoding"] = "int8";
  write_job();
  const std::string expected = plain_hash();
  auto server = coordinator();
  std::map<std::string, std::unique_ptr<Running>> clients;
  for (const auto& name : names_) clients[name] = client(name);
  expect_model(*server, clients, expected);
}

TEST_F(SeededANetwork, IsRefusedWhereFactorsOutliveARound) {
  const auto said = [&](const char* key, const char* value) {
    job_["aggregation"][key] = value;
    write_job();
    const Finished done = strata({"run", at("job.json"), "-o", at("refused"), "--quiet"});
    EXPECT_EQ(done.status, 3) << done.err;
    EXPECT_FALSE(fs::exists(at("refused")));
    return done.err;
  };
  EXPECT_THAT(said("restart", "keep"), HasSubstr("anna draws A anew each round"));
  job_["aggregation"].erase("restart");
  EXPECT_THAT(said("method", "zero_pad"), HasSubstr("averaged factors would keep it"));
}

}  // namespace
}  // namespace strata
