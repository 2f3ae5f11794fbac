#include "transport/tls_endpoint.h"

#include <algorithm>
#include <charconv>
#include <chrono>

namespace strata::transport {
namespace {

constexpr double kBeatSecondsMin = 0.005;
constexpr double kBeatSecondsMax = 0.25;

// Often enough that no limit is overdrawn by more than an eighth.
double beat_for(const TlsLimits& limits) {
  const double shortest =
      std::min({limits.connect_s, limits.handshake_s, limits.first_frame_s, limits.heartbeat_s,
                limits.dead_s, limits.close_s, limits.rate_window_s});
  return std::clamp(shortest / 8, kBeatSecondsMin, kBeatSecondsMax);
}

}  // namespace

Result<HostAndPort> parse_address(const std::string& address) {
  const auto colon = address.rfind(':');
  HostAndPort out;
  if (colon != std::string::npos) {
    out.host = address.substr(0, colon);
    out.port = address.substr(colon + 1);
  }
  const bool brackets = out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']';
  if (brackets) out.host = out.host.substr(1, out.host.size() - 2);
  unsigned number = 65536;
  const char* end = out.port.data() + out.port.size();
  const auto parsed = std::from_chars(out.port.data(), end, number);
  const bool six = out.host.find(':') != std::string::npos;
  if (parsed.ptr == end && !out.port.empty() && number < 65536 && six == brackets &&
      certs::valid_host(out.host))
    return out;
  return fail({.code = ErrorCode::kConfig,
               .what = "\"" + printable(address, 100) + "\" is no address",
               .rule = "an address is HOST:PORT, or [IPv6]:PORT"});
}

Error no_thread(const std::runtime_error& problem) {
  return {.code = ErrorCode::kIo,
          .what = std::string("the network cannot be used: ") + problem.what(),
          .remedy = "raise the limits of open files and processes"};
}

TlsEndpoint::TlsEndpoint(sys::Executor& executor, const sys::Clock& clock, TlsLimits limits)
    : executor_(executor),
      clock_(clock),
      limits_(limits),
      timer_(io_.context()),
      beat_s_(beat_for(limits)) {
  io_.door()->post([this] { beat(); });
}

TlsEndpoint::~TlsEndpoint() { shut_down({}); }

TlsSetup TlsEndpoint::setup(Handler& handler, std::function<void(const Error&)> failed) {
  TlsSetup out{.io = &io_, .clock = &clock_, .limits = limits_};
  out.link = std::make_shared<TlsLink>(executor_, hearing_, handler, std::move(failed));
  return out;
}

void TlsEndpoint::beat() {
  const double now = clock_.seconds();
  // A session that ends may not add another, so the list stays as it is.
  for (const auto& session : sessions_) session->tick(now);
  std::erase_if(sessions_, [](const auto& session) { return session->done(); });
  if (closing_ && sessions_.empty()) return io_.finish();
  timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(closing_ ? kBeatSecondsMin : beat_s_)));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error || closing_) beat();
  });
}

void TlsEndpoint::shut_down(const std::function<void()>& first) {
  if (!std::exchange(hearing_->alive, false)) return;
  io_.door()->post([this, &first] {
    if (first) first();
    closing_ = true;
    for (const auto& session : sessions_) session->abandon();
    timer_.cancel();
  });
  io_.join();
  // Nothing runs any more: whatever still came in goes with the thread.
  for (const auto& session : sessions_) session->finish_now();
  sessions_.clear();
}

}  // namespace strata::transport
