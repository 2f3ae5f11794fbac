#pragma once
// The one error type of strata. An Error says what went wrong, where, what rule was broken, and
// what to do about it; callers add what they were doing while passing it on (see result.h). It is a
// value: copyable, no stack trace.
#include <string>
#include <string_view>
#include <vector>

namespace strata {

/// Stable codes; each has a name (`E_...`) printed to users, and an exit status (docs/errors.md
/// lists both).
enum class ErrorCode {
  kUsage,               // the command line is wrong
  kConfig,              // a job file or a value in it is wrong
  kFileMissing,         // a file or folder that must exist does not
  kFileExists,          // something is where we would write
  kIo,                  // the operating system refused a read or write
  kDiskFull,            // no space left while writing
  kFormat,              // a model, adapter or tokenizer file is damaged or not what it claims
  kUnsupported,         // a file is well formed but asks for something strata does not do
  kData,                // a data record is wrong or a data set is unusable
  kIncompatibleUpdate,  // a client's update does not fit the plan (shape, rank, NaN, ...)
  kNumeric,             // NaN or Inf where a finite number is needed
  kQuorum,              // too few clients
  kPeer,                // a peer cannot be reached, is gone, or is too slow
  kProtocol,            // a peer said what it must not say here
  kAuth,                // who the peer is, or who we are, is not proved or not allowed
  kDamaged,             // a journal or a state file of ours is not what was written
  kLocked,              // another process works on the same state
  kInterrupted,         // stopped by a signal with a good state on disk
  kBudget,              // a release would cost more privacy than the data's owner allows
  kInternal,            // our own mistake
};

/// Exit status of the process for an error that reaches main: 1 run failed, 2 usage, 3 config, 4
/// privacy budget, 5 quorum or peer, 6 authentication, 7 data or model file, 8 damaged state, 70
/// internal, 75 interrupted but resumable.
[[nodiscard]] int exit_status(ErrorCode code);

/// `E_CONFIG`, `E_FORMAT`, ...
[[nodiscard]] std::string_view name(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string what;                  // the fact, with the value found: "rank is 0"
  std::string where = {};            // file:line, file: key path, file: tensor name
  std::string rule = {};             // what must hold: "a rank is between 1 and 65536"
  std::string remedy = {};           // what the reader can do
  std::vector<std::string> doing{};  // outermost last: what callers were doing

  /// One line, no newline: "doing: where: what; rule; remedy". Control bytes from files or peers
  /// are escaped.
  [[nodiscard]] std::string line() const;
};

/// `text` with control characters and what is no UTF-8 escaped, cut to `max` bytes: file and peer
/// contents never reach a log raw.
[[nodiscard]] std::string printable(std::string_view text, std::size_t max = 256);

}  // namespace strata
