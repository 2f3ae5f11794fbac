#pragma once
// What a listener and a dialer have in common: the thread of the sockets, the sessions in it, and
// the beat that checks their limits. For the files tls_*.cpp only. Threads: made, used and
// destroyed in the executor's; what is posted to door() runs in the sockets' and may use what says
// so.
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "transport/tls_io.h"
#include "transport/tls_session.h"

namespace strata::transport {

struct HostAndPort {
  std::string host;
  std::string port;
};
/// "host:7700", "[::1]:7700"; kConfig for anything else.
[[nodiscard]] Result<HostAndPort> parse_address(const std::string& address);

/// The system's refusal of a thread or a descriptor, which making an endpoint throws.
[[nodiscard]] Error no_thread(const std::runtime_error& problem);

class TlsEndpoint {
 public:
  /// Throws std::runtime_error when the system is out of threads or descriptors.
  TlsEndpoint(sys::Executor& executor, const sys::Clock& clock, TlsLimits limits);
  ~TlsEndpoint();
  TlsEndpoint(const TlsEndpoint&) = delete;
  TlsEndpoint& operator=(const TlsEndpoint&) = delete;

  [[nodiscard]] IoThread& io() { return io_; }
  [[nodiscard]] const std::shared_ptr<IoDoor>& door() const { return io_.door(); }
  /// What a session is made with, but for context, host and settled. In any thread.
  [[nodiscard]] TlsSetup setup(Handler& handler, std::function<void(const Error&)> failed);
  /// Nothing is told to any handler from now on, and what is under way is finished: farewells are
  /// said, everything else is cut off. `first` runs in the sockets' thread before. Called once; the
  /// destructor does it unless it was done.
  void shut_down(const std::function<void()>& first);

  // In the sockets' thread.
  void add(std::shared_ptr<TlsSession> session) { sessions_.push_back(std::move(session)); }
  [[nodiscard]] const std::vector<std::shared_ptr<TlsSession>>& sessions() const {
    return sessions_;
  }

 private:
  void beat();

  sys::Executor& executor_;
  const sys::Clock& clock_;
  TlsLimits limits_;
  std::shared_ptr<Hearing> hearing_ = std::make_shared<Hearing>();
  IoThread io_;  // before what lives in it
  boost::asio::steady_timer timer_;
  double beat_s_;
  bool closing_ = false;  // in the sockets' thread
  std::vector<std::shared_ptr<TlsSession>> sessions_;
};

}  // namespace strata::transport
