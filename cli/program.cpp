// argv in, exit status out: the only place that owns the process's streams and signals.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <iostream>
#include <map>
#include <new>
#include <optional>

#include "cli/verb.h"
#include "cli/version.h"
#include "config/section.h"
#include "observe/console.h"
#include "tensor/team.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

// A signal can only set a flag; it must outlive main's locals, hence the one variable of this
// program that is not a local.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): see above
std::atomic<int> g_signals{0};

extern "C" void on_signal(int number) {
  if (g_signals.fetch_add(1) > 0) _exit(128 + number);
}

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // Of a terminal that is gone; whoever starts a program with nohup wants it to go on.
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  // A closed pipe and a limit on file sizes come back as errors of the write, with a clean end.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

struct CommonOptions {
  std::string format = "text";
  std::string progress = "auto";
  int threads = 0;
  bool quiet = false;
};

struct Parsed {
  const Verb* verb = nullptr;
  CLI::App* command = nullptr;
  RunVerb run;
};

void add_common(CLI::App& command, CommonOptions& common) {
  command.add_option("--format", common.format, "text, or json: one object on standard output")
      ->check(CLI::IsMember({"text", "json"}));
  command.add_option("--progress", common.progress, "auto, plain lines, or none")
      ->check(CLI::IsMember({"auto", "plain", "none"}));
  command
      .add_option("--threads", common.threads,
                  "threads this command may use (default: all the process is given)")
      ->check(CLI::Range(1, 1024));
  command.add_flag("-q,--quiet", common.quiet, "no progress on standard error");
}

// The words of `--help`'s example and of an unknown word's nearest verb need the whole list.
void declare_all(CLI::App& app, const std::vector<Verb>& verbs, CommonOptions& common,
                 std::vector<Parsed>& parsed) {
  std::map<std::string, CLI::App*> groups;
  for (const Verb& verb : verbs) {
    CLI::App* parent = &app;
    std::string name(verb.name);
    std::string nouns;  // so far: "privacy", "privacy ledger"
    for (auto space = name.find(' '); space != std::string::npos; space = name.find(' ')) {
      const std::string noun = name.substr(0, space);
      nouns += (nouns.empty() ? "" : " ") + noun;
      CLI::App*& group = groups[nouns];
      if (group == nullptr)
        group = parent->add_subcommand(
            noun, fmt::format("commands on {}; see `strata {} --help`", noun, nouns));
      group->require_subcommand(1);
      parent = group;
      name.erase(0, space + 1);
    }
    CLI::App* command = parent->add_subcommand(name, std::string(verb.help));
    command->footer(fmt::format("Example:\n  {}", verb.example));
    add_common(*command, common);
    RunVerb run = verb.declare(*command);
    parsed.push_back({&verb, command, std::move(run)});
  }
}

// The one shape of JSON output. Paths and file contents may hold bytes that are no UTF-8; they must
// not keep the object from being printed.
void print_envelope(const json& envelope, std::ostream& out) {
  out << envelope.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
}

int print_error(const Error& error, bool as_json, std::ostream& out, std::ostream& err) {
  const int status = exit_status(error.code);
  if (as_json) {
    Error bare = error;
    bare.remedy.clear();
    print_envelope({{"schema_version", 1},
                    {"status", "error"},
                    {"exit_code", status},
                    {"error_code", name(error.code)},
                    {"message", bare.line()},
                    {"hint", error.remedy},
                    {"data", json::object()}},
                   out);
  } else {
    err << "strata: error: " << error.line() << " [" << name(error.code) << "]" << std::endl;
  }
  return status;
}

bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--format=json" ||
        (word == "--format" && i + 1 < argc && std::string_view(argv[i + 1]) == "json"))
      return true;
  }
  return false;
}

// The command the words name, as far as they do.
const Parsed* named_command(const std::vector<Parsed>& parsed, int argc, char** argv) {
  for (const auto& candidate : parsed) {
    const std::string first = argc > 1 ? argv[1] : "";
    const std::string both = first + " " + (argc > 2 ? argv[2] : "");
    if (candidate.verb->name == first || candidate.verb->name == both) return &candidate;
  }
  return nullptr;
}

