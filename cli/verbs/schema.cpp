// strata schema: the JSON schema of job files, for editors (configs/schema.json is its output).
#include "cli/job.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {

Verb schema_verb() {
  return {.name = "schema",
          .help = "print the JSON schema of job files",
          .example = "strata schema > configs/schema.json",
          .declare = [](CLI::App&) -> RunVerb {
            return [](Context&) -> Result<VerbOutput> {
              const std::string text = job_schema();
              return VerbOutput{.data = nlohmann::ordered_json::parse(text), .text = text};
            };
          }};
}

}  // namespace strata::cli
