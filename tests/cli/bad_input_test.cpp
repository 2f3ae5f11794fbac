// What bad input gets: one clear line, the documented exit status, nothing left behind. Each case
// takes a small federation that works, breaks one thing, and says what the message must name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "federation.h"
#include "one_line.h"

namespace strata::cli {
namespace {

constexpr int kUsage = 2;
constexpr int kConfig = 3;
constexpr int kBadFile = 7;

std::uint64_t header_size(const std::string& bytes) {
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  return size;
}

void set_header_size(std::string& bytes, std::uint64_t size) {
  std::memcpy(bytes.data(), &size, sizeof size);
}

/// Changes the JSON header of a safetensors file, keeping the data behind it.
void edit_header(const fs::path& path, const std::function<void(json&)>& change) {
  const std::string bytes = read_file(path);
  const std::size_t size = header_size(bytes);
  json header = json::parse(bytes.substr(8, size));
  change(header);
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string edited(8, '\0');
  set_header_size(edited, text.size());
  write_file(path, edited + text + bytes.substr(8 + size));
}

/// Gradients of every step, of all parameters, but for one thing.
std::function<void(Federation&)> gradients_but(const std::function<void(json&)>& change) {
  return [change](Federation& f) {
    f.job["adapter"] = {{"method", "full"}};
    for (auto& client : f.job["clients"]) client.erase("adapter");
    f.job["training"].erase("max_steps");
    f.job["training"]["local_steps"] = 1;
    f.job["aggregation"] = {{"method", "data_parallel"}, {"rounds", 2}};
    change(f.job);
  };
}

void edit_json(const fs::path& path, const std::function<void(json&)>& change) {
  json value = json::parse(read_file(path));
  change(value);
  write_file(path, value.dump(1));
}

/// Overwrites the first value of a float32 tensor.
void set_first_value(const fs::path& path, const std::string& tensor, float value) {
  std::string bytes = read_file(path);
  const std::size_t size = header_size(bytes);
  const json header = json::parse(bytes.substr(8, size));
  const auto begin = header.at(tensor).at("data_offsets").at(0).get<std::size_t>();
  std::memcpy(bytes.data() + 8 + size + begin, &value, sizeof value);
  write_file(path, bytes);
}

struct Case {
  const char* name;
  int status;
  std::vector<std::string> names;  // what the line must hold: file, key, tensor, value
  std::function<void(Federation&)> break_it;
};

void PrintTo(const Case& value, std::ostream* out) { *out << value.name; }

const char kSomeWeight[] = "model.layers.1.mlp.up_proj.weight";

std::vector<Case> job_cases() {
  return {
      {"MissingKey",
       kConfig,
       {"job.json", "model.path"},
       [](Federation& f) { f.job["model"].erase("path"); }},
      {"KeyThatIsNoHash",
       kConfig,
       {"clients[0].key_sha256", "is \"ab12\"", "64 lower-case hexadecimal digits"},
       [](Federation& f) { f.job["clients"][0]["key_sha256"] = "ab12"; }},
      {"UnknownSection",
       kConfig,
       {"job.json", "trainning", "training"},
       [](Federation& f) { f.job["trainning"] = f.job["training"]; }},
      {"UnknownKey",
       kConfig,
       {"training.lerning_rate", "learning_rate"},
       [](Federation& f) { f.job["training"]["lerning_rate"] = 0.1; }},
      {"WrongType",
       kConfig,
       {"adapter.rank", "eight"},
       [](Federation& f) { f.job["adapter"]["rank"] = "eight"; }},
      {"RankZero",
       kConfig,
       {"adapter.rank", "0"},
       [](Federation& f) { f.job["adapter"]["rank"] = 0; }},
      {"HeadsThatDoNotDivideTheBatch",
       kConfig,
       {"job.json", "clients[0].adapter.heads", "is 3", "equal parts", "batch_size"},
       [](Federation& f) {
         f.job["adapter"]["heads"] = 3;
         f.job["training"]["batch_size"] = 4;
       }},
      {"HeadsOfASharedFactor",
       kConfig,
       {"clients[0].adapter.heads", "seeded-a"},
       [](Federation& f) {
         f.job["adapter"]["method"] = "seeded-a";
         f.job["adapter"]["heads"] = 2;
         f.job["training"]["batch_size"] = 4;
       }},
      {"MergesAfterNoStep",
       kConfig,
       {"training.merge_every", "0"},
       [](Federation& f) { f.job["training"]["merge_every"] = 0; }},
      {"MergesAfterHalfAStep",
       kConfig,
       {"training.merge_every", "2.5", "whole steps"},
       [](Federation& f) { f.job["training"]["merge_every"] = 2.5; }},
      {"MergesOfFreshFactorsWithoutANumberOfSteps",
       kConfig,
       {"training.merge_every", "local_steps"},
       [](Federation& f) {
         f.job["aggregation"]["restart"] = "fresh";
         f.job["training"].erase("local_steps");
         f.job["training"]["merge_every"] = 2;
       }},
      {"MergesOfFactorsThatAreAveraged",
       kConfig,
       {"training.merge_every", "fedavg", "lte"},
       [](Federation& f) {
         f.job["training"]["merge_every"] = 1;
         f.job["adapter"]["rank"] = 2;
         f.job["aggregation"] = {{"method", "fedavg"}, {"rounds", 2}};
       }},
      {"MergesWhoseNumberChanges",
       kConfig,
       {"training.merge_every", "same in every round"},
       [](Federation& f) {
         f.job["aggregation"] = {{"method", "lte"}, {"restart", "fresh"}, {"rounds", 3}};
         f.job["training"]["local_steps"] = 2;
         f.job["training"]["max_steps"] = 4;
         f.job["training"]["merge_every"] = 1;
       }},
      {"GradientsOfSeveralSteps",
       kConfig,
       {"training.local_steps", "is 2", "a round is a step"},
       gradients_but([](json& job) { job["training"]["local_steps"] = 2; })},
      {"GradientsOfFewerStepsThanRounds",
       kConfig,
       {"training.max_steps", "each of aggregation.rounds"},
       gradients_but([](json& job) { job["training"]["max_steps"] = 1; })},
      {"GradientsWithAFreshOptimizer",
       kConfig,
       {"aggregation.restart", "goes on over all steps"},
       gradients_but([](json& job) { job["aggregation"]["restart"] = "fresh"; })},
      {"GradientsOfAdapters",
       kConfig,
       {"clients[0].adapter.method", "gradients of all parameters"},
       gradients_but([](json& job) {
         job["adapter"] = {{"rank", 2}};
       })},
      {"GradientsOfAGivenWeight",
       kConfig,
       {"clients[1].weight", "tokens"},
       gradients_but([](json& job) { job["clients"][1]["weight"] = 2.0; })},
      {"ScatterInAStar",
       kConfig,
       {"aggregation.exchange", "mesh"},
       [](Federation& f) {
         f.job["aggregation"] = {{"method", "flora"}, {"rounds", 2}, {"exchange", "scatter"}};
       }},
      {"ScatterOfAveragedFactors",
       kConfig,
       {"aggregation.exchange", "zero_pad", "averaged factors"},
       [](Federation& f) {
         f.job["aggregation"] = {
             {"method", "zero_pad"}, {"topology", "mesh"}, {"exchange", "scatter"}};
       }},
      {"ScatterOfWhatIsLookedAtWhole",
       kConfig,
       {"aggregation.exchange", "aggregation.diagnostics"},
       [](Federation& f) {
         f.job["aggregation"] = {{"method", "flora"},
                                 {"topology", "mesh"},
                                 {"exchange", "scatter"},
                                 {"diagnostics", true}};
       }},
      {"ScatterOfUpdatesThatAreKept",
       kConfig,
       {"aggregation.exchange", "output.keep_updates"},
       [](Federation& f) {
         f.job["aggregation"] = {
             {"method", "flora"}, {"topology", "mesh"}, {"exchange", "scatter"}};
         f.job["output"]["keep_updates"] = true;
       }},
      {"OverlapInAStar",
       kConfig,
       {"aggregation.overlap", "mesh"},
       [](Federation& f) {
         f.job["aggregation"] = {{"method", "lte"}, {"rounds", 2}, {"overlap", true}};
       }},
      {"OverlapOfFactorsThatAreLeftBehind",
       kConfig,
       {"aggregation.overlap", "keeps", "restart"},
       [](Federation& f) {
         f.job["aggregation"] = {{"method", "flora"}, {"topology", "mesh"}, {"overlap", true}};
       }},
      {"OverlapOfTheWholeModel",
       kConfig,
       {"aggregation.overlap", "trains the whole model"},
       [](Federation& f) {
         f.job["adapter"] = {{"method", "full"}};
         for (auto& client : f.job["clients"]) client.erase("adapter");
         f.job["aggregation"] = {
             {"method", "flora"}, {"restart", "keep"}, {"topology", "mesh"}, {"overlap", true}};
       }},
      {"InitialAdapterOfWhichAPartWouldBeLost",
       kConfig,
       {"adapter.init", "min_clients"},
       [](Federation& f) {
         f.job["adapter"]["init"] = "somewhere";
         f.job["aggregation"] = {{"method", "lte"}, {"rounds", 2}};
       }},
      {"SavedModulesBesideAveragedFactors",
       kConfig,
       {"adapter.modules_to_save", "fedavg", "flora"},
       [](Federation& f) {
         f.job["adapter"]["modules_to_save"] = {"norm"};
         f.job["adapter"]["rank"] = 2;
         f.job["aggregation"] = {{"method", "fedavg"}, {"rounds", 2}};
       }},
      {"FrozenFactorWhereThereIsNone",
       kConfig,
       {"clients[0].adapter.freeze_a", "no factors", "lora"},
       [](Federation& f) {
         f.job["adapter"] = {{"method", "full"}, {"freeze_a", true}};
       }},
      {"HeadsThatAreAveragedByFactors",
       kConfig,
       {"adapter.heads", "2 heads", "lte"},
       [](Federation& f) {
         f.job["adapter"]["heads"] = 2;
         f.job["training"]["batch_size"] = 4;
         f.job["aggregation"] = {{"method", "zero_pad"}, {"rounds", 2}};
       }},
      {"SavedModuleThatAnAdapterChanges",
       kConfig,
       {"adapter.modules_to_save", "q_proj", "an adapter changes"},
       [](Federation& f) {
         f.job["adapter"]["targets"] = {"q_proj"};
         f.job["adapter"]["modules_to_save"] = {"q_proj"};
       }},
      {"InitialAdapterWhereAIsDrawn",
       kConfig,
       {"adapter.init", "draws A anew each round"},
       [](Federation& f) {
         f.job["adapter"]["method"] = "seeded-a";
         f.job["adapter"]["init"] = "somewhere";
       }},
      {"NegativeAlpha",
       kConfig,
       {"adapter.alpha", "-1"},
       [](Federation& f) { f.job["adapter"]["alpha"] = -1; }},
      {"NegativeLearningRate",
       kConfig,
       {"training.learning_rate", "-0.5"},
       [](Federation& f) { f.job["training"]["learning_rate"] = -0.5; }},
      {"UnknownAggregation",
       kConfig,
       {"aggregation.method", "flra", "flora"},
       [](Federation& f) { f.job["aggregation"]["method"] = "flra"; }},
      {"NameThatIsNoFolder",
       kConfig,
       {"name", "../elsewhere"},
       [](Federation& f) { f.job["name"] = "../elsewhere"; }},
      {"UnknownTemplate",
       kConfig,
       {"data.template", "chatlm", "chatml"},
       [](Federation& f) { f.job["data"]["template"] = "chatlm"; }},
      {"ExactMatchWithoutHeldOutRecords",
       kConfig,
       {"evaluation.exact_match", "evaluation.data"},
       [](Federation& f) { f.job["evaluation"]["exact_match"] = true; }},
      {"ExactMatchOnTokenIds",
       kBadFile,
       {"a.jsonl:1", "input_ids"},
       [](Federation& f) {
         f.job["evaluation"] = {{"exact_match", true}, {"data", "a.jsonl"}};
       }},
      {"ExactMatchWithoutATokenizer",
       kConfig,
       {"evaluation.exact_match", "tokenizer.json"},
       [](Federation& f) {
         fs::remove(f.model() / "tokenizer.json");
         f.job["clients"][1]["data"] = "a.jsonl";
         f.job["evaluation"] = {{"exact_match", true}, {"data", "a.jsonl"}};
       }},
      {"NotJson",
       kConfig,
       {"job.json"},
       [](Federation& f) { write_file(f.folder / "job.json", "{\"model\": "); }},
      {"KeyTwice",
       kConfig,
       {"job.json", "model"},
       [](Federation& f) {
         write_file(f.folder / "job.json", R"({"model":{"path":"a"},"model":{"path":"b"}})");
       }},
      {"NoClients", kConfig, {"clients"}, [](Federation& f) { f.job["clients"] = json::array(); }},
      {"LayerThatDoesNotExist",
       kConfig,
       {"q_porj", "q_proj"},
       [](Federation& f) { f.job["adapter"]["targets"] = {"q_porj"}; }},
      {"FactorAverageOfUnequalRanks",
       kConfig,
       {"aggregation.method", "anna has rank 2, berta 4", "flora"},
       [](Federation& f) {
         f.job["aggregation"]["method"] = "fedavg";
         f.job["clients"][1]["adapter"] = {{"rank", 4}};
       }},
      {"FactorAverageOfUnequalTargets",
       kConfig,
       {"aggregation.method", "k_proj", "anna does not adapt it"},
       [](Federation& f) {
         f.job["aggregation"]["method"] = "zero_pad";
         f.job["clients"][1]["adapter"] = {{"targets", {"q_proj", "k_proj", "v_proj"}}};
       }},
      {"CheckpointsOfAModelThatStaysAsItIs",
       kConfig,
       {"output.checkpoint_every: is 1", "zero_pad leaves the model", "rounds/NNNN"},
       [](Federation& f) {
         f.job["aggregation"]["method"] = "zero_pad";
         f.job["output"] = {{"checkpoint_every", 1}};
       }},
      {"MoreClientsNeededThanThereAre",
       kConfig,
       {"aggregation.min_clients", "3"},
       [](Federation& f) { f.job["aggregation"]["min_clients"] = 3; }},
      {"RankLargerThanTheLayer",
       kConfig,
       {"model.layers.0.self_attn.v_proj", "13"},
       [](Federation& f) { f.job["adapter"]["rank"] = 13; }},
  };
}

std::vector<Case> model_cases() {
  return {
      {"ModelFolderMissing", kBadFile, {"model"}, [](Federation& f) { fs::remove_all(f.model()); }},
      {"Truncated",
       kBadFile,
       {"model.safetensors"},
       [](Federation& f) { fs::resize_file(f.weights(), fs::file_size(f.weights()) - 100); }},
      {"TruncatedInTheHeader",
       kBadFile,
       {"model.safetensors"},
       [](Federation& f) { fs::resize_file(f.weights(), 40); }},
      {"HeaderLargerThanTheFile",
       kBadFile,
       {"model.safetensors"},
       [](Federation& f) {
         std::string bytes = read_file(f.weights());
         set_header_size(bytes, std::uint64_t{1} << 60);
         write_file(f.weights(), bytes);
       }},
      {"Oversized",
       kBadFile,
       {"model.safetensors"},
       [](Federation& f) { write_file(f.weights(), read_file(f.weights()) + "more"); }},
      {"Overlapping",
       kBadFile,
       {"model.safetensors", "overlap"},
       [](Federation& f) {
         edit_header(f.weights(), [](json& header) {
           header[kSomeWeight]["data_offsets"] =
               header["model.layers.1.mlp.gate_proj.weight"]["data_offsets"];
         });
       }},
      {"ShapeThatOverflows",
       kBadFile,
       {"model.safetensors", kSomeWeight},
       [](Federation& f) {
         edit_header(f.weights(), [](json& header) {
           header[kSomeWeight]["shape"] = {std::uint64_t{1} << 63, std::uint64_t{2}};
         });
       }},
      {"NotFinite",
       kBadFile,
       {"model.safetensors", kSomeWeight},
       [](Federation& f) {
         set_first_value(f.weights(), kSomeWeight, std::numeric_limits<float>::quiet_NaN());
       }},
      {"MissingTensor",
       kBadFile,
       {kSomeWeight},
       [](Federation& f) {
         edit_header(f.weights(), [](json& header) {
           header["model.layers.1.mlp.other.weight"] = header[kSomeWeight];
           header.erase(kSomeWeight);
         });
       }},
      {"WrongShape",
       kBadFile,
       {kSomeWeight, "24", "40"},
       [](Federation& f) {
         edit_header(f.weights(), [](json& header) { header[kSomeWeight]["shape"] = {24, 40}; });
       }},
      {"UnsupportedFamily",
       kBadFile,
       {"config.json", "mamba", "llama", "mistral", "qwen2", "qwen3", "gpt2"},
       [](Federation& f) {
         edit_json(f.model() / "config.json", [](json& c) { c["model_type"] = "mamba"; });
       }},
      {"UnsupportedTokenizer",
       kBadFile,
       {"tokenizer.json", "Unigram"},
       [](Federation& f) {
         edit_json(f.model() / "tokenizer.json", [](json& t) {
           t["model"] = {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", {{"a", -1.0}}}};
         });
       }},
      {"DamagedTokenizer",
       kBadFile,
       {"tokenizer.json"},
       [](Federation& f) {
         write_file(f.model() / "tokenizer.json", "{\"model\": {\"type\": \"BPE\"}");
       }},
  };
}

std::vector<Case> data_cases() {
  return {
      {"DataFileMissing",
       kBadFile,
       {"b.jsonl"},
       [](Federation& f) { fs::remove(f.folder / "b.jsonl"); }},
      {"MalformedLine",
       kBadFile,
       {"a.jsonl:2"},
       [](Federation& f) {
         write_file(f.folder / "a.jsonl", "{\"text\":\"fine words\"}\n{\"text\": \n");
       }},
      {"LineOfUnknownShape",
       kBadFile,
       {"a.jsonl:1"},
       [](Federation& f) { write_file(f.folder / "a.jsonl", "{\"txet\":\"fine words\"}\n"); }},
      {"TokenOutsideTheVocabulary",
       kBadFile,
       {"a.jsonl:1", "67"},
       [](Federation& f) { write_file(f.folder / "a.jsonl", "{\"input_ids\":[1,2,67]}\n"); }},
      {"LabelsOfAnotherLength",
       kBadFile,
       {"a.jsonl:1"},
       [](Federation& f) {
         write_file(f.folder / "a.jsonl", "{\"input_ids\":[1,2,3],\"labels\":[1,2]}\n");
       }},
      {"EmptyClient",
       kBadFile,
       {"berta"},
       [](Federation& f) { write_file(f.folder / "b.jsonl", ""); }},
      {"ClientWithNothingToTrainOn",
       kBadFile,
       {"anna"},
       [](Federation& f) {
         write_file(f.folder / "a.jsonl", "{\"input_ids\":[1,2,3],\"labels\":[-100,-100,-100]}\n");
       }},
  };
}

class BadInput : public testing::TestWithParam<Case> {};

TEST_P(BadInput, IsOneLineWithTheDocumentedStatusAndNothingLeftBehind) {
  const ScratchFolder scratch;
  Federation federation(scratch.path());
  GetParam().break_it(federation);
  expect_one_line(federation.run(), GetParam().status, GetParam().names);
  for (const auto& entry : fs::directory_iterator(scratch.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("out") && !fs::is_empty(entry.path()))
        << entry.path();
  }
}

std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Job, BadInput, testing::ValuesIn(job_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Model, BadInput, testing::ValuesIn(model_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Data, BadInput, testing::ValuesIn(data_cases()), name_of);

TEST(BadInputBasis, TheUnbrokenFederationRuns) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  const Finished finished = federation.run();
  EXPECT_EQ(finished.status, 0) << finished.err;
  EXPECT_TRUE(
      json::parse(read_file(federation.out() / "manifest.json")).contains("final_model_hash"));
}

TEST(BadRun, ARunWithoutOneFinishedRoundLeavesNothing) {
  const ScratchFolder scratch;
  Federation federation(scratch.path());
  // Weights so large that the first loss is not finite.
  edit_header(federation.weights(), [](json&) {});
  std::string bytes = read_file(federation.weights());
  const std::size_t data = 8 + header_size(bytes);
  for (std::size_t at = data; at + 4 <= bytes.size(); at += 4) {
    const float huge = 1e30f;
    std::memcpy(bytes.data() + at, &huge, sizeof huge);
  }
  write_file(federation.weights(), bytes);
  const Finished finished = federation.run();
  expect_one_line(finished, 5, {"round 1", "berta"});
  EXPECT_FALSE(fs::exists(federation.out()));
}

TEST(BadEval, ALossThatIsNotFiniteIsAnErrorNamingTheRecord) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  for (const char* norm : {"model.norm.weight", "model.layers.0.input_layernorm.weight"})
    set_first_value(federation.weights(), norm, 3e38f);
  const Finished finished =
      strata({"eval", "--model", federation.model(), "--data", scratch.path() / "a.jsonl"});
  expect_one_line(finished, 1, {"a.jsonl:1", "loss", "finite"});
}

}  // namespace
}  // namespace strata::cli
