#pragma once
// Runs a program as a user would, and a folder that goes away: what tests of the command line need.
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace strata::support {

struct Finished {
  int status = 0;  // exit status; 128 + n when ended by signal n
  std::string out;
  std::string err;
};

/// A fresh folder below the system's temporary one, removed with everything in it on destruction.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// args[0] running with the rest and `input` on its standard input, beside the test. The output is
/// not a terminal. Throws std::system_error when it cannot be started; killed on destruction unless
/// it was waited for.
class Running {
 public:
  explicit Running(const std::vector<std::string>& args, const std::string& input = {});
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  void signal(int number) const;
  /// Until it ends; once.
  [[nodiscard]] Finished wait();

 private:
  ScratchFolder streams_;
  pid_t child_ = 0;
};

/// Runs a program to its end.
[[nodiscard]] inline Finished run_program(const std::vector<std::string>& args,
                                          const std::string& input = {}) {
  return Running(args, input).wait();
}

/// Whole file; throws std::runtime_error when it cannot be read or written.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace strata::support
