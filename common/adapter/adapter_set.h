#pragma once
// The adapters of one client: one per targeted linear layer of the model, made from its
// configuration.
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adapter/adapter.h"
#include "tensor/team.h"

namespace strata::adapter {

struct AdapterConfig {
  std::string method = "lora";  // or "full": every parameter of the model is trained (no adapters)
  std::int64_t rank = 8;
  double alpha = 16.0;
  double dropout = 0.0;
  double lr_ratio_b = 1.0;  // LoRA+
  bool freeze_a = false;    // LoRA-FA: A stays as it was drawn
  std::int64_t heads = 1;   // side by side on each layer, each on its own part of a batch
  std::vector<std::string> targets = {
      "all-linear"};  // names, dotted suffixes, or regular expressions over module names
  /// Modules whose tensors are trained themselves, beside the adapters: names as in targets, or
  /// "all-other" (every tensor that no adapter changes). PEFT's name for it.
  std::vector<std::string> modules_to_save;
  /// Suffix or regular expression -> value; of several that match a layer the first counts.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;

  bool operator==(const AdapterConfig&) const = default;
};

/// Adapters by linear site (the order of the model's linears). Movable; one training thread.
class AdapterSet {
 public:
  AdapterSet() = default;
  /// kConfig when a target or pattern matches no layer (naming near ones), a rank is larger than
  /// the layer's smaller side, or there are several heads of a method that shares a factor.
  /// `round`: that they are made for. Factors start at zero; call reset().
  [[nodiscard]] static Result<AdapterSet> make(const AdapterConfig& config,
                                               std::span<const LinearShape> linears,
                                               const sys::Stream& shared, std::uint32_t round = 1);

  /// One adapter of scale 1 for each given pair (scale folded into B), of whatever rank: an
  /// exported change put beside a base, for evaluation and generation. kIncompatibleUpdate for an
  /// unknown module or a wrong shape.
  [[nodiscard]] static Result<AdapterSet> from_factors(
      std::span<const LinearShape> linears, const std::map<std::string, Factors>& factors);

  /// The adapter of linear site `i`, or null.
  [[nodiscard]] Adapter* at(std::size_t site) const {
    return site < sites_.size() ? sites_[site].get() : nullptr;
  }
  /// Where the adapter of site `i` starts in a record's gradient vector.
  [[nodiscard]] std::size_t offset(std::size_t site) const { return offsets_[site]; }
  /// Trainable values of all adapters: the length of a record's gradient vector.
  [[nodiscard]] std::size_t trainable_count() const { return trainable_; }
  [[nodiscard]] std::size_t max_rank() const;
  /// Heads that share a batch: the same on every layer.
  [[nodiscard]] std::size_t heads() const;

  // Every adapter's, shared out over `team`.
  void prepare(tensor::DType compute, tensor::Team* team = nullptr);
  void reset(const sys::Stream& stream, tensor::Team* team = nullptr);
  void anchor();
  void anchor_late();
  void rest(bool late);
  void begin();
  // Merging between rounds, as Adapter has it.
  [[nodiscard]] DeltaTerms increment() const;
  void mark_merged();
  void restart_merged(const sys::Stream& stream, tensor::Team* team = nullptr);
  [[nodiscard]] std::vector<ParamRef> params() const;
  /// Keyed by the base tensor ("<module>.weight").
  [[nodiscard]] DeltaTerms delta() const;
  [[nodiscard]] DeltaTerms product() const;
  /// Loads factors by module name; every adapter must be given (kIncompatibleUpdate otherwise, also
  /// for modules without one).
  [[nodiscard]] Result<void> load(const std::map<std::string, Factors>& factors);

 private:
  template <class Work>
  void over_sites(tensor::Team* team, const Work& work);
  [[nodiscard]] DeltaTerms collect(TensorDelta (Adapter::*what)() const) const;

  std::vector<std::unique_ptr<Adapter>> sites_;
  std::vector<std::size_t> offsets_;
  std::size_t trainable_ = 0;
};

/// Whether `pattern` names `module`: equal, a suffix behind a dot, or (with characters beyond names
/// and dots) a regular expression for the whole name, optionally behind "....". kConfig for a
/// broken expression.
[[nodiscard]] Result<bool> names_module(std::string_view pattern, std::string_view module);

}  // namespace strata::adapter
