#include "cli/refusal_teller.h"

#include <fmt/format.h>

#include <utility>

namespace strata::cli {

void RefusalTeller::say(std::string reason) {
  observer_.on({.name = "connection_refused", .fields = {{"reason", std::move(reason)}}});
}

void RefusalTeller::say_more() {
  if (more_ > 0) say(fmt::format("{} more calls since then", std::exchange(more_, 0)));
}

void RefusalTeller::tell(const Error& why) {
  constexpr double kMinute = 60.0;
  const double now = clock_.seconds();
  if (told_ == 0 || now - since_ >= kMinute) {
    say_more();
    since_ = now;
    told_ = 0;
  }
  if (told_ >= kTold) {
    ++more_;
    return;
  }
  ++told_;
  say(why.line());
}

}  // namespace strata::cli
