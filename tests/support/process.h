#pragma once
// Runs a program as a user would, and a folder that goes away: what tests of the command line need.
#include <filesystem>
#include <string>
#include <vector>

namespace strata::support {

struct Finished {
  int status = 0;  // exit status; 128 + n when ended by signal n
  std::string out;
  std::string err;
};

/// Runs args[0] with the rest and `input` on its standard input; waits. The output is not a
/// terminal. Throws std::system_error when the program cannot be started.
[[nodiscard]] Finished run_program(const std::vector<std::string>& args,
                                   const std::string& input = {});

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

/// Whole file; throws std::runtime_error when it cannot be read or written.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace strata::support
