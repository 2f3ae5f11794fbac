// Where noise comes from: never the same words twice, nothing weaker when the generator fails.
#include "privacy/noise/noise_source.h"

#include <gtest/gtest.h>
#include <openssl/rand.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "privacy/noise/discrete_gaussian.h"

namespace strata::noise {
namespace {

std::vector<std::uint64_t> words(NoiseSource& source, std::size_t n) {
  std::vector<std::uint64_t> out(n);
  for (auto& word : out) word = source.next();
  return out;
}

TEST(SecureNoise, ProcessesNeverShareAWord) {
  const auto source = SecureNoise::make().value();
  (void)source->next();                  // a block is there, and has words left
  constexpr std::size_t kWords = 12000;  // more than a block
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto own = words(*source, kWords);
    const char* bytes = reinterpret_cast<const char*>(own.data());
    for (std::size_t at = 0; at < kWords * 8;) {
      const ssize_t n = ::write(ends[1], bytes + at, kWords * 8 - at);
      if (n <= 0) ::_exit(1);
      at += static_cast<std::size_t>(n);
    }
    ::_exit(0);
  }
  const auto ours = words(*source, kWords);
  std::vector<std::uint64_t> theirs(kWords);
  ::close(ends[1]);
  char* bytes = reinterpret_cast<char*>(theirs.data());
  for (std::size_t at = 0; at < kWords * 8;) {
    const ssize_t n = ::read(ends[0], bytes + at, kWords * 8 - at);
    ASSERT_GT(n, 0);
    at += static_cast<std::size_t>(n);
  }
  ::close(ends[0]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  // 24000 words of 64 bits: two are equal by chance with probability 2e-11.
  std::set<std::uint64_t> all(ours.begin(), ours.end());
  all.insert(theirs.begin(), theirs.end());
  EXPECT_EQ(all.size(), 2 * kWords);
}

TEST(SecureNoise, SourcesAndThreadsHaveWordsOfTheirOwn) {
  const auto supply = make_secure_supply(3).value();
  EXPECT_TRUE(supply->is_private());
  EXPECT_EQ(supply->threads(), 3);
  supply->begin();
  std::set<std::uint64_t> all;
  for (int member = 0; member < 3; ++member)
    for (const auto word : words(supply->piece(member, 0), 10000)) all.insert(word);
  EXPECT_EQ(all.size(), 30000u);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
int fails(unsigned char*, int) { return 0; }
int is_up() { return 1; }

TEST(SecureNoiseDeath, AGeneratorThatGivesNothingEndsInsteadOfGivingZeros) {
  const RAND_METHOD broken{nullptr, fails, nullptr, nullptr, fails, is_up};
  const auto source = SecureNoise::make().value();
  EXPECT_DEATH(
      {
        RAND_set_rand_method(&broken);
        (void)source->next();
      },
      "random generator gives nothing");
  RAND_set_rand_method(&broken);
  const auto refused = SecureNoise::make();
  RAND_set_rand_method(nullptr);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
}
#pragma GCC diagnostic pop

TEST(SeededTestNoise, SaysThatItIsNotPrivateAndCanBeMadeAgain) {
  const auto a = SeededTestNoise::make(1).value();
  const auto b = SeededTestNoise::make(1).value();
  const auto c = SeededTestNoise::make(2).value();
  EXPECT_FALSE(a->is_private());
  EXPECT_TRUE(SecureNoise::make().value()->is_private());
  const auto first = words(*a, 20000);  // over the edge of a block
  EXPECT_EQ(words(*b, 20000), first);
  EXPECT_NE(words(*c, 20000), first);
  b->go_to(0, 0);
  EXPECT_EQ(words(*b, 20000), first);
}

TEST(SeededTestNoise, PlacesHaveStreamsOfTheirOwn) {
  const auto source = SeededTestNoise::make(1).value();
  std::set<std::uint64_t> all;
  for (std::uint64_t draw = 0; draw < 10; ++draw) {
    for (std::uint32_t piece = 0; piece < 10; ++piece) {
      source->go_to(draw, piece);
      for (const auto word : words(*source, 100)) all.insert(word);
    }
  }
  EXPECT_EQ(all.size(), 10000u);
}

}  // namespace
}  // namespace strata::noise
