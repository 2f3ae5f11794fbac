#include "privacy/noise/noise_source.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

#include "base/bytes.h"
#include "base/hash.h"

namespace strata::noise {

Result<void> NoiseSource::prepare() {
  void* pages =
      ::mmap(nullptr, sizeof(Block), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    return fail({.code = ErrorCode::kIo,
                 .what = "no memory for random words: " + std::generic_category().message(errno)});
  }
  block_ = new (pages) Block;
  if (::madvise(pages, sizeof(Block), MADV_WIPEONFORK) != 0) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "this system cannot empty memory in the child of a fork",
                 .rule = "two processes never share noise",
                 .remedy = "use Linux 4.14 or newer"});
  }
  // What a crash leaves behind is better without; the noise does not depend on it.
  (void)::madvise(pages, sizeof(Block), MADV_DONTDUMP);
  return {};
}

NoiseSource::~NoiseSource() {
  if (block_ == nullptr) return;
  OPENSSL_cleanse(block_, sizeof(Block));
  ::munmap(block_, sizeof(Block));
}

void NoiseSource::refill_block() {
  refill(block_->words);
  block_->left = Block::kWords;
}

void NoiseSource::drop_block() {
  OPENSSL_cleanse(block_, sizeof(Block));
  block_->left = 0;
}

namespace {

bool fill_privately(std::span<std::uint64_t> words) {
  return RAND_priv_bytes(reinterpret_cast<unsigned char*>(words.data()),
                         static_cast<int>(words.size_bytes())) == 1;
}

}  // namespace

Result<std::unique_ptr<SecureNoise>> SecureNoise::make() {
  std::unique_ptr<SecureNoise> out(new SecureNoise);
  if (auto ready = out->prepare(); !ready) return fail(std::move(ready).error());
  std::array<std::uint64_t, 4> probe{};
  const bool works = fill_privately(probe);
  OPENSSL_cleanse(probe.data(), sizeof probe);
  if (!works) {
    return fail({.code = ErrorCode::kIo,
                 .what = "OpenSSL's private random generator gives nothing",
                 .rule = "private noise has no other source",
                 .remedy = "check the machine's OpenSSL configuration"});
  }
  return out;
}

void SecureNoise::refill(std::span<std::uint64_t> words) {
  check(fill_privately(words), "OpenSSL's private random generator gives nothing");
}

struct SeededTestNoise::State {
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  Sha256 key{};
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_CIPHER_CTX_free(context); }
};

SeededTestNoise::SeededTestNoise(std::unique_ptr<State> state) : state_(std::move(state)) {}
SeededTestNoise::~SeededTestNoise() = default;

Result<std::unique_ptr<SeededTestNoise>> SeededTestNoise::make(std::uint64_t seed) {
  auto state = std::make_unique<State>();
  ByteWriter text;
  text.raw(bytes_of("strata seeded test noise"));
  text.number(seed);
  state->key = sha256(std::move(text).take());
  std::unique_ptr<SeededTestNoise> out(new SeededTestNoise(std::move(state)));
  if (auto ready = out->prepare(); !ready) return fail(std::move(ready).error());
  out->go_to(0, 0);
  return out;
}

void SeededTestNoise::go_to(std::uint64_t draw, std::uint32_t piece) {
  // The counter, then the nonce: what RFC 8439 calls them, 4 and 12 bytes.
  std::array<unsigned char, 16> start{};
  std::memcpy(start.data() + 4, &draw, sizeof draw);
  std::memcpy(start.data() + 12, &piece, sizeof piece);
  check(state_->context != nullptr &&
            EVP_EncryptInit_ex(state_->context, EVP_chacha20(), nullptr,
                               reinterpret_cast<const unsigned char*>(state_->key.data()),
                               start.data()) == 1,
        "ChaCha20 is not available");
  drop_block();
}

void SeededTestNoise::refill(std::span<std::uint64_t> words) {
  std::memset(words.data(), 0, words.size_bytes());
  auto* bytes = reinterpret_cast<unsigned char*>(words.data());
  int written = 0;
  check(EVP_EncryptUpdate(state_->context, bytes, &written, bytes,
                          static_cast<int>(words.size_bytes())) == 1 &&
            static_cast<std::size_t>(written) == words.size_bytes(),
        "ChaCha20 gives its key stream");
}

namespace {

class SecureSupply final : public NoiseSupply {
 public:
  explicit SecureSupply(std::vector<std::unique_ptr<SecureNoise>> sources)
      : sources_(std::move(sources)) {}
  bool is_private() const override { return true; }
  int threads() const override { return static_cast<int>(sources_.size()); }
  void begin() override {}
  NoiseSource& piece(int member, std::uint32_t) override {
    return *sources_.at(static_cast<std::size_t>(member));
  }

 private:
  std::vector<std::unique_ptr<SecureNoise>> sources_;
};

class SeededTestSupply final : public NoiseSupply {
 public:
  explicit SeededTestSupply(std::vector<std::unique_ptr<SeededTestNoise>> sources)
      : sources_(std::move(sources)) {}
  bool is_private() const override { return false; }
  int threads() const override { return static_cast<int>(sources_.size()); }
  void begin() override { ++draw_; }
  NoiseSource& piece(int member, std::uint32_t index) override {
    SeededTestNoise& source = *sources_.at(static_cast<std::size_t>(member));
    source.go_to(draw_, index);
    return source;
  }

 private:
  std::vector<std::unique_ptr<SeededTestNoise>> sources_;
  std::uint64_t draw_ = 0;
};

// `threads` sources, each by make().
template <class Source, class Make>
Result<std::vector<std::unique_ptr<Source>>> sources(int threads, const Make& make) {
  check(threads >= 1, "a supply of noise has a thread to draw");
  std::vector<std::unique_ptr<Source>> out;
  for (int i = 0; i < threads; ++i) {
    auto source = make();
    if (!source) return fail(std::move(source).error());
    out.push_back(std::move(*source));
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<NoiseSupply>> make_secure_supply(int threads) {
  auto all = sources<SecureNoise>(threads, [] { return SecureNoise::make(); });
  if (!all) return fail(std::move(all).error());
  return std::make_unique<SecureSupply>(std::move(*all));
}

Result<std::unique_ptr<NoiseSupply>> make_seeded_test_supply(std::uint64_t seed, int threads) {
  auto all = sources<SeededTestNoise>(threads, [seed] { return SeededTestNoise::make(seed); });
  if (!all) return fail(std::move(all).error());
  return std::make_unique<SeededTestSupply>(std::move(*all));
}

}  // namespace strata::noise
