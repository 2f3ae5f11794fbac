// Every error code that the page of errors lists, reached by running the program; but for
// E_INTERNAL, which is a mistake of ours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "federation.h"

namespace strata::cli {
namespace {

using support::run_program;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;

/// The last value of the file becomes one that a half cannot hold.
void make_a_weight_huge(const Federation& f) {
  std::string bytes = read_file(f.weights());
  const float huge = 1e30f;
  std::memcpy(bytes.data() + bytes.size() - sizeof huge, &huge, sizeof huge);
  write_file(f.weights(), bytes);
}

const std::map<ErrorCode, std::function<Finished(Federation&)>>& cases() {
  static const std::map<ErrorCode, std::function<Finished(Federation&)>> kTable{
      {ErrorCode::kUsage, [](Federation&) { return strata({"run"}); }},
      {ErrorCode::kConfig,
       [](Federation& f) {
         f.job["training"]["batch_size"] = 0;
         return f.run();
       }},
      {ErrorCode::kQuorum,
       [](Federation& f) {
         // One of two clients diverges, and both are asked for.
         f.job["aggregation"]["min_clients"] = 2;
         f.job["clients"][0]["adapter"] = {
             {"alpha", 1e6}, {"lr_ratio_b", 1e6}, {"targets", {"q_proj", "k_proj"}}};
         f.job["clients"][1]["adapter"] = {{"alpha", 1e-3}};
         f.job["training"] = {{"local_steps", 2},
                              {"batch_size", 2},
                              {"learning_rate", 1000},
                              {"optimizer", "sgd"},
                              {"max_grad_norm", 0}};
         return f.run();
       }},
      {ErrorCode::kFileMissing,
       [](Federation& f) {
         return strata({"export", "--model", f.folder / "absent", "-o", f.out()});
       }},
      {ErrorCode::kFormat,
       [](Federation& f) {
         return strata({"import", f.weights(), "-o", f.out()});
       }},
      {ErrorCode::kUnsupported,
       [](Federation& f) {
         write_file(f.model() / "config.json", R"({"model_type": "mamba"})");
         return f.run();
       }},
      {ErrorCode::kData,
       [](Federation& f) {
         write_file(f.a(), "{}\n");
         return f.run();
       }},
      {ErrorCode::kFileExists,
       [](Federation& f) {
         write_file(f.out() / "mine.txt", "");
         return f.run();
       }},
      {ErrorCode::kIo,
       [](Federation&) {
         return run_program({"sh", "-c", STRATA_BINARY " schema > /dev/full"});
       }},
      {ErrorCode::kDiskFull,
       [](Federation& f) {
         // Metrics are appended, so a link leads them to a disk that is full.
         (void)f.run_args();
         return run_program({"unshare", "-Urm", "sh", "-c",
                             "mkdir " + f.out().string() + " && mount -t tmpfs -o size=16k tmpfs " +
                                 f.out().string() + " && " STRATA_BINARY " run -q " +
                                 (f.folder / "job.json").string() + " -o " + f.out().string()});
       }},
      {ErrorCode::kIncompatibleUpdate,
       [](Federation& f) {
         return strata({"merge", golden_model("llama") / "adapter",
                        golden_model("mistral") / "adapter", "--weights", "1,1", "-o", f.out()});
       }},
      {ErrorCode::kNumeric,
       [](Federation& f) {
         make_a_weight_huge(f);
         return strata({"export", "--model", f.model(), "--dtype", "f16", "-o", f.out()});
       }},
      {ErrorCode::kPeer,
       [](Federation& f) {
         (void)f.run_args();
         (void)strata({"certs", "demo", "--names", "anna", "-o", f.out()});
         return strata({"client", f.folder / "job.json", "--coordinator", "127.0.0.1:1", "--certs",
                        f.out() / "anna", "--state", f.folder / "state", "--attempts", "1"});
       }},
      {ErrorCode::kLocked,
       [](Federation& f) {
         f.job["aggregation"]["rounds"] = 1000000;
         f.job["training"]["local_steps"] = 1;
         support::Running running(strata_args(f.run_args({"-q"})));
         wait_for(f.out() / "rounds");
         Finished second = f.run({"-q"});
         running.signal(SIGTERM);
         (void)running.wait();
         return second;
       }},
      {ErrorCode::kAuth,
       [](Federation& f) {
         (void)strata({"certs", "demo", "--clients", "1", "-o", f.out()});
         fs::permissions(f.out() / "client-1" / "identity.key", fs::perms(0644));
         return strata({"certs", "verify", f.out() / "client-1"});
       }},
      {ErrorCode::kDamaged,
       [](Federation& f) {
         (void)strata({"certs", "demo", "--clients", "1", "-o", f.out()});
         write_file(f.out() / "ca" / "issued.json", "{}");
         return strata({"certs", "list", "--ca", f.out() / "ca"});
       }},
      {ErrorCode::kInterrupted,
       [](Federation& f) {
         f.job["aggregation"]["rounds"] = 1000000;
         f.job["training"]["local_steps"] = 1;
         support::Running running(strata_args(f.run_args({"-q"})));
         wait_for(f.out() / "rounds");
         running.signal(SIGTERM);
         return running.wait();
       }},
  };
  return kTable;
}

TEST(ExitStatus, EveryCodeHasACaseHere) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    const auto error = static_cast<ErrorCode>(code);
    // E_PROTOCOL takes a peer that breaks the rules: tests/sim and tests/common/transport have
    // them. E_BUDGET is the ledger's, which no command asks yet: tests/privacy/ledger.
    const bool none = error == ErrorCode::kInternal || error == ErrorCode::kProtocol ||
                      error == ErrorCode::kBudget;
    EXPECT_EQ(cases().contains(error), !none) << name(error);
  }
}

