// How a session's model follows the coordinator's: round by round, or by what it missed.
#include <fmt/format.h>

#include <algorithm>

#include "client/session.h"
#include "protocol/problem.h"

namespace strata::client {
// Gets what a round came to and folds it; go_on() when that is done.
void Session::follow(const protocol::Head& head, protocol::Object object) {
  busy_following_ = true;
  // Another client of this process has folded it already: then its bytes are of no use here.
  const bool folded = tools_.base.head().round >= head.round;
  if (!object.data.empty() || folded) {
    if (!folded && sha256(object.data) != object.hash) {
      complain(
          protocol::breach("a round's result came", "its bytes are those that its hash names"));
      return;
    }
    auto bytes = std::make_shared<Bytes>(std::move(object.data));
    tools_.base.when_free([this, alive = alive_, now = conversation_, bytes, head] {
      if (*alive && now == conversation_) fold(head, *bytes);
    });
    return;
  }
  fetch(std::move(object), [this, head](const std::filesystem::path& path) {
    auto file = tools_.disk.map(path);
    if (!file) {
      end(fail(std::move(file).error()));
      return;
    }
    tools_.base.when_free([this, alive = alive_, now = conversation_, mapped = *file, head] {
      if (*alive && now == conversation_) fold(head, mapped->bytes());
    });
  });
}

void Session::fold(const protocol::Head& head, ByteSpan bytes) {
  if (auto folded = tools_.base.fold(head, bytes); !folded) {
    end(fail(std::move(folded).error()));
    return;
  }
  tools_.observer.followed(head, bytes.size());
  if (history_) {
    walk_history();
    return;
  }
  busy_following_ = false;
  go_on();
}

void Session::handle(protocol::History& m) {
  if (!busy_following_ || history_) {
    complain(protocol::breach("HISTORY came", "it answers CATCH_UP"));
    return;
  }
  history_ = std::move(m);
  std::reverse(history_->rounds.begin(), history_->rounds.end());  // the next one is the last
  if (history_->snapshot.size == 0) {
    walk_history();
    return;
  }
  const protocol::Head head = history_->snapshot_head;
  protocol::Object object = std::move(history_->snapshot);
  history_->snapshot.size = 0;
  fetch(std::move(object), [this, head](const std::filesystem::path& path) {
    tools_.base.when_free([this, alive = alive_, now = conversation_, head, path] {
      if (!*alive || now != conversation_) return;
      if (auto taken = tools_.base.take_snapshot(head, path); !taken) {
        end(fail(std::move(taken).error()));
        return;
      }
      walk_history();
    });
  });
}

void Session::walk_history() {
  while (!history_->rounds.empty() &&
         history_->rounds.back().head.round <= tools_.base.head().round)
    history_->rounds.pop_back();
  if (!history_->rounds.empty()) {
    protocol::HistoryEntry next = std::move(history_->rounds.back());
    history_->rounds.pop_back();
    if (tools_.base.head().round + 1 != next.head.round) {
      complain(protocol::breach(
          fmt::format("the history goes on with round {}", next.head.round),
          fmt::format("this client's model is at round {}", tools_.base.head().round)));
      return;
    }
    follow(next.head, std::move(next.result));
    return;
  }
  const Sha256 state = history_->state;
  history_.reset();
  if (state != Sha256{} && tools_.base.state_hash() != state) {
    end(fail({.code = ErrorCode::kProtocol,
              .what = "the model has state hash " + hex(tools_.base.state_hash()).substr(0, 12) +
                      " after catching up",
              .rule = "the coordinator's is " + hex(state).substr(0, 12),
              .remedy = "run the same version of strata on both sides"}));
    return;
  }
  busy_following_ = false;
  go_on();
}

void Session::finish() {
  tools_.base.settle();
  const Sha256 state = tools_.base.state_hash();
  if (state != finished_->state) {
    end(fail({.code = ErrorCode::kProtocol,
              .what = "the final model has state hash " + hex(state).substr(0, 12),
              .rule = "the coordinator's is " + hex(finished_->state).substr(0, 12),
              .remedy = "run the same version of strata on both sides"}));
    return;
  }
  end(*finished_);
}

void Session::fetch(protocol::Object object,
                    std::function<void(const std::filesystem::path&)> then) {
  const auto path = tools_.outbox.download();
  auto gone = tools_.disk.remove_all(path);
  auto file =
      gone ? tools_.disk.open(path, sys::Durability::kProcess) : fail(std::move(gone).error());
  if (!file) {
    end(fail(std::move(file).error()));
    return;
  }
  fetched_ = true;
  download_ = std::make_unique<Download>();
  download_->object = std::move(object);
  download_->file = std::move(*file);
  download_->then = std::move(then);
  ask_for_more();
}

void Session::ask_for_more() {
  Download& d = *download_;
  while (d.asked < d.object.size &&
         d.asked - d.received < protocol::kAheadChunks * config_.chunk_bytes) {
    const std::uint64_t length = std::min(config_.chunk_bytes, d.object.size - d.asked);
    send(protocol::Fetch{d.object.hash, d.asked, length});
    d.asked += length;
  }
}

void Session::handle(const protocol::Chunk& m) {
  if (!download_ || m.object != download_->object.hash) return;  // of an older one
  Download& d = *download_;
  if (m.offset != d.received || m.data.empty() || m.data.size() > d.asked - d.received) {
    complain(protocol::breach(
        fmt::format("a chunk of {} bytes at {} came", m.data.size(), m.offset),
        fmt::format("{} bytes at {} were asked for", d.asked - d.received, d.received)));
    return;
  }
  if (auto written = d.file->write(m.offset, m.data); !written) {
    end(fail(std::move(written).error()));
    return;
  }
  d.hasher.add(m.data);
  d.received += m.data.size();
  if (d.received < d.object.size) {
    ask_for_more();
    return;
  }
  const auto whole = std::exchange(download_, nullptr);
  whole->file.reset();
  if (whole->hasher.finish() != whole->object.hash) {
    complain(protocol::breach("an object came", "its bytes are those that its hash names"));
    return;
  }
  whole->then(tools_.outbox.download());
}

}  // namespace strata::client
