#pragma once
// Facts out: what the program tells the outside while it works. Learning code reports events; where
// they are written (metrics.jsonl, a terminal, nowhere) is decided at assembly. Events never carry
// records, prompts or gradients. Threads: on() may be called from several threads at once;
// implementations lock.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace strata::observe {

using Value = std::variant<std::int64_t, double, bool, std::string>;

/// One fact. Names and keys are snake_case; units stand last in a key (`seconds`, `bytes_up`).
struct Event {
  std::string name;  // "step", "client_round", "evaluation", ...
  std::vector<std::pair<std::string, Value>> fields;
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on(const Event& event) = 0;
};

/// Tells nobody.
class NullObserver final : public Observer {
 public:
  void on(const Event&) override {}
};

}  // namespace strata::observe
