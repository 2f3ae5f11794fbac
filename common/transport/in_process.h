#pragma once
// Coordinator and clients in one process and one executor: frames are moved, not encoded. Used by
// `strata run`, and by tests as the plainest member of the seam.
#include <memory>
#include <string>

#include "transport/transport.h"

namespace strata::transport {

/// The place where the two sides meet. Listeners and dialers share it and may outlive it.
class InProcess {
 public:
  explicit InProcess(sys::Executor& executor);
  ~InProcess();
  [[nodiscard]] std::unique_ptr<Listener> listener();
  /// Connections of this dialer are those of client `id`.
  [[nodiscard]] std::unique_ptr<Dialer> dialer(std::string id);

 private:
  struct Hub;
  std::shared_ptr<Hub> hub_;
};

}  // namespace strata::transport
