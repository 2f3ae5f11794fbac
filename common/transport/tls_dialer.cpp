#include "transport/tls_endpoint.h"

namespace strata::transport {
namespace {

class DialerImpl final : public Dialer {
 public:
  DialerImpl(sys::Executor& executor, const sys::Clock& clock, const sys::Disk& disk,
             TlsOptions options, HostAndPort to)
      : clock_(clock),
        disk_(disk),
        options_(std::move(options)),
        to_(std::move(to)),
        endpoint_(executor, clock, options_.limits) {}

  void dial(Handler& handler, std::function<void(const Error&)> failed) override {
    TlsSetup setup = endpoint_.setup(handler, std::move(failed));
    auto context = TlsContext::load(disk_, clock_, options_, certs::Role::kClient);
    if (!context) {
      setup.link->failed(std::move(context).error());
      return;
    }
    setup.context = *std::move(context);
    setup.dials = true;
    setup.host = to_.host;
    setup.port = to_.port;
    endpoint_.door()->post([this, setup = std::move(setup)]() mutable {
      auto session = std::make_shared<TlsSession>(std::move(setup));
      endpoint_.add(session);
      session->dial();
    });
  }

 private:
  const sys::Clock& clock_;
  const sys::Disk& disk_;
  TlsOptions options_;
  HostAndPort to_;
  TlsEndpoint endpoint_;
};

}  // namespace

Result<std::unique_ptr<Dialer>> make_tls_dialer(sys::Executor& executor, const sys::Clock& clock,
                                                const sys::Disk& disk, TlsOptions options) {
  auto to = parse_address(options.address);
  if (!to) return fail(std::move(to).error());
  auto context = TlsContext::load(disk, clock, options, certs::Role::kClient);
  if (!context) return fail(std::move(context).error());
  try {
    return std::make_unique<DialerImpl>(executor, clock, disk, std::move(options), *std::move(to));
  } catch (const std::runtime_error& problem) {
    return fail(no_thread(problem));
  }
}

}  // namespace strata::transport