// An unknown flag, before anything else that may be wrong: a misspelt --model is no missing one.
std::optional<Error> unknown_flag(const Parsed& command, int argc, char** argv) {
  std::vector<std::string> known;
  for (const auto* option : command.command->get_options()) {
    for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (int i = 2; i < argc; ++i) {
    const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    if (word.size() < 3 || !word.starts_with("--") ||
        std::find(known.begin(), known.end(), word) != known.end())
      continue;
    Error error{.code = ErrorCode::kUsage,
                .what = "\"" + printable(word, 60) + "\" is not a flag of `strata " +
                        std::string(command.verb->name) + "`",
                .remedy = "see `strata " + std::string(command.verb->name) + " --help`"};
    if (const auto near = config::nearest(word, known))
      error.remedy = "did you mean " + *near + "?";
    return error;
  }
  return std::nullopt;
}

// What CLI11 calls an unexpected word, with the nearest word it would have known.
Error usage_error(const CLI::ParseError& problem, const std::vector<Verb>& verbs,
                  const std::vector<Parsed>& parsed, int argc, char** argv) {
  if (const auto* command = named_command(parsed, argc, argv)) {
    if (auto unknown = unknown_flag(*command, argc, argv)) return *unknown;
  }
  Error error{.code = ErrorCode::kUsage,
              .what = printable(problem.what(), 400),
              .remedy = "see `strata --help`"};
  // The words of a command, one after the other: the first that leads to none is the wrong one.
  std::string said;
  for (int i = 1; i < argc && argv[i][0] != '-'; ++i) {
    std::vector<std::string> names;  // what may stand here
    for (const auto& verb : verbs) {
      if (!verb.name.starts_with(said)) continue;
      names.emplace_back(verb.name.substr(0, verb.name.find(' ', said.size())));
    }
    if (names.empty()) return error;  // the command is whole
    const std::string words = said + argv[i];
    if (std::find(names.begin(), names.end(), words) == names.end()) {
      error.what = "\"" + printable(words, 60) + "\" is not a command";
      if (const auto near = config::nearest(words, names))
        error.remedy = "did you mean `strata " + *near + "`?";
      return error;
    }
    said = words + " ";
  }
  return error;
}

// The exit status.
int print_output(const Result<VerbOutput>& output, bool as_json) {
  if (!output) return print_error(output.error(), as_json, std::cout, std::cerr);
  if (output->silent) return output->status;
  if (as_json) {
    print_envelope({{"schema_version", 1},
                    {"status", "ok"},
                    {"exit_code", output->status},
                    {"error_code", nullptr},
                    {"message", ""},
                    {"hint", ""},
                    {"data", output->data}},
                   std::cout);
  } else {
    std::cout << output->text << std::flush;
  }
  if (!std::cout) {
    return print_error({.code = ErrorCode::kIo, .what = "writing to standard output failed"}, false,
                       std::cout, std::cerr);
  }
  return output->status;
}

int run_verb(const Parsed& chosen, const CommonOptions& common) {
  const bool as_json = common.format == "json";
  const auto disk = sys::make_posix_disk();
  const auto clock = sys::make_posix_clock();
  const auto style = common.quiet || common.progress == "none" ? observe::ConsoleStyle::kSilent
                     : common.progress == "plain" || isatty(STDERR_FILENO) == 0
                         ? observe::ConsoleStyle::kLines
                         : observe::ConsoleStyle::kBars;
  const auto progress = observe::make_console(style, std::cerr, *clock);
  Context context{.disk = *disk,
                  .clock = *clock,
                  .in = std::cin,
                  .out = std::cout,
                  .stopped = [] { return g_signals.load() > 0; },
                  .progress = *progress,
                  .json = as_json,
                  .threads = common.threads > 0 ? common.threads : tensor::hardware_threads(),
                  .threads_given = common.threads > 0};
  context.tell = [as_json](const Error& error) {
    return print_error(error, as_json, std::cout, std::cerr);
  };
  auto output = chosen.run(context);
  const int status = print_output(output, as_json);
  if (context.leave_at_once) _exit(status);
  return status;
}

}  // namespace

int run_program(int argc, char** argv) {
  catch_signals();
  const bool as_json = wants_json(argc, argv);
  try {
    CLI::App app{"Federated fine-tuning of language models", "strata"};
    app.set_version_flag("--version", fmt::format("strata {} ({})", kVersion, instruction_set()));
    app.require_subcommand(1);
    app.footer("Each command has --help with an example.");
    CommonOptions common;
    const auto verbs = all_verbs();
    std::vector<Parsed> parsed;
    declare_all(app, verbs, common, parsed);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& asked) {
      return app.exit(asked);  // help or version
    } catch (const CLI::ParseError& problem) {
      return print_error(usage_error(problem, verbs, parsed, argc, argv), as_json, std::cout,
                         std::cerr);
    }
    for (const auto& candidate : parsed) {
      if (candidate.command->parsed()) return run_verb(candidate, common);
    }
    return print_error({.code = ErrorCode::kUsage, .what = "no command was given"}, as_json,
                       std::cout, std::cerr);
  } catch (const std::bad_alloc&) {
    return print_error({.code = ErrorCode::kInternal,
                        .what = "out of memory",
                        .remedy = "use a smaller batch or training.recompute"},
                       as_json, std::cout, std::cerr);
  } catch (const std::exception& problem) {
    return print_error(
        {.code = ErrorCode::kInternal, .what = problem.what(), .remedy = "please report this"},
        as_json, std::cout, std::cerr);
  }
}

}  // namespace strata::cli
