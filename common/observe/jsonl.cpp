#include "observe/jsonl.h"

#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace strata::observe {

std::string json_line(const Event& event, const std::string& utc) {
  nlohmann::ordered_json line{{"event", event.name}, {"ts", utc}};
  for (const auto& [key, value] : event.fields) {
    std::visit([&, &k = key](const auto& v) { line[k] = v; },
               value);  // the library writes NaN and infinity as null
  }
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct JsonlObserver::State {
  sys::Disk& disk;
  const sys::Clock& clock;
  std::filesystem::path path;
  std::mutex lock;
  std::string pending;
  std::optional<Error> error;
  bool begun = false;

  void flush() {
    if (error || pending.empty()) return;
    // What a killed process left of its last line stays a line of its own.
    if (!std::exchange(begun, true) && disk.exists(path)) {
      const auto before = disk.read_text(path);
      if (before && !before->empty() && before->back() != '\n') pending.insert(0, "\n");
    }
    if (auto written = disk.append(path, pending); !written) error = written.error();
    pending.clear();
  }
};

JsonlObserver::JsonlObserver(sys::Disk& disk, const sys::Clock& clock, std::filesystem::path path)
    : state_(new State{.disk = disk, .clock = clock, .path = std::move(path)}) {}

JsonlObserver::~JsonlObserver() {
  const std::scoped_lock guard(state_->lock);
  state_->flush();
}

void JsonlObserver::on(const Event& event) {
  const std::string text = json_line(event, state_->clock.utc()) + "\n";
  const std::scoped_lock guard(state_->lock);
  state_->pending += text;
  if (event.name != "step" || state_->pending.size() > (1u << 16)) state_->flush();
}

Result<void> JsonlObserver::status() const {
  const std::scoped_lock guard(state_->lock);
  if (state_->error) return tl::unexpected<Error>(*state_->error);
  return {};
}

}  // namespace strata::observe
