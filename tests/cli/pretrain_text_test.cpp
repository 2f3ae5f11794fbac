// A model pre-trained on plain text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <span>
#include <sstream>

#include "base/hash.h"
#include "federation.h"

namespace strata::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(PretrainOnText, CutsDocumentsIntoRecordsOfFullLength) {
  const ScratchFolder scratch;
  const Federation f(scratch.path());
  const fs::path corpus = scratch.path() / "corpus", held_out = scratch.path() / "held.txt";
  fs::create_directories(corpus);
  write_file(corpus / "a.txt", std::string(25, 'a'));
  write_file(corpus / "b.txt", std::string(14, 'b'));
  write_file(held_out, "some other words.");
  const auto args = [&](const fs::path& data) -> std::vector<std::string> {
    return {"pretrain", "--model",      f.model(), "--data",       data, "--held-out",
            held_out,   "--steps",      "2",       "--warmup",     "0",  "--evaluations",
            "1",        "--batch-size", "2",       "--max-length", "10", "-o",
            f.out()};
  };
  const Finished done = strata(args(corpus));
  ASSERT_EQ(done.status, 0) << done.err;
  // 39 letters and two end tokens: four records of ten, and one token that nothing comes before.
  const json report = json::parse(read_file(f.out() / "data.json"));
  EXPECT_EQ(report.at("clients").at(0).at("examples"), 4) << report;
  EXPECT_EQ(report.at("clients").at(0).at("tokens"), 40);
  EXPECT_EQ(report.at("clients").at(0).at("trained_tokens"), 36);

  // The same text, cut and then dealt out to clients with two heads each, that merge every step.
  fs::remove_all(f.out());
  auto lte = args(corpus);
  lte.insert(lte.end(), {"--freeze-a", "--lr-ratio-b", "8", "--beta2", "0.99", "--max-grad-norm",
                         "0", "--method", "lte", "--clients", "2", "--heads", "2", "--rank", "2",
                         "--merge-every", "1"});
  const Finished heads = strata(lte);
  ASSERT_EQ(heads.status, 0) << heads.err;
  const json dealt = json::parse(read_file(f.out() / "data.json"));
  EXPECT_EQ(dealt.at("clients").size(), 2U);
  const json job = json::parse(read_file(f.out() / "config.json"));
  EXPECT_EQ(job.at("clients").at(1).at("adapter").at("freeze_a"), true);
  EXPECT_EQ(job.at("clients").at(1).at("adapter").at("lr_ratio_b"), 8.0);
  EXPECT_EQ(job.at("training").at("beta2"), 0.99);
  EXPECT_EQ(job.at("training").at("max_grad_norm"), 0.0);
  EXPECT_TRUE(fs::exists(f.out() / "model" / "model.safetensors"));

  // Several heads are not trained as one model is.
  const auto planned = [&](const std::vector<std::string>& more) {
    fs::remove_all(f.out());
    auto words = args(corpus);
    words.insert(words.end(), {"--method", "lte", "--rank", "2"});
    words.insert(words.end(), more.begin(), more.end());
    const Finished finished = strata(words);
    EXPECT_EQ(finished.status, 0) << finished.err;
    return json::parse(read_file(f.out() / "config.json"));
  };
  const json several = planned({"--heads", "2"}), one = planned({"--heads", "1"});
  EXPECT_EQ(several.at("clients").at(0).at("adapter").at("freeze_a"), true);
  EXPECT_EQ(several.at("training").at("beta2"), 0.999);
  EXPECT_EQ(several.at("training").at("max_grad_norm"), 0.0);
  EXPECT_DOUBLE_EQ(several.at("training").at("learning_rate"), 0.003 * std::sqrt(2.0));
  EXPECT_EQ(one.at("clients").at(0).at("adapter").at("freeze_a"), false);
  EXPECT_EQ(one.at("training").at("beta2"), 0.95);
  EXPECT_EQ(one.at("training").at("max_grad_norm"), 1.0);
  EXPECT_EQ(planned({"--heads", "2", "--train-a"}).at("clients").at(0).at("adapter").at("freeze_a"),
            false);
  auto both = args(corpus);
  both.insert(both.end(), {"--method", "lte", "--train-a", "--freeze-a"});
  EXPECT_EQ(strata(both).status, 2);
  // And by gradients of every step.
  fs::remove_all(f.out());
  auto parallel = args(corpus);
  parallel.insert(parallel.end(), {"--method", "data-parallel", "--clients", "2"});
  const Finished steps = strata(parallel);
  ASSERT_EQ(steps.status, 0) << steps.err;
  EXPECT_THAT(steps.out, HasSubstr("worker-1"));
  parallel.back() = "3";
  EXPECT_THAT(strata(parallel).err, HasSubstr("equal parts of a batch"));

  auto no_norm = args(corpus);
  no_norm.insert(no_norm.end(), {"--max-grad-norm", "nan"});
  const Finished unclear = strata(no_norm);
  EXPECT_EQ(unclear.status, 2);
  EXPECT_THAT(unclear.err, HasSubstr("--max-grad-norm nan"));

  lte[lte.size() - 3] = "0";  // the rank
  EXPECT_EQ(strata(lte).status, 2);

  fs::remove(f.model() / "tokenizer.json");
  fs::remove_all(f.out());
  const Finished refused = strata(args(corpus));
  EXPECT_EQ(refused.status, 7) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("tokenizer.json"));
}

TEST(PretrainOnText, KeepsTheLatestCheckpoints) {
  const ScratchFolder scratch;
  const Federation f(scratch.path());
  const Finished done =
      strata({"pretrain", "--model", f.model(), "--data", f.a(), "--held-out", f.b(), "--steps",
              "4", "--warmup", "0", "--evaluations", "2", "--checkpoints", "4", "-o", f.out()});
  ASSERT_EQ(done.status, 0) << done.err;
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(f.out() / "checkpoints"))
    names.insert(entry.path().filename().string());
  EXPECT_THAT(names, ElementsAre("000003", "000004"));
  const auto weights = [&](const fs::path& folder) {
    const std::string bytes = read_file(f.out() / folder / "model.safetensors");
    return hex(sha256(std::as_bytes(std::span(bytes))));
  };
  EXPECT_EQ(weights("checkpoints/000004"), weights("model"));
  EXPECT_NE(weights("checkpoints/000003"), weights("model"));
  const json manifest = json::parse(read_file(f.out() / "manifest.json"));
  EXPECT_TRUE(manifest.at("files").contains("checkpoints/000003/model.safetensors"));
  EXPECT_EQ(manifest.at("rounds"), 4);
  std::size_t evaluated = 0;
  std::istringstream lines(read_file(f.out() / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    evaluated += line.find("\"event\":\"evaluation\"") != std::string::npos ? 1 : 0;
  EXPECT_EQ(evaluated, 3U);  // before, and twice
  EXPECT_EQ(strata({"eval", "--model", f.out() / "checkpoints/000003", "--data", f.b()}).status, 0);
}

}  // namespace
}  // namespace strata::cli