class ExitStatus : public testing::TestWithParam<ErrorCode> {};

TEST_P(ExitStatus, IsTheDocumentedOneWithTheCodeAtTheEndOfOneLine) {
  const ErrorCode code = GetParam();
  if (code == ErrorCode::kDiskFull && run_program({"unshare", "-Urm", "true"}).status != 0)
    GTEST_SKIP() << "no user namespaces here to mount in";
  const ScratchFolder scratch;
  Federation federation(scratch.path());
  const Finished finished = cases().at(code)(federation);
  EXPECT_EQ(finished.status, exit_status(code)) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("strata: error: "));
  EXPECT_THAT(finished.err, EndsWith(" [" + std::string(name(code)) + "]\n"));
  EXPECT_THAT(finished.out, IsEmpty());
}

std::vector<ErrorCode> codes() {
  std::vector<ErrorCode> out;
  for (const auto& [code, run] : cases()) out.push_back(code);
  return out;
}
INSTANTIATE_TEST_SUITE_P(Codes, ExitStatus, testing::ValuesIn(codes()),
                         [](const auto& code) { return std::string(name(code.param)).substr(2); });

// Each command that writes a folder, into one that holds somebody's work.
TEST(OutputFolder, ThatExistsIsRefusedByEveryCommandWithoutForce) {
  const ScratchFolder scratch;
  const Federation f(scratch.path());
  const fs::path adapter = golden_model("llama") / "adapter";
  write_file(f.out() / "mine.txt", "keep me");
  for (const auto& args : std::vector<std::vector<std::string>>{
           f.run_args(),
           {"pretrain", "--model", f.model(), "--data", f.a(), "-o", f.out()},
           {"merge", adapter, "--weights", "1", "-o", f.out()},
           {"export", "--model", f.model(), "-o", f.out()},
           {"import", f.folder / "model.gguf", "-o", f.out()}}) {
    const Finished finished = strata(args);
    EXPECT_EQ(finished.status, 1) << args[0];
    EXPECT_THAT(finished.err, HasSubstr("--force")) << args[0];
    EXPECT_EQ(read_file(f.out() / "mine.txt"), "keep me") << args[0];
    EXPECT_EQ(std::distance(fs::directory_iterator(f.out()), {}), 1) << args[0];
  }
}

}  // namespace
}  // namespace strata::cli
