// Where output goes and what it looks like: one JSON object for programs, plain text when nobody
// watches, bars on a terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "federation.h"

namespace strata::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using Args = std::vector<std::string>;

/// A command as it succeeds and as it fails. `input` goes to its standard input.
struct Command {
  std::string name;
  std::function<Args(const Federation&)>
      good;  // empty: measuring takes seconds, and no golden is a GGUF model
  std::function<Args(const Federation&)> bad;
  std::string input = {};
};

void PrintTo(const Command& command, std::ostream* out) { *out << command.name; }

const fs::path& adapter() {
  static const fs::path kFolder = golden_model("llama") / "adapter";
  return kFolder;
}

std::vector<Command> commands() {
  return {
      {"run", [](const auto& f) { return f.run_args(); },
       [](const auto& f) -> Args {
         return {"run", f.folder / "absent.json"};
       }},
      {"pretrain",
       [](const auto& f) -> Args {
         return {"pretrain", "--model",      f.model(), "--data",   f.b(), "--steps",
                 "2",        "--batch-size", "2",       "--warmup", "0",   "--evaluations",
                 "1",        "-o",           f.out()};
       },
       [](const auto& f) -> Args {
         return {"pretrain", "--model", f.model(), "--data", f.folder / "absent", "-o", f.out()};
       }},
      {"eval",
       [](const auto& f) -> Args {
         return {"eval",   "--model", f.model(),       "--adapter",   adapter(),
                 "--data", f.b(),     "--exact-match", "--per-record"};
       },
       [](const auto& f) -> Args {
         return {"eval", "--model", f.model(), "--data", f.weights()};
       }},
      {"generate",
       [](const auto& f) -> Args {
         return {"generate", "--model", f.model(), "--prompt", "words", "--max-new-tokens", "5"};
       },
       [](const auto& f) -> Args {
         return {"generate", "--model", f.folder, "--prompt", "words"};
       }},
      {"merge",
       [](const auto& f) -> Args {
         return {"merge", adapter(), adapter(), "--weights", "0.5,0.5", "-o", f.out()};
       },
       [](const auto& f) -> Args {
         return {"merge", adapter(), golden_model("mistral") / "adapter", "--weights", "1,1",
                 "-o",    f.out()};
       }},
      {"export",
       [](const auto& f) -> Args {
         return {"export", "--model", f.model(), "--adapter", adapter(), "-o", f.out()};
       },
       [](const auto& f) -> Args {
         return {"export", "--model", f.model(), "--adapter", f.model(), "-o", f.out()};
       }},
      {"import",
       {},
       [](const auto& f) -> Args {
         return {"import", f.weights(), "-o", f.out()};
       }},
      {"tokenize",
       [](const auto& f) -> Args {
         return {"tokenize", "--model", f.model()};
       },
       [](const auto& f) -> Args {
         return {"tokenize", "--model", f.model(), "--decode"};
       },
       "\"two words\"\n"},
      {"tokenizer train",
       [](const auto& f) -> Args {
         support::write_file(f.folder / "text.txt", "low low lower lowest");
         return {"tokenizer", "train", f.folder / "text.txt", "-o", f.out()};
       },
       [](const auto& f) -> Args {
         return {"tokenizer", "train", f.folder / "absent.txt", "-o", f.out()};
       }},
      {"data preview",
       [](const auto& f) -> Args {
         return {"data", "preview", "--model", f.model(), "--data", f.b()};
       },
       [](const auto& f) -> Args {
         return {"data", "preview", "--model", f.model(), "--data", f.b(), "--template", "none"};
       }},
      {"schema", [](const auto&) -> Args { return {"schema"}; },
       [](const auto&) -> Args {
         return {"schema", "--model", "x"};
       }},
      {"coordinator",
       {},
       [](const auto& f) -> Args {
         (void)f.run_args();
         return {"coordinator", f.folder / "job.json", "--certs", f.folder, "-o", f.out()};
       }},
      {"client",
       {},
       [](const auto& f) -> Args {
         (void)f.run_args();
         return {"client", f.folder / "job.json", "--coordinator", "127.0.0.1:1", "--certs",
                 f.folder};
       }},
      {"status",
       [](const auto& f) -> Args {
         (void)f.run();
         return {"status", f.out()};
       },
       [](const auto& f) -> Args {
         return {"status", f.out()};
       }},
      {"inspect",
       [](const auto& f) -> Args {
         (void)f.run();
         return {"inspect", f.out()};
       },
       [](const auto& f) -> Args {
         return {"inspect", f.out()};
       }},
      {"certs init",
       [](const auto& f) -> Args {
         return {"certs", "init", "--federation", "spring", "-o", f.out()};
       },
       [](const auto& f) -> Args {
         return {"certs", "init", "--federation", "no spaces", "-o", f.out()};
       }},
      {"certs request",
       [](const auto& f) -> Args {
         return {"certs", "request", "--federation", "spring", "--id", "anna", "-o", f.out()};
       },
       [](const auto& f) -> Args {
         return {"certs", "request", "--federation", "spring", "--id", "No", "-o", f.out()};
       }},
      {"certs approve",
       {},
       [](const auto& f) -> Args {
         return {"certs", "approve", f.a(), "--ca", f.out(), "--expect-id", "anna"};
       }},
      {"certs install",
       {},
       [](const auto& f) -> Args {
         return {"certs", "install", f.a(), "--ca-fingerprint", std::string(64, 'a'),
                 "-o",    f.out()};
       }},
      {"certs revoke",
       {},
       [](const auto& f) -> Args {
         return {"certs", "revoke", "anna", "--ca", f.out()};
       }},
      {"certs list",
       {},
       [](const auto& f) -> Args {
         return {"certs", "list", "--ca", f.out()};
       }},
      {"certs verify",
       {},
       [](const auto& f) -> Args {
         return {"certs", "verify", f.out()};
       }},
      {"certs demo",
       [](const auto& f) -> Args { return {"certs", "demo", "--clients", "1", "-o", f.out()}; },
       [](const auto& f) -> Args { return {"certs", "demo", "--names", "No", "-o", f.out()}; }},
      {"privacy plan",
       [](const auto& f) -> Args {
         f.write_private_job();
         return {"privacy", "plan", f.folder / "private.json"};
       },
       [](const auto& f) -> Args {
         f.write_private_job();
         return {"privacy", "plan", f.folder / "private.json", "--set", "privacy.sampling.q=2"};
       }},
      {"privacy audit",
       [](const auto& f) -> Args {
         f.write_private_job();
         return {"privacy", "audit", f.folder / "private.json", "--canaries", "100"};
       },
       [](const auto& f) -> Args {
         f.write_private_job();
         return {"privacy", "audit", f.folder / "private.json", "--client", "nobody"};
       }},
      {"privacy verify",
       {},
       [](const auto& f) -> Args {
         return {"privacy", "verify", f.a(), "--ca", f.b()};
       }},
      {"privacy ledger init",
       [](const auto& f) -> Args {
         return {"privacy",           "ledger",   "init", "--new-dataset",
                 "--any-file-system", "--ledger", f.out()};
       },
       [](const auto& f) -> Args {
         return {"privacy", "ledger", "init", "--ledger", f.out()};
       }},
      {"privacy ledger show",
       {},
       [](const auto& f) -> Args {
         return {"privacy", "ledger", "show", "--ledger", f.out()};
       }},
      {"privacy ledger verify",
       {},
       [](const auto& f) -> Args {
         return {"privacy", "ledger", "verify", "--ledger", f.out()};
       }},
      {"privacy epsilon",
       [](const auto&) -> Args {
         return {"privacy",
                 "epsilon",
                 "--noise-multiplier",
                 "1",
                 "--sampling-rate",
                 "0.01",
                 "--steps",
                 "1000",
                 "--delta",
                 "1e-5"};
       },
       [](const auto&) -> Args {
         return {"privacy",
                 "epsilon",
                 "--noise-multiplier",
                 "1",
                 "--sampling-rate",
                 "0.01",
                 "--steps",
                 "1000",
                 "--delta",
                 "0"};
       }},
      {"privacy calibrate",
       [](const auto&) -> Args {
         return {"privacy", "calibrate",       "--epsilon", "1",       "--delta",
                 "1e-5",    "--sampling-rate", "0.01",      "--steps", "100"};
       },
       [](const auto&) -> Args {
         return {"privacy", "calibrate",       "--epsilon", "0",       "--delta",
                 "1e-5",    "--sampling-rate", "0.01",      "--steps", "100"};
       }},
      {"bench train",
       {},
       [](const auto& f) -> Args {
         return {"bench", "train", "--model", f.model(), "--length", "4000"};
       }},
      {"bench gemm",
       {},
       [](const auto&) -> Args {
         return {"bench", "gemm", "--dtype", "f32"};
       }},
      {"replay",
       {},
       [](const auto& f) -> Args {
         return {"replay", f.folder};
       }},
      {"audit",
       {},
       [](const auto& f) -> Args {
         return {"audit", f.folder};
       }},
      {"bench round",
       [](const auto& f) -> Args {
         return {"bench", "round",    "--transport", "in-process", "--clients",
                 "2",     "--rounds", "2",           "--state",    f.folder};
       },
       [](const auto&) -> Args {
         return {"bench", "round", "--transport", "mpi"};
       }},
  };
}

