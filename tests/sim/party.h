#pragma once
// One end of a conversation with a coordinator, driven by the test frame by frame.
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "protocol/messages.h"
#include "transport/transport.h"

namespace strata::sim {

class Party final : public transport::Handler {
 public:
  void on_open(const std::shared_ptr<transport::Connection>& c) override {
    connection = c;
    c->trust();
  }
  void on_frame(transport::Connection&, wire::Frame frame) override {
    auto message = protocol::from_frame(frame);
    if (!message) throw std::logic_error(message.error().line());
    if (const auto* welcome = std::get_if<protocol::Welcome>(&*message)) run = welcome->run;
    heard.push_back(std::move(*message));
  }
  void on_end(transport::Connection&, const Error& why) override {
    ended = why.line();
    connection.reset();
  }
  void say(const protocol::Message& message) { connection->send(protocol::to_frame(message, run)); }

  std::shared_ptr<transport::Connection> connection;
  protocol::RunId run{};
  std::deque<protocol::Message> heard;
  std::optional<std::string> ended;
};

}  // namespace strata::sim
