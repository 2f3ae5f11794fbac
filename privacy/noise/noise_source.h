#pragma once
// Where the random words of privacy noise come from. Unlike sys/random.h a draw here has no address
// and cannot be made again: SecureNoise has no seed, and what it holds is not to be copied, stored
// or seen twice. SeededTestNoise is for tests: its noise hides nothing, and whoever uses it must
// say so (`is_private`).
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"

namespace strata::noise {

/// Uniform 64-bit words, drawn in blocks: one at a time would cost hundreds of times as much. A
/// word is wiped as it is taken. The block lies in pages that the system empties in the child of a
/// fork and leaves out of core dumps, so that two processes never share a word.
/// Threads: one.
class NoiseSource {
 public:
  NoiseSource(const NoiseSource&) = delete;
  NoiseSource& operator=(const NoiseSource&) = delete;
  virtual ~NoiseSource();

  /// False: whoever knows the seed knows the noise, and nothing made with it is private.
  [[nodiscard]] virtual bool is_private() const = 0;

  [[nodiscard]] std::uint64_t next() {
    if (block_->left == 0) refill_block();
    std::uint64_t& word = block_->words[--block_->left];
    const std::uint64_t out = word;
    word = 0;
    return out;
  }

 protected:
  struct Block {
    static constexpr std::size_t kWords = 8191;
    std::uint64_t left = 0;  // words not taken yet; 0 in a page that was emptied
    std::uint64_t words[kWords] = {};
  };
  static_assert(sizeof(Block) == 64u << 10);

  NoiseSource() = default;
  /// Maps the block's pages; kUnsupported when the system cannot empty them in a child.
  [[nodiscard]] Result<void> prepare();
  /// Fills all of `words`, or ends the process with one line: there is no second best.
  virtual void refill(std::span<std::uint64_t> words) = 0;
  /// The words left in the block are not wanted any more.
  void drop_block();

 private:
  void refill_block();

  Block* block_ = nullptr;
};

/// OpenSSL's private generator, which is seeded by the operating system and reseeds after a fork.
class SecureNoise final : public NoiseSource {
 public:
  /// kIo when the generator gives nothing, kUnsupported as prepare().
  [[nodiscard]] static Result<std::unique_ptr<SecureNoise>> make();
  bool is_private() const override { return true; }

 private:
  SecureNoise() = default;
  void refill(std::span<std::uint64_t> words) override;
};

/// The ChaCha20 key stream (RFC 8439) of a seed and a place.
class SeededTestNoise final : public NoiseSource {
 public:
  [[nodiscard]] static Result<std::unique_ptr<SeededTestNoise>> make(std::uint64_t seed);
  ~SeededTestNoise() override;
  bool is_private() const override { return false; }
  /// Goes to the beginning of the stream (draw, piece) of the seed; a new source is at (0, 0).
  void go_to(std::uint64_t draw, std::uint32_t piece);

 private:
  struct State;
  explicit SeededTestNoise(std::unique_ptr<State> state);
  void refill(std::span<std::uint64_t> words) override;

  std::unique_ptr<State> state_;
};

/// Gives each thread of a team a source of its own.
///   begin -> piece, from any member in any order -> begin -> ...
class NoiseSupply {
 public:
  virtual ~NoiseSupply() = default;
  [[nodiscard]] virtual bool is_private() const = 0;
  /// Members it has sources for.
  [[nodiscard]] virtual int threads() const = 0;
  /// A new vector of noise. From one thread, while no other is drawing.
  virtual void begin() = 0;
  /// The source for piece `index` of the vector, for thread `member` until its next call. Different
  /// members may call side by side.
  [[nodiscard]] virtual NoiseSource& piece(int member, std::uint32_t index) = 0;
};

[[nodiscard]] Result<std::unique_ptr<NoiseSupply>> make_secure_supply(int threads);
/// The noise of a piece depends on the seed, the vector's number and the piece's, not on who draws.
[[nodiscard]] Result<std::unique_ptr<NoiseSupply>> make_seeded_test_supply(std::uint64_t seed,
                                                                           int threads);

}  // namespace strata::noise