Args in_json(Args args) {
  args.insert(args.end(), {"--format", "json"});
  return args;
}

/// The envelope that is all of standard output, in the order it is written.
nlohmann::ordered_json envelope_of(const Finished& finished) {
  EXPECT_EQ(std::count(finished.out.begin(), finished.out.end(), '\n'), 1) << finished.out;
  EXPECT_TRUE(finished.out.ends_with("}\n")) << finished.out;
  auto envelope = nlohmann::ordered_json::parse(finished.out, nullptr, false);
  Args keys;
  for (const auto& [key, value] : envelope.items()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("schema_version", "status", "exit_code", "error_code", "message",
                                "hint", "data"));
  if (envelope.is_discarded()) return nlohmann::ordered_json::object();
  EXPECT_EQ(envelope.at("schema_version"), 1);
  EXPECT_EQ(envelope.at("exit_code"), finished.status);
  EXPECT_TRUE(envelope.at("data").is_object());
  return envelope;
}

void expect_plain(const std::string& text) {
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\n' || c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  })) << testing::PrintToString(text);
}

class Output : public testing::TestWithParam<Command> {
 protected:
  ScratchFolder scratch_;
  Federation federation_{scratch_.path()};
};
class Success : public Output {};
class Failure : public Output {};

TEST_P(Success, InJsonIsOneEnvelope) {
  const Finished finished = strata(in_json(GetParam().good(federation_)), GetParam().input);
  ASSERT_EQ(finished.status, 0) << finished.out << finished.err;
  const auto envelope = envelope_of(finished);
  EXPECT_EQ(envelope.at("status"), "ok");
  EXPECT_TRUE(envelope.at("error_code").is_null());
  EXPECT_EQ(envelope.at("message"), "");
  EXPECT_EQ(envelope.at("hint"), "");
  EXPECT_FALSE(envelope.at("data").empty());
}

