#pragma once
// The executor's side of a TLS connection: what handlers are told, and the Connection they hold.
// For the files tls_*.cpp only.
#include <functional>
#include <memory>

#include "transport/tls.h"

namespace strata::transport {

class TlsSession;

/// Whether a listener or dialer is still there. Touched in the executor's thread only.
struct Hearing {
  bool alive = true;
};

/// What the executor's thread knows of one connection. The functions are called in the thread of
/// the sockets and do their work in the executor's.
class TlsLink : public std::enable_shared_from_this<TlsLink> {
 public:
  TlsLink(sys::Executor& executor, std::shared_ptr<Hearing> hearing, Handler& handler,
          std::function<void(const Error&)> failed)
      : executor_(executor),
        hearing_(std::move(hearing)),
        handler_(&handler),
        failed_(std::move(failed)) {}

  /// It is open: the handler gets its Connection.
  void opened(std::shared_ptr<TlsSession> session, Peer peer);
  /// `bytes`: what session->handled() is told once the handler is done.
  void received(std::shared_ptr<TlsSession> session, wire::Frame frame, std::size_t bytes);
  /// It has ended after opened().
  void ended(Error why);
  /// It has ended before.
  void failed(Error why);

  /// In the executor's thread: the handler hears nothing more.
  void forget_handler() { handler_ = nullptr; }

 private:
  sys::Executor& executor_;
  std::shared_ptr<Hearing> hearing_;
  Handler* handler_;
  std::function<void(const Error&)> failed_;
  std::weak_ptr<Connection> connection_;
};

}  // namespace strata::transport
