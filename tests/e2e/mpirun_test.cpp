// mpirun: whoever coordinates, however many ranks and whoever is killed, the model is that of one
// process.
#include <gmock/gmock.h>

#include <sstream>

#include "e2e/mpirun_fixture.h"
#include "sys/random.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

TEST_F(Mpirun, GivesTheModelOfOneProcessHoweverManyRanks) {
  const std::string expected = plain_hash();
  for (const char* ranks : {"1", "2", "3", "6"}) {
    fs::remove_all(at("run"));
    EXPECT_EQ(hash_in(support::run_program(command(ranks))), expected) << ranks << " ranks";
  }
}

TEST_F(Mpirun, HeadsGiveTheModelOfOneProcess) {
  job_ = lte_of(job_);
  write_job();
  EXPECT_EQ(hash_in(support::run_program(command("3"))), plain_hash());
}

TEST_F(Mpirun, GradientsGiveTheModelOfOneProcess) {
  job_ = data_parallel_of(job_);
  write_job();
  EXPECT_EQ(hash_in(support::run_program(command("3"))), plain_hash());
}

TEST_F(Mpirun, PretrainingIsSharedOutToo) {
  const std::vector<std::string> args{"pretrain",
                                      "--model",
                                      at("model"),
                                      "--data",
                                      at("anna.jsonl"),
                                      "--method",
                                      "lte",
                                      "--heads",
                                      "2",
                                      "--clients",
                                      "2",
                                      "--rank",
                                      "2",
                                      "--steps",
                                      "4",
                                      "--merge-every",
                                      "2",
                                      "--warmup",
                                      "0",
                                      "--batch-size",
                                      "2",
                                      "--memory-limit",
                                      "4G",
                                      "--diagnostics",
                                      "--held-out",
                                      at("anna.jsonl")};
  auto alone = args;
  alone.insert(alone.end(), {"-o", at("plain"), "--threads", "1", "--format", "json"});
  const std::string expected = hash_in(strata(alone));
  auto words = command("3");
  std::string all;
  for (const auto& word : args) all += " " + word;
  const std::string run = " run " + at("job.json").string();
  words.back().replace(words.back().find(run), run.size(), all);
  auto tight = words;  // of rank 0 too, which trains nobody
  tight.back().replace(tight.back().find(" 4G"), 3, " 1M");
  const Finished refused = support::run_program(tight);
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.out, HasSubstr("--memory-limit allows 1.0 MB"));
  EXPECT_EQ(hash_in(support::run_program(words)), expected);
  // No gradient leaves a client: rank 0 has its held-out records.
  for (const auto& [folder, records_of] :
       {std::pair{"plain", "clients"}, std::pair{"run", "held_out"}}) {
    EXPECT_THAT(support::read_file(at(folder) / "metrics.jsonl"),
                HasSubstr(std::string("\"records_of\":\"") + records_of + "\""))
        << folder;
  }
}

TEST_F(Mpirun, HiddenClientsGiveTheModelOfOneProcess) {
  write_central_job({{"test_mode", {{"seeded_noise", true}, {"i_understand", true}}}});
  const std::string expected = plain_hash();
  EXPECT_EQ(hash_in(support::run_program(command("3"))), expected);
}

// All ranks train and merge for themselves.
class MpirunMesh : public Mpirun {
 protected:
  void SetUp() override {
    Mpirun::SetUp();
    if (IsSkipped()) return;
    job_["aggregation"]["topology"] = "mesh";
    write_job();
  }
  std::string star_hash() {
    fs::remove_all(at("plain"));
    job_["aggregation"]["topology"] = "star";
    write_job();
    std::string out = plain_hash();
    job_["aggregation"]["topology"] = "mesh";
    write_job();
    return out;
  }
  // However the ranks stand when they are killed.
  void expect_the_same_after_kills(const std::string& expected, std::uint64_t seed) {
    sys::Stream draw(seed);
    for (int kills = 0; kills < 5; ++kills) {
      Running one(command("3", "--enable-recovery"));
      const auto next = rounds_done() + 1 + static_cast<std::uint32_t>(draw.below(12));
      ASSERT_TRUE(await_round(next)) << "after " << kills << " kills";
      if (draw.below(2) == 0) kill_newest_rank();
      std::this_thread::sleep_for(std::chrono::milliseconds(draw.below(60)));
      kill_all_ranks();
      (void)one.wait();
      ASSERT_FALSE(is_over()) << "after " << kills << " kills";
    }
    EXPECT_EQ(hash_in(support::run_program(command("3"))), expected);
  }
};