TEST_P(Success, IntoFilesIsPlainText) {
  const Finished finished = strata(GetParam().good(federation_), GetParam().input);
  EXPECT_EQ(finished.status, 0) << finished.err;
  EXPECT_THAT(finished.out, Not(IsEmpty()));
  expect_plain(finished.out);
  expect_plain(finished.err);
}

TEST_P(Failure, InJsonIsOneEnvelope) {
  const Finished finished = strata(in_json(GetParam().bad(federation_)), GetParam().input);
  ASSERT_NE(finished.status, 0) << finished.out;
  const auto envelope = envelope_of(finished);
  EXPECT_EQ(envelope.at("status"), "error");
  EXPECT_THAT(envelope.at("error_code").get<std::string>(), testing::StartsWith("E_"));
  EXPECT_THAT(envelope.at("message").get<std::string>(), Not(IsEmpty()));
  EXPECT_TRUE(envelope.at("hint").is_string());
  EXPECT_THAT(finished.err, Not(HasSubstr("strata: error")));
}

TEST_P(Failure, IntoFilesIsPlainTextOnStandardErrorOnly) {
  const Finished finished = strata(GetParam().bad(federation_), GetParam().input);
  EXPECT_NE(finished.status, 0);
  EXPECT_THAT(finished.out, IsEmpty());
  EXPECT_THAT(finished.err, HasSubstr("strata: error: "));
  expect_plain(finished.err);
}

