#pragma once
// One TLS connection in the thread of the sockets, from its first byte to its last:
//     connecting -> handshake -> greeting -> open -> flushing -> draining -> done
// Greeting: a dialer waits for the coordinator's first frame. Flushing: close() was called, what is
// queued still goes out. Draining: our side is shut, what comes is thrown away until the peer is
// gone too; closing earlier would make the system cut off what the peer has not read yet.
// For the files tls_*.cpp only. Threads: as each function says; all others in the sockets' thread.
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/tls_context.h"
#include "transport/tls_error.h"
#include "transport/tls_io.h"
#include "transport/tls_link.h"

namespace strata::transport {

/// What a session needs; all of it outlives the thread of the sockets.
struct TlsSetup {
  IoThread* io = nullptr;
  const sys::Clock* clock = nullptr;
  TlsLimits limits;
  std::shared_ptr<const TlsContext> context;
  std::shared_ptr<TlsLink> link;
  bool dials = false;
  std::string host;  // whom a dialer calls
  std::string port;
  std::function<void()> settled;  // called once: the peer is known, or gone before it was
};

class TlsSession : public std::enable_shared_from_this<TlsSession> {
 public:
  explicit TlsSession(TlsSetup setup);
  ~TlsSession() = default;
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // In the executor's thread.
  void send(wire::Frame frame);
  [[nodiscard]] std::size_t unsent_bytes() const { return over_ ? 0 : unsent_.load(); }
  void trust();
  void close();
  void handled(std::size_t bytes);  // a frame that was given out

  // In the sockets' thread.
  void accepted(boost::asio::ip::tcp::socket socket, std::string address);
  void dial();
  /// Every now and then: limits of time, heartbeats. `now`: the clock's seconds.
  void tick(double now);
  /// The files have changed: does the peer still get in?
  void recheck(const TlsContext& context);
  /// The endpoint goes: what is not being said farewell to is cut off.
  void abandon();
  [[nodiscard]] bool done() const { return stage_ == Stage::kDone; }
  /// At once, when the thread has ended.
  void finish_now() { finish(); }

 private:
  enum class Stage { kConnecting, kHandshake, kGreeting, kOpen, kFlushing, kDraining, kDone };

  void connect(const boost::asio::ip::tcp::resolver::results_type& found);
  void secure();  // a connected socket: TLS begins
  void proceed();
  void shake();
  void shaken();
  void open();
  void wait_read();
  void wait_write();
  void read_some();
  [[nodiscard]] bool read_once();
  [[nodiscard]] bool take_in(ByteSpan bytes);
  void take_frame(wire::Frame frame);
  void enqueue(wire::Frame frame);
  void say(std::uint16_t type);
  void flush();
  [[nodiscard]] std::size_t write_once();  // bytes; 0: not now
  void begin_close();
  void resume();
  void end(Error why, bool abruptly = false);
  void farewell();
  void drain();
  void finish();
  void settle();
  void check_open(double now);
  [[nodiscard]] double now() const { return setup_.clock->seconds(); }
  void restart_rate() {
    rate_since_ = now();
    rate_bytes_ = 0;
  }

  TlsSetup setup_;
  std::shared_ptr<IoDoor> door_;
  Stage stage_ = Stage::kConnecting;
  double since_;  // when the stage began
  std::string address_;
  std::unique_ptr<boost::asio::ip::tcp::resolver> resolver_;
  [[nodiscard]] bool is_connected() const { return socket_ && socket_->is_open(); }

  std::optional<boost::asio::ip::tcp::socket> socket_;
  PeerCheck check_;
  SslPtr ssl_;
  bool reading_ = false;  // a wait is under way
  bool writing_ = false;
  bool established_ = false;  // opened() was called
  bool settled_ = false;

  // What comes.
  wire::FrameReader reader_;
  std::atomic<bool> trusted_{false};
  bool heard_frame_ = false;  // of a handler's type
  bool paused_ = false;       // too much is not handled yet
  double heard_ = 0;
  double rate_since_ = 0;
  std::size_t rate_bytes_ = 0;
  std::atomic<std::size_t> inbox_{0};  // bytes

  // What goes.
  std::deque<Bytes> outbox_;  // whole small frames; of large ones three parts
  std::size_t written_ = 0;   // of the first
  std::uint64_t sequence_ = 0;
  double said_ = 0;
  double took_ = 0;                     // when the peer last took bytes, or there were none
  std::atomic<std::size_t> unsent_{0};  // bytes of frames
  std::atomic<bool> over_{false};
};

/// "127.0.0.1:7700", "[::1]:7700".
[[nodiscard]] std::string address_text(const boost::asio::ip::tcp::endpoint& endpoint);

}  // namespace strata::transport
