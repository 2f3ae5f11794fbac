#pragma once
// Who was not let in, as events: in each minute the first ones, then how many more there were. Who
// calls again and again fills neither a terminal nor a log. Threads: one.
#include <functional>

#include "base/result.h"
#include "observe/observer.h"
#include "sys/clock.h"

namespace strata::cli {

class RefusalTeller {
 public:
  static constexpr int kTold = 20;  // one by one, of a minute

  /// Borrows both.
  RefusalTeller(observe::Observer& observer, const sys::Clock& clock)
      : observer_(observer), clock_(clock) {}
  ~RefusalTeller() { say_more(); }
  RefusalTeller(const RefusalTeller&) = delete;
  RefusalTeller& operator=(const RefusalTeller&) = delete;
  void tell(const Error& why);

 private:
  void say(std::string reason);
  void say_more();

  observe::Observer& observer_;
  const sys::Clock& clock_;
  double since_ = 0.0;
  int told_ = 0;
  std::size_t more_ = 0;
};

}  // namespace strata::cli