std::vector<Command> quick_commands() {
  auto out = commands();
  std::erase_if(out, [](const auto& command) { return !command.good; });
  return out;
}

std::string name_of(const testing::TestParamInfo<Command>& command) {
  std::string name = command.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Commands, Success, testing::ValuesIn(quick_commands()), name_of);
INSTANTIATE_TEST_SUITE_P(Commands, Failure, testing::ValuesIn(commands()), name_of);

TEST(OutputTable, HoldsEveryCommand) {
  std::set<std::string> tested, known;
  for (const auto& command : commands()) tested.insert(command.name);
  for (const auto& verb : all_verbs()) known.emplace(verb.name);
  EXPECT_EQ(tested, known);
}

TEST(JsonUsageErrors, AreEnvelopesWhereverTheWordsGoWrong) {
  for (const Args& args : std::vector<Args>{{},
                                            {"evla"},
                                            {"data"},
                                            {"data", "prevew"},
                                            {"run"},
                                            {"run", "job.json", "--thrads", "3"},
                                            {"run", "job.json", "--threads", "many"}}) {
    const Finished finished = strata(in_json(args));
    EXPECT_EQ(finished.status, 2);
    const auto envelope = envelope_of(finished);
    EXPECT_EQ(envelope.at("error_code"), "E_USAGE");
    EXPECT_THAT(finished.err, IsEmpty());
  }
}

TEST(Quiet, RunsWithNothingOnStandardError) {
  const ScratchFolder scratch;
  const Finished finished = Federation(scratch.path()).run({"-q"});
  EXPECT_EQ(finished.status, 0);
  EXPECT_THAT(finished.err, IsEmpty());
  EXPECT_THAT(finished.out, HasSubstr("final model"));
}

TEST(Terminal, ShowsBarsUnlessPlainLinesAreAskedFor) {
  if (support::run_program({"script", "-qec", "true", "/dev/null"}).status != 0)
    GTEST_SKIP() << "no script command to make a terminal";
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  std::string command;
  for (const auto& arg : strata_args(federation.run_args({"--force"}))) command += "'" + arg + "' ";
  const Finished bars = support::run_program({"script", "-qec", command, "/dev/null"});
  EXPECT_EQ(bars.status, 0) << bars.out;
  EXPECT_THAT(bars.out, HasSubstr("\x1b[K"));
  const Finished lines =
      support::run_program({"script", "-qec", command + "--progress plain", "/dev/null"});
  EXPECT_THAT(lines.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(lines.out, HasSubstr("round 1"));
}

// A path with a byte that is no UTF-8 ended in E_INTERNAL and status 70.
TEST(Regression, PathsThatAreNoUtf8BrokeTheEnvelope) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  const std::string odd = scratch.path() / "odd\xff";
  const Finished missing = strata(in_json({"eval", "--model", odd, "--data", federation.b()}));
  EXPECT_EQ(missing.status, 7);
  EXPECT_EQ(envelope_of(missing).at("error_code"), "E_FILE_MISSING");
  const Finished done = strata(in_json({"export", "--model", federation.model(), "-o", odd}));
  EXPECT_EQ(done.status, 0) << done.out;
  EXPECT_THAT(envelope_of(done).at("data").at("output").get<std::string>(), HasSubstr("odd\ufffd"));
}

}  // namespace
}  // namespace strata::cli
