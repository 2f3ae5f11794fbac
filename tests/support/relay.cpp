#include "support/relay.h"

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "sys/random.h"

namespace strata::support {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kSegmentBytes = 1460;
constexpr std::size_t kReadBytes = 16 * kSegmentBytes;

Clock::duration seconds(double s) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

// What all connections of a relay share. In its thread only.
struct Shared {
  RelayOptions options;
  tcp::endpoint target;
  bool cut = false;
  RelayCounts counts;
};

// Closing with nothing to linger for is what sends a reset.
void reset_socket(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(tcp::socket::linger(true, 0), ignored);
  socket.close(ignored);
}

void prepare(tcp::socket& socket) {
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.set_option(tcp::no_delay(true), ignored);
}

// A caller's connection and the one to the target that belongs to it. Waits for sockets to be ready
// instead of reading and writing asynchronously, so that after a cut nothing is under way.
class Conversation : public std::enable_shared_from_this<Conversation> {
 public:
  Conversation(tcp::socket caller, asio::io_context& io, Shared& shared)
      : shared_(shared),
        caller_(std::move(caller)),
        target_(io),
        up_(*this, io, {.from = caller_, .to = target_}, shared.options.up, 1),
        down_(*this, io, {.from = target_, .to = caller_}, shared.options.down, 2) {
    prepare(caller_);
  }

  // At the beginning, and after every heal.
  void go() {
    if (over_ || shared_.cut) return;
    if (connected_) {
      up_.go();
      down_.go();
    } else if (!std::exchange(connecting_, true)) {
      target_.async_connect(shared_.target, [self = shared_from_this()](const error_code& error) {
        if (self->over_) return;
        if (error) return self->reset();
        prepare(self->target_);
        self->connected_ = true;
        self->go();
      });
    }
  }

  void reset() {
    over_ = true;
    reset_socket(caller_);
    reset_socket(target_);
    up_.stop();
    down_.stop();
  }

  void strand() {
    if (over_) return;
    if (!connected_) return reset();
    over_ = true;
    reset_socket(caller_);
    up_.stop();
    down_.stop();
  }

  // Nothing holds on to it any more: a stranded one goes with the relay.
  [[nodiscard]] bool gone() const { return over_ && !target_.is_open(); }

 private:
  struct Ends {
    tcp::socket& from;
    tcp::socket& to;
  };

  class Direction {
   public:
    Direction(Conversation& owner, asio::io_context& io, Ends ends, const Shape& shape,
              std::uint32_t number)
        : owner_(owner),
          ends_(ends),
          shape_(shape),
          losses_(sys::Stream(owner.shared_.options.seed)
                      .at({.client = owner.shared_.counts.connections,
                           .step = number,
                           .purpose = "loss"})),
          bytes_(number == 1 ? owner.shared_.counts.up_bytes : owner.shared_.counts.down_bytes),
          due_(io) {}

    void go() {
      read();
      write();
    }
    void stop() {
      pieces_.clear();
      due_.cancel();
    }
    [[nodiscard]] bool done() const { return ended_ && pieces_.empty(); }

   private:
    struct Piece {
      std::vector<char> bytes;  // none: the end
      Clock::time_point due;
    };

    [[nodiscard]] bool held() const { return owner_.over_ || owner_.shared_.cut; }
    [[nodiscard]] std::size_t room() const {
      const std::size_t most = owner_.shared_.options.queued_bytes_max;
      return most - std::min(most, queued_);
    }

    void read() {
      if (reading_ || ended_ || held() || room() == 0) return;
      reading_ = true;
      ends_.from.async_wait(tcp::socket::wait_read,
                            [this, keep = owner_.shared_from_this()](const error_code& error) {
                              reading_ = false;
                              if (!error && !held()) take();
                            });
    }

    void take() {
      std::array<char, kReadBytes> place{};
      error_code error;
      const std::size_t n =
          ends_.from.read_some(asio::buffer(place, std::min(place.size(), room())), error);
      if (error == asio::error::eof) {
        ended_ = true;
        pieces_.push_back({.bytes = {}, .due = arrival(0)});
      } else if (error && error != asio::error::would_block) {
        return owner_.reset();
      }
      for (std::size_t at = 0; at < n; at += kSegmentBytes) {
        const std::size_t size = std::min(kSegmentBytes, n - at);
        pieces_.push_back(
            {.bytes = {place.data() + at, place.data() + at + size}, .due = arrival(size)});
      }
      queued_ += n;
      std::size_t& most = owner_.shared_.counts.queued_bytes_most;
      most = std::max(most, queued_);
      go();
    }

    // When the segment that comes now is there.
    Clock::time_point arrival(std::size_t size) {
      sent_ = std::max(sent_, Clock::now());
      if (shape_.bytes_per_s_max > 0)
        sent_ += seconds(static_cast<double>(size) / shape_.bytes_per_s_max);
      Clock::time_point due = sent_ + seconds(shape_.delay_ms / 1000);
      if (size > 0 && losses_.uniform() < shape_.loss) {
        ++owner_.shared_.counts.lost_segments;
        due += seconds(shape_.retransmit_ms / 1000);
      }
      latest_ = std::max(latest_, due);
      return latest_;
    }

    void write() {
      if (writing_ || pieces_.empty() || held()) return;
      writing_ = true;
      due_.expires_at(pieces_.front().due);
      due_.async_wait([this, keep = owner_.shared_from_this()](const error_code& error) {
        writing_ = false;
        if (!error && !held()) give();
      });
    }

