#pragma once
// A model from the command line: its folder, optionally a PEFT adapter beside it, and its text
// side.
#include <optional>
#include <string>

#include "cli/assemble.h"
#include "cli/noise_shrinkage.h"
#include "cli/verb.h"

namespace strata::cli {

struct ModelOptions {
  std::string model;
  std::string adapter;
  std::string dtype = "f32";
  bool shrink = false;
  DataSection data;

  /// --model, --adapter, --shrink, --dtype, --template, --max-length.
  void declare(CLI::App& command);
};

struct LoadedModel {
  model::Model model;
  std::optional<adapter::AdapterSet> adapters;  // prepared
  TextSide text;
  std::optional<Shrinkage> shrinkage;  // of the adapter, when it was asked for

  [[nodiscard]] const adapter::AdapterSet* beside() const {
    return adapters ? &*adapters : nullptr;
  }
};

/// The text of --shrink's help.
inline constexpr const char* kShrinkHelp =
    "shrink the adapter's singular values by the known noise of the private run it lies in "
    "(RUN/adapter)";

[[nodiscard]] Result<LoadedModel> load_model(const sys::Disk& disk, const ModelOptions& options);

}  // namespace strata::cli
