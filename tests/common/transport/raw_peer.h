#pragma once
// Peers that do not keep to the rules: bare sockets, and OpenSSL with settings of their own.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "certs/x509.h"

namespace strata::transport {

/// A blocking connection to "127.0.0.1:port"; reads give up after two seconds.
class RawSocket {
 public:
  explicit RawSocket(const std::string& address) : number_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    set_timeout(number_);
    connected_ = ::connect(number_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  ~RawSocket() { ::close(number_); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  static void set_timeout(int socket) {
    const timeval two_seconds{.tv_sec = 2, .tv_usec = 0};
    ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &two_seconds, sizeof two_seconds);
  }
  [[nodiscard]] int number() const { return number_; }
  bool send(const std::string& text) const {
    return connected_ && ::send(number_, text.data(), text.size(), MSG_NOSIGNAL) ==
                             static_cast<ssize_t>(text.size());
  }
  /// Whether the other side has closed; waits for it at most two seconds.
  bool closed() const {
    char byte = 0;
    while (true) {
      const ssize_t n = ::recv(number_, &byte, 1, 0);
      if (n > 0) continue;
      return n == 0 || errno == ECONNRESET || !connected_;
    }
  }

 private:
  int number_;
  bool connected_ = false;
};

struct RawTls {
  std::filesystem::path folder;  // of the identity; empty: none
  int version = TLS1_3_VERSION;
  bool alpn = true;
};

using RawContext = std::unique_ptr<SSL_CTX, certs::Freed<SSL_CTX_free>>;
using RawSsl = std::unique_ptr<SSL, certs::Freed<SSL_free>>;

inline RawContext raw_context(const SSL_METHOD* method, const RawTls& how) {
  RawContext out(SSL_CTX_new(method));
  SSL_CTX_set_min_proto_version(out.get(), how.version);
  SSL_CTX_set_max_proto_version(out.get(), how.version);
  if (!how.folder.empty()) {
    SSL_CTX_use_certificate_file(out.get(), (how.folder / "identity.crt").c_str(),
                                 SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(out.get(), (how.folder / "identity.key").c_str(), SSL_FILETYPE_PEM);
  }
  return out;
}

/// Not in the test's own thread. What became of it: "" when `then` was reached and done, else
/// OpenSSL's reason.
inline std::string raw_client(const std::string& address, const RawTls& how,
                              const std::function<void(SSL&)>& then = {}) {
  sigset_t pipe;  // of a write to a peer that is gone; in this thread only
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  RawSocket socket(address);
  const RawContext context = raw_context(TLS_client_method(), how);
  const unsigned char name[] = {8, 's', 't', 'r', 'a', 't', 'a', '/', '1'};
  if (how.alpn) SSL_CTX_set_alpn_protos(context.get(), name, sizeof name);
  const RawSsl ssl(SSL_new(context.get()));
  SSL_set_fd(ssl.get(), socket.number());
  char byte = 0;
  // A refusal is told to the first read.
  if (SSL_connect(ssl.get()) == 1 && SSL_read(ssl.get(), &byte, 1) == 1) {
    if (then) then(*ssl);
    return "";
  }
  const std::string why = certs::drain_errors();
  return why.empty() ? "gone" : why;
}

/// Accepts one connection on a port of its own and does `talk` with its socket.
class RawServer {
 public:
  explicit RawServer(std::function<void(int)> talk) : number_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    RawSocket::set_timeout(number_);
    if (::bind(number_, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
        ::listen(number_, 4) != 0 ||
        ::getsockname(number_, reinterpret_cast<sockaddr*>(&at), &size) != 0)
      throw std::runtime_error("no port to listen on");
    address_ = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    thread_ = std::thread([this, talk = std::move(talk)] {
      const int one = ::accept(number_, nullptr, nullptr);
      if (one < 0) return;
      RawSocket::set_timeout(one);
      talk(one);
      ::close(one);
    });
  }
  ~RawServer() {
    thread_.join();
    ::close(number_);
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  int number_;
  std::string address_;
  std::thread thread_;
};

/// As a RawServer's `talk`: one handshake, and then until the peer is gone.
inline std::function<void(int)> raw_tls_server(const RawTls& how) {
  return [how](int socket) {
    const RawContext context = raw_context(TLS_server_method(), how);
    const RawSsl ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), socket);
    char byte = 0;
    if (SSL_accept(ssl.get()) == 1) (void)SSL_read(ssl.get(), &byte, 1);
    ERR_clear_error();
  };
}

}  // namespace strata::transport
