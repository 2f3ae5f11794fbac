#pragma once
// The seam of commands. A verb is one file in verbs/ that defines
//     Verb eval_verb();
// and one line in verbs/registry.cpp. It declares its options on the CLI11 command it is given and
// returns what to run once they are parsed; its result is JSON data for programs and text for
// people.
#include <CLI/CLI.hpp>
#include <functional>
#include <iosfwd>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "observe/observer.h"
#include "sys/clock.h"
#include "sys/disk.h"

namespace strata::cli {

/// What the outside gives a verb.
struct Context {
  sys::Disk& disk;
  const sys::Clock& clock;
  std::istream& in;
  std::ostream& out;              // results for people; in JSON mode only the envelope goes there
  std::function<bool()> stopped;  // true after the first SIGINT, SIGTERM or SIGHUP
  observe::Observer& progress;    // to the terminal
  bool json = false;
  int threads = 1;  // --threads, else what the machine gives this process
  bool threads_given = false;
  /// Threads of a library hang: once the result is printed the process ends without them.
  bool leave_at_once = false;
  /// Prints an error as the program does at its end and returns the exit status, for whoever may be
  /// killed before that. Empty in tests.
  std::function<int(const Error&)> tell = nullptr;
};

struct VerbOutput {
  nlohmann::ordered_json data = nlohmann::ordered_json::object();
  std::string text;     // ends with a newline unless empty
  int status = 0;       // exit status: 1 of a command that found what it was asked to look for
  bool silent = false;  // all is said, or another process of the same job says it
};

using RunVerb = std::function<Result<VerbOutput>(Context&)>;

struct Verb {
  std::string_view name;  // "run", or "data preview" for one below a noun
  std::string_view help;
  std::string_view example;  // shown by --help
  /// Declares options on `command`; what they are parsed into is owned by the returned function.
  std::function<RunVerb(CLI::App& command)> declare;
};

/// Every verb in the order of the help text.
[[nodiscard]] std::vector<Verb> all_verbs();

/// The program: parses, runs, prints, returns the exit status.
[[nodiscard]] int run_program(int argc, char** argv);

}  // namespace strata::cli
