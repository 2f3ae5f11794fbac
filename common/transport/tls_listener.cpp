#include <boost/asio/ip/tcp.hpp>
#include <cstring>

#include "base/hash.h"
#include "transport/tls_endpoint.h"
#include "transport/tls_gate.h"

namespace strata::transport {
namespace {

using boost::asio::ip::tcp;

constexpr int kBacklog = 128;
constexpr double kOutOfDescriptorsSeconds = 0.1;
constexpr double kDaySeconds = 86400;

Error cannot_listen(const std::string& address, const std::string& why) {
  return {.code = ErrorCode::kPeer,
          .what = "cannot be listened on: " + why,
          .where = address,
          .remedy = "is another coordinator running? does this machine have that address?"};
}

boost::asio::ip::address plain(const boost::asio::ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, address.to_v6());
}

// Whose connections are counted together: an address, or an IPv6 network of one subscriber.
std::string counted_as(const boost::asio::ip::address& address) {
  if (!address.is_v6()) return address.to_string();
  auto bytes = address.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
  return boost::asio::ip::address_v6(bytes).to_string() + "/64";
}

// Loopback and the networks that are not routed: where demo keys may be used.
bool is_near(const boost::asio::ip::address& address) {
  if (address.is_loopback()) return true;
  if (address.is_v6())
    return address.to_v6().is_link_local() || address.to_v6().to_bytes()[0] == 0xfd;
  const auto bytes = address.to_v4().to_bytes();
  return bytes[0] == 10 || (bytes[0] == 172 && (bytes[1] & 0xf0u) == 16) ||
         (bytes[0] == 192 && bytes[1] == 168);
}

class ListenerImpl final : public TlsListener {
 public:
  ListenerImpl(sys::Executor& executor, const sys::Clock& clock, const sys::Disk& disk,
               TlsOptions options, std::shared_ptr<const TlsContext> context)
      : executor_(executor),
        clock_(clock),
        disk_(disk),
        options_(std::move(options)),
        context_(std::move(context)),
        gate_(options_.limits),
        seen_(hash_of_files()),
        warned_at_(clock.seconds()),
        endpoint_(executor, clock, options_.limits),
        acceptor_(endpoint_.io().context()),
        rest_(endpoint_.io().context()) {}

  ~ListenerImpl() override {
    executor_.cancel(poll_);
    endpoint_.shut_down([this] { stop_accepting(); });
  }
  ListenerImpl(const ListenerImpl&) = delete;
  ListenerImpl& operator=(const ListenerImpl&) = delete;

  Result<void> listen(Handler& handler) override;
  void stop() override {
    endpoint_.door()->post([this] { stop_accepting(); });
  }
  std::string address() const override { return address_; }
  Result<void> reload() override;

 private:
  void stop_accepting() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    rest_.cancel();
  }
  void accept_next(Handler& handler);
  void take(Handler& handler, tcp::socket socket, const tcp::endpoint& from);
  void tell(Error error) {
    if (options_.refused)
      executor_.post(
          [alive = std::weak_ptr<bool>(alive_), tell = options_.refused, error = std::move(error)] {
            if (!alive.expired()) tell(error);
          });
  }
  void poll_files();
  void warn_daily();
  [[nodiscard]] Sha256 hash_of_files() const;

  sys::Executor& executor_;
  const sys::Clock& clock_;
  const sys::Disk& disk_;
  TlsOptions options_;
  std::shared_ptr<const TlsContext> context_;  // in the sockets' thread, once it listens
  AddressGate gate_;                           // in the sockets' thread
  std::string address_;
  Sha256 seen_;
  double warned_at_;
  bool reload_failed_ = false;
  sys::TimerId poll_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  TlsEndpoint endpoint_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer rest_;
};

