#pragma once
// What the commands `strata certs ...` share.
#include <string>

#include "certs/identity.h"
#include "certs/key_file.h"
#include "certs/node.h"
#include "cli/verb.h"

namespace strata::cli {

/// Seconds since 1970 by the wall clock.
[[nodiscard]] std::int64_t wall_seconds(const sys::Clock& clock);

/// Of a value that add_key_type() has let through.
[[nodiscard]] certs::KeyType key_type_of(const std::string& name);

void add_key_type(CLI::App& command, std::string& value);
void add_role(CLI::App& command, std::string& value, const std::string& help);

/// Who, until when, with which key.
[[nodiscard]] nlohmann::ordered_json identity_json(const certs::Identity& identity);
[[nodiscard]] std::string identity_text(const certs::Identity& identity);

/// Reads a party's folder and checks it whole; tells what of it runs out soon.
[[nodiscard]] Result<certs::Node> load_own(Context& context, const certs::NodeFiles& files,
                                           certs::Role role);

}  // namespace strata::cli
