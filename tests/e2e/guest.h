#pragma once
// A client of a run that the test itself plays, over TLS and by the real protocol: it is there,
// hears what it is asked, and trains nothing.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "certs/node.h"
#include "model/model.h"
#include "protocol/messages.h"
#include "support/pump.h"
#include "transport/tls.h"

namespace strata {

class Guest final : public transport::Handler {
 public:
  /// `folder`: of its certificate. `base`: state hash of the model that the run begins with. Calls
  /// until somebody is there, when the pump runs, which outlives it like clock and disk.
  Guest(support::Pump& pump, const sys::Clock& clock, const sys::Disk& disk,
        const std::string& coordinator, const std::filesystem::path& folder, const Sha256& base)
      : pump_(pump), base_(base) {
    auto dialer = transport::make_tls_dialer(
        pump, clock, disk, {.address = coordinator, .files = certs::files_in(disk, folder)});
    if (!dialer) throw std::runtime_error(dialer.error().line());
    dialer_ = std::move(*dialer);
    call(100);
  }
  ~Guest() override { pump_.cancel(again_); }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  void on_open(const std::shared_ptr<transport::Connection>& connection) override {
    connection_ = connection;
    connection->trust();
    say(protocol::Hello{.program = "guest", .head = {0, base_}});
  }
  void on_frame(transport::Connection&, wire::Frame frame) override {
    auto message = protocol::from_frame(std::move(frame));
    if (!message) throw std::runtime_error(message.error().line());
    if (const auto* welcome = std::get_if<protocol::Welcome>(&*message)) {
      run_ = welcome->run;
      say(protocol::Ready{{0, base_}});
    } else if (const auto* open = std::get_if<protocol::RoundOpen>(&*message)) {
      asked = open->round;
      asked_on = open->base;
    } else if (const auto* problem = std::get_if<protocol::Problem>(&*message)) {
      end = problem->message;
    }
  }
  void on_end(transport::Connection&, const Error& why) override {
    connection_.reset();
    if (end.empty()) end = why.line();
  }
  void say(const protocol::Message& message) {
    if (connection_) connection_->send(protocol::to_frame(message, run_));
  }
  [[nodiscard]] bool connected() const { return connection_ != nullptr; }

  std::uint32_t asked = 0;  // the latest round that it shall train for
  Sha256 asked_on{};        // the model it shall train on
  std::string end;          // what the coordinator or the line ended it with

 private:
  void call(int times) {
    dialer_->dial(*this, [this, times](const Error& why) {
      if (why.code != ErrorCode::kPeer || times == 0) {
        end = why.line();
      } else {
        again_ = pump_.after(0.1, [this, times] { call(times - 1); });
      }
    });
  }

  support::Pump& pump_;
  sys::TimerId again_ = 0;
  Sha256 base_;
  protocol::RunId run_{};
  std::shared_ptr<transport::Connection> connection_;
  std::unique_ptr<transport::Dialer> dialer_;  // goes first: its connections end with it
};

}  // namespace strata
