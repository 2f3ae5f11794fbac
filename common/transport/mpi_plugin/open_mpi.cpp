// The MPI calls of the transport. Each rank has at most one send under way; receives are matched
// probes (MPI_Improbe), so that a message of any size is received where it was seen.
#include <dlfcn.h>
#include <mpi.h>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transport/mpi_port.h"

namespace strata::transport {
namespace {

constexpr int kTag = 1;
// Messages that may be coming at the same time beside one of each rank, which a dead one may never
// end; more wait at their senders.
constexpr std::size_t kReceivesMax = 16;
constexpr std::size_t kSpareMax = 4;

Error failed(const char* call, int code) {
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return {.code = ErrorCode::kPeer,
          .what = std::string(call) + " failed: " + std::string(text.data(), length)};
}

// The components that Open MPI loads want its symbols, and a plugin's libraries are the plugin's
// own. Loads again, for everybody, the library that is loaded already.
void share_symbols() {
  Dl_info library{};
  if (dladdr(reinterpret_cast<const void*>(&MPI_Init_thread), &library) != 0 &&
      library.dli_fname != nullptr)
    (void)dlopen(library.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

class OpenMpi final : public MpiPort {
 public:
  Result<MpiPlace> start() override {
    int provided = MPI_THREAD_SINGLE;
    if (const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
        code != MPI_SUCCESS)
      return fail(failed("MPI_Init_thread", code));
    if (provided < MPI_THREAD_FUNNELED) {
      return fail({.code = ErrorCode::kPeer,
                   .what = "this MPI does not work beside threads",
                   .rule = "MPI_THREAD_FUNNELED is needed",
                   .remedy = "use an MPI built with threads, as distributions have it"});
    }
    // Of our own: nothing that others send in the world's communicator is taken for ours.
    if (const int code = MPI_Comm_dup(MPI_COMM_WORLD, &world_); code != MPI_SUCCESS)
      return fail(failed("MPI_Comm_dup", code));
    MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
    MpiPlace out;
    MPI_Comm_rank(world_, &out.rank);
    MPI_Comm_size(world_, &out.size);
    sends_.assign(static_cast<std::size_t>(out.size), MPI_REQUEST_NULL);
    return out;
  }

  Result<void> send(int rank, ByteSpan bytes) override {
    const int code = MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, rank, kTag,
                               world_, &sends_[static_cast<std::size_t>(rank)]);
    if (code != MPI_SUCCESS) return fail(failed("MPI_Isend", code));
    return {};
  }

  Result<bool> sent(int rank) override {
    int done = 0;
    const int code = MPI_Test(&sends_[static_cast<std::size_t>(rank)], &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return fail(failed("MPI_Test", code));
    return done != 0;
  }

  Result<std::optional<MpiArrival>> receive() override {
    if (given_ && spare_.size() < kSpareMax) spare_.push_back(std::move(given_));
    given_ = nullptr;
    if (auto more = match(); !more) return fail(std::move(more).error());
    std::vector<bool> waiting(sends_.size());
    for (auto at = coming_.begin(); at != coming_.end(); ++at) {
      // What comes from one rank is given out in its order.
      if (waiting[static_cast<std::size_t>(at->rank)]) continue;
      int done = 0;
      if (const int code = MPI_Test(&at->request, &done, MPI_STATUS_IGNORE); code != MPI_SUCCESS)
        return fail(failed("MPI_Test", code));
      waiting[static_cast<std::size_t>(at->rank)] = true;
      if (done == 0) continue;
      given_ = std::move(at->bytes);
      const MpiArrival out{.rank = at->rank, .bytes = {given_->data(), at->size}};
      coming_.erase(at);
      return out;
    }
    return std::nullopt;
  }

  bool receiving() const override { return !coming_.empty(); }
  void finish() override { MPI_Finalize(); }
  // A network card may still be at work on them: they are let go by the end of the process only.
  void abandon(std::unique_ptr<MpiPort> self, std::vector<Bytes> sending) override {
    abandoned_ = std::move(sending);
    (void)self.release();
  }

 private:
  struct Coming {
    int rank = 0;
    std::size_t size = 0;
    std::unique_ptr<Bytes> bytes;  // at least `size`; where MPI writes stays where it is
    MPI_Request request = MPI_REQUEST_NULL;
  };

  // Begins to receive what has been sent to us.
  Result<void> match() {
    while (coming_.size() < sends_.size() + kReceivesMax) {
      int there = 0;
      MPI_Message message = MPI_MESSAGE_NULL;
      MPI_Status status;
      if (const int code = MPI_Improbe(MPI_ANY_SOURCE, kTag, world_, &there, &message, &status);
          code != MPI_SUCCESS)
        return fail(failed("MPI_Improbe", code));
      if (there == 0) return {};
      int size = 0;
      MPI_Get_count(&status, MPI_BYTE, &size);
      Coming next{.rank = status.MPI_SOURCE,
                  .size = static_cast<std::size_t>(size),
                  .bytes = room(static_cast<std::size_t>(size))};
      if (const int code = MPI_Imrecv(next.bytes->data(), size, MPI_BYTE, &message, &next.request);
          code != MPI_SUCCESS)
        return fail(failed("MPI_Imrecv", code));
      coming_.push_back(std::move(next));
    }
    return {};
  }

  // A buffer used before, if there is one: fresh memory costs more than the copy into it.
  std::unique_ptr<Bytes> room(std::size_t size) {
    std::unique_ptr<Bytes> out;
    if (spare_.empty()) {
      out = std::make_unique<Bytes>();
    } else {
      out = std::move(spare_.back());
      spare_.pop_back();
    }
    if (out->size() < size) out->resize(size);
    return out;
  }

  MPI_Comm world_ = MPI_COMM_NULL;
  std::vector<MPI_Request> sends_;  // by rank
  std::deque<Coming> coming_;
  std::vector<std::unique_ptr<Bytes>> spare_;
  std::unique_ptr<Bytes> given_;  // lent out by receive()
  std::vector<Bytes> abandoned_;
};

}  // namespace
}  // namespace strata::transport

extern "C" __attribute__((visibility("default"))) strata::transport::MpiPort* strata_mpi_port(
    int version) {
  if (version != strata::transport::kMpiPortVersion) return nullptr;
  strata::transport::share_symbols();
  return std::make_unique<strata::transport::OpenMpi>().release();
}
