// strata import: a GGUF model as a Hugging Face folder.
#include <fmt/format.h>

#include "cli/assemble.h"
#include "cli/verbs/verbs.h"
#include "export/gguf_import.h"

namespace strata::cli {
namespace {

struct Options {
  std::string gguf;
  std::string output;
  std::string dtype = "bf16";
  bool force = false;
};

Result<VerbOutput> import(const Options& options, Context& context) {
  auto report =
      exporting::import_gguf(context.disk, options.gguf, options.output,
                             {.dtype = compute_type(options.dtype), .force = options.force});
  if (!report) return fail(std::move(report).error());
  VerbOutput out;
  out.data = {{"directory", options.output},
              {"architecture", report->architecture},
              {"name", report->name},
              {"tensors", report->tensors},
              {"parameters", report->parameters}};
  out.text =
      fmt::format("{}: {} tensors, {:.1f} M parameters, {} in {}\n",
                  report->name.empty() ? report->architecture : report->name, report->tensors,
                  static_cast<double>(report->parameters) / 1e6, options.dtype, options.output);
  return out;
}

}  // namespace

Verb import_verb() {
  return {
      .name = "import",
      .help = "turn a GGUF model into a Hugging Face folder",
      .example = "strata import SmolLM2-135M-Instruct.Q4_1.gguf -o models/SmolLM2-135M-Instruct",
      .declare = [](CLI::App& command) -> RunVerb {
        auto options = std::make_shared<Options>();
        command
            .add_option(
                "model", options->gguf,
                "GGUF file (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K)")
            ->required();
        command.add_option("-o,--output-dir", options->output, "folder to write")->required();
        command.add_option("--dtype", options->dtype, "type of the written tensors")
            ->check(CLI::IsMember({"bf16", "f32"}));
        command.add_flag("--force", options->force, "replace an existing folder");
        return [options](Context& context) { return import(*options, context); };
      }};
}

}  // namespace strata::cli
