#include "sys/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

namespace strata::sys {

void Profile::clear() {
  for (auto& timeline : timelines_) timeline.clear();
}

std::vector<Profile::Row> Profile::rows() const {
  std::map<std::string_view, Row> by_name;
  for (const auto& timeline : timelines_) {
    for (const auto& event : timeline.events()) {
      Row& row = by_name[event.name];
      row.name = event.name;
      ++row.calls;
      row.seconds += event.seconds;
      row.flops += event.flops;
    }
  }
  std::vector<Row> out;
  out.reserve(by_name.size());
  for (auto& [name, row] : by_name) out.push_back(std::move(row));
  std::stable_sort(out.begin(), out.end(),
                   [](const Row& a, const Row& b) { return a.seconds > b.seconds; });
  return out;
}

// Times in microseconds from the first event; one row of the viewer a thread.
std::string Profile::chrome_trace() const {
  double start = std::numeric_limits<double>::infinity();
  for (const auto& timeline : timelines_) {
    if (!timeline.events().empty()) start = std::min(start, timeline.events().front().start);
  }
  std::string out = "{\"traceEvents\":[";
  bool first = true;
  for (std::size_t thread = 0; thread < timelines_.size(); ++thread) {
    for (const auto& event : timelines_[thread].events()) {
      fmt::format_to(std::back_inserter(out),
                     "{}\n{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3f},"
                     "\"dur\":{:.3f}}}",
                     first ? "" : ",", event.name, thread, 1e6 * (event.start - start),
                     1e6 * event.seconds);
      first = false;
    }
  }
  out += "\n]}\n";
  return out;
}

}  // namespace strata::sys