TEST_F(MpirunMesh, GivesTheModelOfOneProcessHoweverManyRanks) {
  const std::string expected = star_hash();
  for (const char* ranks : {"1", "2", "3", "6"}) {
    fs::remove_all(at("run"));
    EXPECT_EQ(hash_in(support::run_program(command(ranks))), expected) << ranks << " ranks";
    EXPECT_FALSE(fs::exists(at("run/state"))) << "the run is complete";
  }
}

TEST_F(MpirunMesh, HeadsGradientsAndEncodedUpdatesGiveTheModelOfOneProcess) {
  const json plain = job_;
  json encoded = job_, gradients = data_parallel_of(job_);
  for (json* job : {&encoded, &gradients}) (*job)["aggregation"]["encoding"] = "int8";
  for (const json& job : {lte_of(plain), gradients, encoded}) {
    job_ = job;
    const std::string expected = star_hash();
    fs::remove_all(at("run"));
    EXPECT_EQ(hash_in(support::run_program(command("3"))), expected) << job["aggregation"].dump();
  }
}

// Each rank merges a part of the tensors.
TEST_F(MpirunMesh, ScatteredUpdatesGiveTheModelOfOneProcess) {
  const json plain = job_;
  json encoded = lte_of(job_), gradients = data_parallel_of(job_);
  encoded["aggregation"]["encoding"] = "int8";
  for (const json& job : {plain, lte_of(plain), encoded, gradients}) {
    job_ = job;
    const std::string expected = star_hash();
    for (const char* ranks : {"2", "3"}) {
      job_["aggregation"]["exchange"] = "scatter";
      write_job();
      fs::remove_all(at("run"));
      EXPECT_EQ(hash_in(support::run_program(command(ranks))), expected)
          << job_["aggregation"].dump() << ", " << ranks << " ranks";
    }
  }
}

TEST_F(MpirunMesh, ScatteredUpdatesComeToTheSameModelAfterKills) {
  job_["aggregation"]["rounds"] = 200;
  const std::string expected = star_hash();
  job_["aggregation"]["exchange"] = "scatter";
  write_job();
  expect_the_same_after_kills(expected, 5);
}

// Left out by the rank that has all of it, taken by those whose part is good: no two models.
TEST_F(MpirunMesh, ARefusedUpdateEndsWhatNeedsAllOfThem) {
  job_ = lte_of(job_);
  job_["aggregation"]["topology"] = "mesh";
  job_["clients"][1]["adapter"]["alpha"] = 4000;  // its update alone is large
  job_["aggregation"]["max_update_norm"] = 5.0;
  for (const char* key : {"exchange", "overlap"}) {
    json job = job_;
    job["aggregation"][key] = std::string(key) == "exchange" ? json("scatter") : json(true);
    support::write_file(at("job.json"), job.dump());
    fs::remove_all(at("run"));
    const Finished done = support::run_program(command("3"));
    EXPECT_NE(done.status, 0) << key;
    EXPECT_THAT(done.out + done.err, HasSubstr("round 1 is without client " + names_[1])) << key;
    EXPECT_FALSE(fs::exists(at("run/manifest.json"))) << key;
  }
}

// One rank's folder has other weights under the same names: found before anything is merged.
TEST_F(MpirunMesh, AnotherBaseModelIsRefusedByEveryRank) {
  fs::copy(at("model"), at("other"), fs::copy_options::recursive);
  std::string weights = support::read_file(at("other/model.safetensors"));
  weights.replace(weights.size() - 4, 4, std::string("\x00\x00\x80\x3f", 4));
  support::write_file(at("other/model.safetensors"), weights);
  json other = job_;
  other["model"]["path"] = at("other").string();
  support::write_file(at("other.json"), other.dump());
  auto words = command("1");
  std::string& line = words.back();
  const std::string program = line.substr(line.find(" -n 1 "));
  std::string changed = program;
  changed.replace(changed.find("job.json"), 8, "other.json");
  line += " :" + changed + " :" + program;
  const Finished done = support::run_program(words);
  EXPECT_EQ(done.status, 3) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("or begins with another base model"));
  std::istringstream lines(done.out);
  for (std::string one; std::getline(lines, one);) {
    if (one.starts_with("{")) {
      EXPECT_THAT(one, HasSubstr("E_CONFIG"));
    }
  }
}

TEST_F(MpirunMesh, AKilledRankEndsTheJobAndTheSameCommandGoesOn) {
  job_["aggregation"]["rounds"] = 100;
  expect_to_go_on_after_a_kill(star_hash());
}

