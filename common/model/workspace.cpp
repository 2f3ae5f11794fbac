#include "model/workspace.h"

#include "model/decoder_impl.h"

namespace strata::model {

void Buffer::reserve(std::size_t n) {
  if (n <= size_) return;
  constexpr std::size_t kAlignment = 64;
  constexpr std::size_t kSlack = kAlignment / sizeof(float);
  memory_.reset();
  memory_ = std::make_unique_for_overwrite<float[]>(n + kSlack);  // pages appear as they are used
  void* start = memory_.get();
  std::size_t room = (n + kSlack) * sizeof(float);
  data_ = static_cast<float*>(std::align(kAlignment, n * sizeof(float), start, room));
  size_ = n;
}

Workspace::State::State(int threads)
    : team(threads),
      members(static_cast<std::size_t>(team.size())),
      slots(static_cast<std::size_t>(team.size())) {}

Workspace::Workspace(int threads) : state_(std::make_unique<State>(threads)) {}
Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;
Workspace::~Workspace() = default;

tensor::Team& Workspace::team() { return state_->team; }

void Workspace::set_profile(sys::Profile* profile) {
  state_->profile = profile;
  for (std::size_t i = 0; i < state_->members.size(); ++i)
    state_->members[i].timeline =
        profile != nullptr ? profile->timeline(static_cast<int>(i)) : nullptr;
}

sys::Timeline* Workspace::timeline() { return state_->members.front().timeline; }

std::size_t Workspace::bytes() const {
  std::size_t n = 0;
  state_->for_buffers([&](const Buffer& b) { n += b.bytes(); });
  for (const Member& m : state_->members) {
    n += sizeof(float) * (m.attention.capacity() + m.adapter.floats.capacity()) +
         sizeof(tensor::BFloat16) * (m.adapter.input.capacity() + m.adapter.inner.capacity());
  }
  return n;
}

}  // namespace strata::model
