#pragma once
// What is queued for one rank. At most one piece is under way: a rank that dies keeps the buffer of
// that one, and of no more. Short messages go between the pieces of long frames of other
// connections: who asks for something does not wait until all it is asked for is sent. Within a
// connection everything keeps its order. For the files mpi*.cpp only; in the thread of MPI.
#include <deque>
#include <memory>
#include <optional>
#include <string_view>

#include "transport/mpi_link.h"
#include "transport/mpi_message.h"
#include "transport/mpi_port.h"

namespace strata::transport {

class MpiOutbox {
 public:
  explicit MpiOutbox(int rank) : rank_(rank) {}

  /// A message without a frame. `meter`: is told `over` once it has been sent; may be null.
  void push(MpiKind kind, MpiEnd end, std::uint64_t connection, std::string_view text,
            std::shared_ptr<MpiMeter> meter = nullptr);
  /// A frame, whole; `meter` had its payload added before.
  void push(MpiEnd end, std::uint64_t connection, wire::Frame frame,
            std::shared_ptr<MpiMeter> meter);
  /// What is queued of a connection's frames is not sent any more.
  void drop_frames(MpiEnd end, std::uint64_t connection);
  /// Nothing more will be sent to this rank.
  void shut();
  [[nodiscard]] bool is_shut() const { return shut_; }

  /// Sends what MPI will take now; whether anything moved.
  [[nodiscard]] Result<bool> turn(MpiPort& port, double now);
  [[nodiscard]] bool under_way() const { return under_way_; }
  [[nodiscard]] bool empty() const {
    return !short_ && !long_ && shorts_.empty() && longs_.empty();
  }
  /// When something was last handed to MPI.
  [[nodiscard]] double said() const { return said_; }
  /// The buffer that MPI may be reading from.
  [[nodiscard]] Bytes take_buffer() { return std::move(piece_); }

 private:
  struct Item {
    MpiMessage head;  // `body` is not used: it would borrow
    std::optional<wire::FrameEnds> ends;
    Bytes payload;  // of the frame, or the text
    std::shared_ptr<MpiMeter> meter;
    bool dropped = false;
  };

  void push(Item item);
  [[nodiscard]] bool goes_short(const Item& item) const;
  /// What the next piece is of; null when nothing is queued.
  [[nodiscard]] const Item* next();
  void write_piece(const Item& item);
  void piece_sent();
  static void settle(const Item& item);

  int rank_;
  std::deque<Item> shorts_, longs_;
  std::optional<Item> short_;  // under way
  std::optional<Item> long_;   // begun
  Bytes piece_;
  std::size_t piece_body_ = 0;
  bool under_way_ = false;
  bool shut_ = false;
  double said_ = 0;
};

}  // namespace strata::transport