    void give() {
      error_code error;
      while (!pieces_.empty() && pieces_.front().due <= Clock::now()) {
        const auto& bytes = pieces_.front().bytes;
        if (bytes.empty()) {
          ends_.to.shutdown(tcp::socket::shutdown_send, error);
          pieces_.pop_front();
          return owner_.close_if_done();
        }
        const std::size_t n = ends_.to.write_some(
            asio::buffer(bytes.data() + written_, bytes.size() - written_), error);
        if (error == asio::error::would_block) return await_room();
        if (error) return owner_.reset();
        bytes_ += n;
        queued_ -= n;
        written_ += n;
        if (written_ < bytes.size()) continue;
        pieces_.pop_front();
        written_ = 0;
      }
      go();
    }

    void await_room() {
      writing_ = true;
      ends_.to.async_wait(tcp::socket::wait_write,
                          [this, keep = owner_.shared_from_this()](const error_code& error) {
                            writing_ = false;
                            if (!error && !held()) give();
                          });
    }

    Conversation& owner_;
    Ends ends_;
    const Shape& shape_;
    sys::Stream losses_;
    std::size_t& bytes_;  // its count
    asio::steady_timer due_;
    std::deque<Piece> pieces_;
    std::size_t queued_ = 0;    // bytes
    std::size_t written_ = 0;   // of the first piece
    Clock::time_point sent_;    // when the last byte that came is on the line
    Clock::time_point latest_;  // when it is there
    bool reading_ = false;      // a wait is under way
    bool writing_ = false;
    bool ended_ = false;  // the sender has said all
  };

  void close_if_done() {
    if (!up_.done() || !down_.done()) return;
    over_ = true;
    error_code ignored;
    caller_.close(ignored);
    target_.close(ignored);
  }

  Shared& shared_;
  tcp::socket caller_;
  tcp::socket target_;
  Direction up_;
  Direction down_;
  bool connecting_ = false;
  bool connected_ = false;
  bool over_ = false;
};

tcp::endpoint endpoint_of(const std::string& address) {
  const std::size_t colon = std::min(address.rfind(':'), address.size());
  error_code error;
  const auto host = asio::ip::make_address_v4(address.substr(0, colon), error);
  std::uint16_t port = 0;
  const char* end = address.data() + address.size();
  const bool has_port =
      colon < address.size() && std::from_chars(address.data() + colon + 1, end, port).ptr == end;
  if (error || !has_port)
    throw std::runtime_error("a relay's target is an IPv4 ADDRESS:PORT, not " + address);
  return {host, port};
}

}  // namespace

class Relay::Thread {
 public:
  explicit Thread(RelayOptions options) : acceptor_(io_) {
    shared_.target = endpoint_of(options.target);
    error_code error;
    const auto host = asio::ip::make_address_v4(options.listen, error);
    const tcp::endpoint local(host, 0);
    if (!error) acceptor_.open(local.protocol(), error);
    if (!error) acceptor_.bind(local, error);
    if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
    if (error)
      throw std::runtime_error("a relay cannot listen on " + options.listen + ": " +
                               error.message());
    shared_.options = std::move(options);
    accept();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~Thread() {
    ask([this] {
      error_code ignored;
      acceptor_.close(ignored);
      for (const auto& one : conversations_) one->reset();
    });
    thread_.join();  // nothing is left to wait for
  }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // Does it in the relay's thread and waits for that.
  void ask(const std::function<void()>& what) {
    std::promise<void> done;
    asio::post(io_, [&] {
      what();
      std::erase_if(conversations_, [](const auto& one) { return one->gone(); });
      done.set_value();
    });
    done.get_future().wait();
  }

  [[nodiscard]] std::string address() const {
    const tcp::endpoint local = acceptor_.local_endpoint();
    return local.address().to_string() + ":" + std::to_string(local.port());
  }
  [[nodiscard]] Shared& shared() { return shared_; }
  [[nodiscard]] const std::vector<std::shared_ptr<Conversation>>& conversations() const {
    return conversations_;
  }

 private:
  void accept() {
    acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (!error) {
        std::erase_if(conversations_, [](const auto& one) { return one->gone(); });
        ++shared_.counts.connections;
        conversations_.push_back(std::make_shared<Conversation>(std::move(socket), io_, shared_));
        conversations_.back()->go();
      }
      accept();
    });
  }

  asio::io_context io_{1};
  Shared shared_;
  tcp::acceptor acceptor_;
  std::vector<std::shared_ptr<Conversation>> conversations_;
  std::thread thread_;
};

Relay::Relay(RelayOptions options)
    : thread_(std::make_unique<Thread>(std::move(options))), address_(thread_->address()) {}

Relay::~Relay() = default;

void Relay::cut() {
  thread_->ask([this] { thread_->shared().cut = true; });
}

void Relay::heal() {
  thread_->ask([this] {
    thread_->shared().cut = false;
    for (const auto& one : thread_->conversations()) one->go();
  });
}

void Relay::reset() {
  thread_->ask([this] {
    for (const auto& one : thread_->conversations()) one->reset();
  });
}

void Relay::strand() {
  thread_->ask([this] {
    for (const auto& one : thread_->conversations()) one->strand();
  });
}

RelayCounts Relay::counts() const {
  RelayCounts out;
  thread_->ask([&] { out = thread_->shared().counts; });
  return out;
}

}  // namespace strata::support
