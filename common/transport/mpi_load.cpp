// Finds and loads the plugin. It is never unloaded: MPI's own threads and exit handlers stay.
#include <dlfcn.h>

#include <array>
#include <system_error>

#include "transport/mpi_port.h"

namespace strata::transport {
namespace {

constexpr const char* kFile = "strata_mpi.so";

Error no_plugin(std::string what, const std::filesystem::path& where) {
  return {.code = ErrorCode::kUnsupported,
          .what = std::move(what),
          .where = where.string(),
          .remedy = "build strata where an MPI is installed (Debian: libopenmpi-dev), and keep " +
                    std::string(kFile) + " beside the program or in ../lib/strata"};
}

// The loader's own words, without the path that stands in front of them anyway.
std::string reason(const std::filesystem::path& plugin) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc keeps one text for each thread
  const char* text = dlerror();
  std::string out = text == nullptr ? "is not loaded" : text;
  const std::string prefix = plugin.string() + ": ";
  if (out.starts_with(prefix)) out.erase(0, prefix.size());
  return printable(out);
}

Result<std::unique_ptr<MpiPort>> load(const std::filesystem::path& plugin) {
  std::error_code ignored;
  if (!std::filesystem::exists(plugin, ignored))
    return fail(no_plugin("strata's MPI plugin is not there", plugin));
  // Absolute: dlopen looks for a bare name elsewhere.
  void* library = dlopen(std::filesystem::absolute(plugin, ignored).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return fail(no_plugin(reason(plugin), plugin));
  void* symbol = dlsym(library, kMpiFactory);
  if (symbol == nullptr) return fail(no_plugin("is no MPI plugin of strata", plugin));
  std::unique_ptr<MpiPort> port(reinterpret_cast<MpiFactory>(symbol)(kMpiPortVersion));
  if (!port) return fail(no_plugin("is of another version of strata", plugin));
  return port;
}

}  // namespace

std::filesystem::path find_mpi_plugin(const std::filesystem::path& executable) {
  const auto folder = executable.parent_path();
  const std::array<std::filesystem::path, 2> places{
      folder / kFile, (folder / ".." / "lib" / "strata" / kFile).lexically_normal()};
  for (const auto& place : places) {
    std::error_code ignored;
    if (std::filesystem::exists(place, ignored)) return place;
  }
  return places[0];
}

Result<std::unique_ptr<MpiCluster>> join_mpi(sys::Executor& executor, const sys::Clock& clock,
                                             const std::filesystem::path& plugin,
                                             MpiOptions options) {
  std::error_code ignored;
  auto port = load(plugin.empty()
                       ? find_mpi_plugin(std::filesystem::read_symlink("/proc/self/exe", ignored))
                       : plugin);
  if (!port) return fail(std::move(port).error(), "loading MPI");
  return join_mpi_by(*std::move(port), executor, clock, options);
}

}  // namespace strata::transport