TEST_F(MpirunMesh, GoesOnWithAsManyRanksAsBefore) {
  job_["aggregation"]["rounds"] = 200;
  const std::string expected = star_hash();
  Running first(command("3"));
  ASSERT_TRUE(await_round(3));
  kill_all_ranks();
  (void)first.wait();
  const Finished other = support::run_program(command("2"));
  EXPECT_NE(other.status, 0);
  EXPECT_THAT(other.out, HasSubstr("was begun by 3 ranks with clients, not 2"));
  const Finished alone = strata({"run", at("job.json"), "-o", at("run")});
  EXPECT_EQ(alone.status, 3);
  EXPECT_THAT(alone.err, HasSubstr("was begun by 3 ranks with clients, not 1"));
  EXPECT_EQ(hash_in(support::run_program(command("4"))), expected);  // as many with clients
}

TEST_F(MpirunMesh, KilledAgainAndAgainItComesToTheSameModel) {
  job_["aggregation"]["rounds"] = 200;
  expect_the_same_after_kills(star_hash(), 7);
}

// Rounds are trained while the updates of the one before travel.
class MpirunOverlap : public MpirunMesh {
 protected:
  void SetUp() override {
    MpirunMesh::SetUp();
    if (IsSkipped()) return;
    overlap(lte_of(job_));
  }
  void overlap(json job) {
    job_ = std::move(job);
    job_["aggregation"]["topology"] = "mesh";
    job_["aggregation"]["overlap"] = true;
    write_job();
  }
  // In one process, whose clients train ahead as well.
  std::string alone_hash() {
    fs::remove_all(at("plain"));
    return plain_hash();
  }
};

TEST_F(MpirunOverlap, GivesTheModelOfOneProcessHoweverManyRanks) {
  const std::string expected = alone_hash();
  for (const char* ranks : {"1", "2", "3", "6"}) {
    fs::remove_all(at("run"));
    EXPECT_EQ(hash_in(support::run_program(command(ranks))), expected) << ranks << " ranks";
  }
  job_["aggregation"].erase("overlap");
  EXPECT_NE(star_hash(), expected) << "a round is trained on an older model";
}

TEST_F(MpirunOverlap, StackedFactorsAndEncodedUpdatesGiveTheModelOfOneProcess) {
  json stacked = job_, encoded = job_;
  stacked["aggregation"]["method"] = "flora";
  stacked["aggregation"]["restart"] = "keep";
  encoded["aggregation"]["encoding"] = "int8";
  for (const json& job : {stacked, encoded}) {
    overlap(job);
    const std::string expected = alone_hash();
    fs::remove_all(at("run"));
    EXPECT_EQ(hash_in(support::run_program(command("3"))), expected) << job["aggregation"].dump();
  }
}

// What each rank has merged travels in that time, too.
TEST_F(MpirunOverlap, ScatteredUpdatesGiveTheModelOfOneProcess) {
  const std::string expected = alone_hash();
  job_["aggregation"]["exchange"] = "scatter";
  write_job();
  for (const char* ranks : {"2", "3"}) {
    fs::remove_all(at("run"));
    EXPECT_EQ(hash_in(support::run_program(command(ranks))), expected) << ranks << " ranks";
  }
}

TEST_F(MpirunOverlap, KilledAgainAndAgainItComesToTheSameModel) {
  job_["aggregation"]["rounds"] = 100;
  write_job();
  const std::string expected = alone_hash();
  expect_the_same_after_kills(expected, 11);
  job_["aggregation"]["exchange"] = "scatter";
  write_job();
  fs::remove_all(at("run"));
  expect_the_same_after_kills(expected, 13);
}

TEST_F(MpirunMesh, IsForOneJobOfMpirunAlone) {
  for (const auto& verb : {std::vector<std::string>{"coordinator", at("job.json"), "--certs", "c"},
                           {"client", at("job.json"), "--coordinator", "h:1", "--certs", "c"}}) {
    const Finished refused = strata(verb);
    EXPECT_EQ(refused.status, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("aggregation.topology"));
  }
  job_["aggregation"]["clients_per_round"] = 2;
  write_job();
  const Finished sampled = strata({"run", at("job.json"), "-o", at("run")});
  EXPECT_EQ(sampled.status, 3);
  EXPECT_THAT(sampled.err, HasSubstr("every client takes part in every round"));
  job_["aggregation"].erase("clients_per_round");
  write_private_job(json::object());
  const Finished hidden = strata({"run", at("job.json"), "-o", at("run")});
  EXPECT_EQ(hidden.status, 3);
  EXPECT_THAT(hidden.err, HasSubstr("a mesh is of one owner's cluster"));
}

TEST_F(Mpirun, AKilledRankEndsTheJobAndTheSameCommandGoesOn) {
  job_["aggregation"]["rounds"] = 100;
  write_job();
  expect_to_go_on_after_a_kill(plain_hash());
}

}  // namespace
}  // namespace strata
