#pragma once
// A model from the command line: its folder, optionally a PEFT adapter beside it, and its text
// side.
#include <optional>
#include <string>

#include "cli/assemble.h"
#include "cli/verb.h"

namespace strata::cli {

struct ModelOptions {
  std::string model;
  std::string adapter;
  std::string dtype = "f32";
  DataSection data;

  /// --model, --adapter, --dtype, --template, --max-length.
  void declare(CLI::App& command);
};

struct LoadedModel {
  model::Model model;
  std::optional<adapter::AdapterSet> adapters;  // prepared
  TextSide text;

  [[nodiscard]] const adapter::AdapterSet* beside() const {
    return adapters ? &*adapters : nullptr;
  }
};

[[nodiscard]] Result<LoadedModel> load_model(const sys::Disk& disk, const ModelOptions& options);

}  // namespace strata::cli
