#include "transport/tls_io.h"

#include <csignal>

namespace strata::transport {
namespace {

constexpr std::size_t kScratchBytes = 65536;

}  // namespace

IoThread::IoThread()
    : work_(boost::asio::make_work_guard(context_)),
      door_(std::make_shared<IoDoor>(context_)),
      scratch_(kScratchBytes) {
  // Signals are for the program's own threads. SIGPIPE of a write to a socket that is gone comes to
  // the thread that writes, where it is blocked for good.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { context_.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

IoThread::~IoThread() {
  door_->close();
  context_.stop();
  join();
}

void IoThread::join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace strata::transport
