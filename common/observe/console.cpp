#include "observe/console.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <mutex>
#include <ostream>

namespace strata::observe {
namespace {

constexpr double kRedrawSeconds = 0.25;
constexpr double kLineSeconds = 30.0;
constexpr int kBarWidth = 24;

std::string text(const Event& event, std::string_view key) {
  for (const auto& [name, value] : event.fields) {
    if (name != key) continue;
    if (const auto* s = std::get_if<std::string>(&value)) return *s;
    if (const auto* i = std::get_if<std::int64_t>(&value)) return std::to_string(*i);
    if (const auto* b = std::get_if<bool>(&value)) return *b ? "yes" : "no";
  }
  return {};
}

double number(const Event& event, std::string_view key) {
  for (const auto& [name, value] : event.fields) {
    if (name != key) continue;
    if (const auto* d = std::get_if<double>(&value)) return *d;
    if (const auto* i = std::get_if<std::int64_t>(&value)) return static_cast<double>(*i);
  }
  return std::nan("");
}

bool holds(const Event& event, std::string_view key) {
  return std::any_of(event.fields.begin(), event.fields.end(),
                     [&](const auto& field) { return field.first == key; });
}

template <class... Args>
std::string format(const char* pattern, Args... args) {
  const int length = std::snprintf(nullptr, 0, pattern, args...);
  std::string out(static_cast<std::size_t>(std::max(length, 0)), '\0');
  std::snprintf(out.data(), out.size() + 1, pattern, args...);
  return out;
}

// The line that sums up a finished thing; empty for events people do not wait for.
std::string summary(const Event& e) {
  if (e.name == "run_started") {
    return format("%s clients, %s rounds, method %s, %s threads", text(e, "clients").c_str(),
                  text(e, "rounds").c_str(), text(e, "method").c_str(), text(e, "threads").c_str());
  }
  if (e.name == "client_round") {
    const std::string who = format("round %s  %-12s rank %-3s", text(e, "round").c_str(),
                                   text(e, "client").c_str(), text(e, "rank").c_str());
    if (!std::isfinite(number(e, "loss_before")))  // a private client does not tell
      return who + format(" %s steps", text(e, "steps").c_str());
    return who + format(" loss %.4f -> %.4f  %.0f tokens/s  %.1f s", number(e, "loss_before"),
                        number(e, "loss_after"),
                        number(e, "tokens") / std::max(number(e, "seconds"), 1e-9),
                        number(e, "seconds"));
  }
  if (e.name == "client_refused") {
    return format("round %s  %s is left out: %s", text(e, "round").c_str(),
                  text(e, "client").c_str(), text(e, "reason").c_str());
  }
  if (e.name == "aggregate") {
    std::string line =
        format("round %s  %s of %s updates, stacked rank %s", text(e, "round").c_str(),
               text(e, "method").c_str(), text(e, "clients").c_str(), text(e, "rank").c_str());
    const double error = number(e, "relative_error");
    if (std::isfinite(error)) {
      line += format(", off the clients' mean by %.1e", error);
      const double lost = number(e, "factor_averaging_error");
      if (std::isfinite(lost)) line += format(" (averaging factors: by %.1e)", lost);
    }
    return line;
  }
  if (e.name == "evaluation") {
    std::string line =
        format("round %s  held-out loss %.4f", text(e, "round").c_str(), number(e, "loss"));
    line += holds(e, "perplexity") ? format(", perplexity %.2f", number(e, "perplexity"))
                                   : format(", accuracy %.2f %%", 100.0 * number(e, "accuracy"));
    const double match = number(e, "exact_match");
    if (std::isfinite(match)) line += format(", exact match %.1f %%", 100.0 * match);
    return line;
  }
  if (e.name == "connection_refused") return "not let in: " + text(e, "reason");
  if (e.name == "message") return text(e, "text");
  return {};
}

class Console final : public Observer {
 public:
  Console(bool bars, std::ostream& out, const sys::Clock& clock)
      : bars_(bars), out_(out), clock_(clock) {}
  ~Console() override { clear(); }

  void on(const Event& event) override {
    const std::scoped_lock guard(lock_);
    if (event.name == "step") return step(event);
    const std::string line = summary(event);
    if (line.empty()) return;
    clear();
    if (event.name == "client_round") last_.erase(text(event, "client"));
    out_ << line << '\n' << std::flush;
  }

 private:
  void step(const Event& event) {
    const std::string client = text(event, "client");
    const double now = clock_.seconds();
    if (!bars_) {
      auto [at, first] = last_.try_emplace(client, now);
      if (now - at->second < kLineSeconds) return;
      at->second = now;
      out_ << format("round %s  %-12s step %s of %s", text(event, "round").c_str(), client.c_str(),
                     text(event, "step").c_str(), text(event, "steps").c_str());
      if (const double loss = number(event, "loss"); std::isfinite(loss))
        out_ << format(", loss %.4f, %.0f tokens/s", loss, number(event, "tokens_per_second"));
      out_ << '\n' << std::flush;
      return;
    }
    if (now - redrawn_ < kRedrawSeconds) return;
    redrawn_ = now;
    const double done = number(event, "step") / std::max(1.0, number(event, "steps"));
    const int filled = static_cast<int>(done * kBarWidth);
    std::string bar(static_cast<std::size_t>(kBarWidth), '.');
    for (int i = 0; i < filled && i < kBarWidth; ++i) bar[static_cast<std::size_t>(i)] = '#';
    out_ << '\r'
         << format("round %s  %-12s [%s] step %s/%s", text(event, "round").c_str(), client.c_str(),
                   bar.c_str(), text(event, "step").c_str(), text(event, "steps").c_str());
    if (const double loss = number(event, "loss"); std::isfinite(loss))
      out_ << format("  loss %.4f  %.0f tokens/s", loss, number(event, "tokens_per_second"));
    out_ << "\x1b[K" << std::flush;
    drawn_ = true;
  }

  void clear() {
    if (drawn_) out_ << "\r\x1b[K";
    drawn_ = false;
  }

  bool bars_;
  std::ostream& out_;
  const sys::Clock& clock_;
  std::mutex lock_;
  std::map<std::string, double> last_;
  double redrawn_ = -1.0;
  bool drawn_ = false;
};

}  // namespace

std::unique_ptr<Observer> make_console(ConsoleStyle style, std::ostream& out,
                                       const sys::Clock& clock) {
  if (style == ConsoleStyle::kSilent) return std::make_unique<NullObserver>();
  return std::make_unique<Console>(style == ConsoleStyle::kBars, out, clock);
}

}  // namespace strata::observe
