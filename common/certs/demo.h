#pragma once
// A whole federation's certificates at once, for trying things out: everything lies in one folder,
// which is what real keys must not do. Marked DEMO in every subject.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "certs/authority.h"

namespace strata::certs {

struct DemoOptions {
  std::vector<std::string> clients;                          // ids
  std::vector<std::string> hosts{"localhost", "127.0.0.1"};  // of the coordinator
};

/// Makes folder/ca, folder/coordinator (with crl.pem) and folder/<id> for every client, each as
/// certs/node.h lists it. kFileExists when the folder is there, kUsage for bad names. Returns the
/// authority's fingerprint.
[[nodiscard]] Result<Sha256> make_demo(sys::Disk& disk, const std::filesystem::path& folder,
                                       const DemoOptions& options, std::int64_t now);

}  // namespace strata::certs
