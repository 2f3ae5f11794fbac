#pragma once
// What optimizers share: flat state vectors per parameter, their place in a checkpoint, and the
// cutting of an update into pieces of equal size, so that one large tensor and a hundred small ones
// keep all threads busy alike.
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "adapter/param.h"
#include "base/result.h"

namespace strata::client {

using StateVectors = std::map<std::string, std::vector<float>>;

/// A part [first, last) of parameter `param`.
struct Piece {
  std::size_t param = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

/// All parameters in pieces whose borders depend on the sizes alone (never on the thread count).
[[nodiscard]] std::vector<Piece> pieces_of(std::span<const adapter::ParamRef> params);

/// One state vector per parameter, by name; zero when first asked for.
class Moments {
 public:
  /// `suffix` follows the parameter's name in checkpoints: ".exp_avg".
  explicit Moments(std::string suffix) : suffix_(std::move(suffix)) {}

  /// The vectors of `params` in their order. A parameter whose size changed is our own mistake.
  [[nodiscard]] std::vector<std::span<float>> of(std::span<const adapter::ParamRef> params);
  void clear() { by_name_.clear(); }
  void save(StateVectors& state) const;
  /// Takes the vectors with this suffix out of `state`.
  void take(StateVectors& state);

 private:
  std::string suffix_;
  std::map<std::string, std::vector<float>, std::less<>> by_name_;
};

/// A step count as floats, exact to 2^44: a checkpoint holds named float vectors only.
void save_step(StateVectors& state, std::uint64_t step);
/// kFormat when the count is missing or not a count.
[[nodiscard]] Result<std::uint64_t> take_step(StateVectors& state);
/// kFormat naming the first vector that nobody took.
[[nodiscard]] Result<void> all_taken(const StateVectors& rest);

}  // namespace strata::client