Result<void> ListenerImpl::listen(Handler& handler) {
  const auto parts = parse_address(options_.address);
  if (!parts) return fail(parts.error());
  boost::system::error_code error;
  tcp::resolver resolver(endpoint_.io().context());
  const auto found = resolver.resolve(parts->host, parts->port, tcp::resolver::passive, error);
  if (error || found.empty()) return fail(cannot_listen(options_.address, error.message()));
  const tcp::endpoint local = found.begin()->endpoint();
  acceptor_.open(local.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(local, error);
  if (!error) acceptor_.listen(kBacklog, error);
  if (error) {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    return fail(cannot_listen(options_.address, error.message()));
  }
  address_ = address_text(acceptor_.local_endpoint(error));
  endpoint_.door()->post([this, &handler] { accept_next(handler); });
  poll_files();
  return {};
}

void ListenerImpl::accept_next(Handler& handler) {
  if (!acceptor_.is_open()) return;
  acceptor_.async_accept(
      [this, &handler](const boost::system::error_code& error, tcp::socket socket) {
        if (!acceptor_.is_open()) return;
        if (error) {
          // Out of descriptors, most likely: those that wait keep until some are free.
          rest_.expires_after(
              std::chrono::milliseconds(static_cast<int>(kOutOfDescriptorsSeconds * 1000)));
          rest_.async_wait([this, &handler](const boost::system::error_code& stopped) {
            if (!stopped) accept_next(handler);
          });
          return;
        }
        boost::system::error_code gone;
        const tcp::endpoint from = socket.remote_endpoint(gone);
        if (!gone) take(handler, std::move(socket), from);
        accept_next(handler);
      });
}

void ListenerImpl::take(Handler& handler, tcp::socket socket, const tcp::endpoint& from) {
  const auto address = plain(from.address());
  const std::string counted = counted_as(address);
  const double now = clock_.seconds();
  if (!gate_.admit(counted, now)) {
    if (auto news = gate_.news(counted, now)) tell(*std::move(news));
    return;
  }
  if (context_->own().demo && !is_near(address)) {
    gate_.settled(counted);
    tell({.code = ErrorCode::kAuth,
          .what = "calls a coordinator with demo keys from another network",
          .where = address.to_string(),
          .rule = "demo keys are worth nothing",
          .remedy = "make real ones with `strata certs init`"});
    return;
  }
  TlsSetup setup = endpoint_.setup(handler, options_.refused);
  setup.context = context_;
  setup.settled = [this, counted] { gate_.settled(counted); };
  auto session = std::make_shared<TlsSession>(std::move(setup));
  endpoint_.add(session);
  session->accepted(std::move(socket), address_text({address, from.port()}));
}

Result<void> ListenerImpl::reload() {
  auto fresh = TlsContext::load(disk_, clock_, options_, certs::Role::kCoordinator);
  if (!fresh) return fail(std::move(fresh).error());
  endpoint_.door()->post([this, fresh = *std::move(fresh)] {
    context_ = fresh;
    for (const auto& session : endpoint_.sessions()) session->recheck(*fresh);
  });
  return {};
}

Sha256 ListenerImpl::hash_of_files() const {
  Hasher hash;
  for (const auto& path : {options_.files.ca, options_.files.certificate, options_.files.crl}) {
    if (path.empty()) continue;
    auto text = disk_.read_text(path);
    hash.add(text ? *text : text.error().line());
  }
  return hash.finish();
}

// Once now, which finds nothing, and then as often as is asked for.
void ListenerImpl::poll_files() {
  if (options_.limits.reload_s <= 0) return;
  const Sha256 found = hash_of_files();
  const bool changed = found != std::exchange(seen_, found);
  // After a failure also what is not looked at here may be mended: a mode, a clock.
  if (changed || reload_failed_) {
    auto done = reload();
    reload_failed_ = !done;
    if (done && options_.noticed) options_.noticed("changed certificate files are in use now");
    if (!done && changed) {
      Error error = std::move(done).error();
      error.doing.emplace_back("the old certificates stay in use");
      tell(std::move(error));
    }
  }
  warn_daily();
  poll_ = executor_.after(options_.limits.reload_s, [this] { poll_files(); });
}

// Runs of months outlive certificates. Whoever makes a listener has looked at its files that day.
void ListenerImpl::warn_daily() {
  if (!options_.noticed || clock_.seconds() - warned_at_ < kDaySeconds) return;
  warned_at_ = clock_.seconds();
  const std::int64_t now = wall_seconds(clock_);
  const auto node = certs::load_node(disk_, options_.files, certs::Role::kCoordinator, now);
  if (!node) return tell(node.error());
  for (const auto& line : certs::expiring(*node, options_.files, now)) options_.noticed(line);
}

}  // namespace

Result<std::unique_ptr<TlsListener>> make_tls_listener(sys::Executor& executor,
                                                       const sys::Clock& clock,
                                                       const sys::Disk& disk, TlsOptions options) {
  auto address = parse_address(options.address);
  if (!address) return fail(std::move(address).error());
  auto context = TlsContext::load(disk, clock, options, certs::Role::kCoordinator);
  if (!context) return fail(std::move(context).error());
  try {
    return std::make_unique<ListenerImpl>(executor, clock, disk, std::move(options),
                                          *std::move(context));
  } catch (const std::runtime_error& problem) {
    return fail(no_thread(problem));
  }
}

}  // namespace strata::transport
