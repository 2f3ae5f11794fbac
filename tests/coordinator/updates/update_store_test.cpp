// What a store gives back is what it was given, bit for bit, wherever it keeps it.
#include "coordinator/updates/update_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "support/file_size_limit.h"
#include "support/process.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using protocol::Update;
using support::random_matrix;
using support::random_pair;
using testing::HasSubstr;

// A shared factor, several terms, a dense change and a vector; ranks by `rank`.
Update mixed(const std::string& client, std::size_t rank, unsigned seed) {
  Update out{.client = client, .weight = 1.0 + seed};
  LowRank shared = random_pair(7, 5, rank, seed);
  shared.id_a = 42;
  out.delta["a"] = {7, 5, {shared, random_pair(7, 5, 1, seed + 1)}};
  out.delta["b"] = {3, 4, {Dense{random_matrix(3, 4, seed + 2)}}};
  out.delta["c"] = {9, 1, {Dense{random_matrix(9, 1, seed + 3)}}};
  out.delta["d"] = {6, 8, {random_pair(6, 8, rank + 1, seed + 4)}};
  return out;
}

void expect_equal(const KeptUpdate& kept, const Update& update) {
  EXPECT_EQ(kept.client(), update.client);
  EXPECT_EQ(kept.weight(), update.weight);
  EXPECT_EQ(kept.outline(), outline_of(update.delta));
  for (const auto& [name, delta] : update.delta) {
    const auto read = kept.read(name);
    ASSERT_TRUE(read) << read.error().line();
    EXPECT_EQ((*read)->d_out, delta.d_out);
    EXPECT_EQ((*read)->d_in, delta.d_in);
    ASSERT_EQ((*read)->terms.size(), delta.terms.size());
    for (std::size_t t = 0; t < delta.terms.size(); ++t) {
      if (const auto* pair = std::get_if<LowRank>(&delta.terms[t])) {
        const auto& own = std::get<LowRank>((*read)->terms[t]);
        EXPECT_EQ(own.a, pair->a);
        EXPECT_EQ(own.b, pair->b);
        EXPECT_EQ(own.id_a, pair->id_a);
        EXPECT_EQ(own.id_b, pair->id_b);
      } else {
        EXPECT_EQ(std::get<Dense>((*read)->terms[t]).values,
                  std::get<Dense>(delta.terms[t]).values);
      }
    }
  }
}

class Stores : public testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<UpdateStore> make() {
    return GetParam() ? make_disk_store(*disk_, folder_.path()) : make_memory_store();
  }
  support::ScratchFolder folder_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

TEST_P(Stores, GiveBackWhatTheyWereGiven) {
  const auto store = make();
  std::vector<Update> updates;
  std::vector<SharedUpdate> kept;
  for (unsigned k = 0; k < 5; ++k) {
    updates.push_back(mixed("c" + std::to_string(k), 1 + k % 3, 10 * k));
    kept.push_back(store->put(updates.back()).value());
  }
  for (std::size_t k = updates.size(); k-- > 0;) expect_equal(*kept[k], updates[k]);
}

TEST_P(Stores, TakeAnotherRoundAfterTheyWereCleared) {
  const auto store = make();
  for (unsigned round = 0; round < 3; ++round) {
    const Update one = mixed("one", 2, round), two = mixed("two", 4, round + 50);
    const auto first = store->put(one).value(), second = store->put(two).value();
    expect_equal(*second, two);
    expect_equal(*first, one);
    store->clear();
  }
}

INSTANTIATE_TEST_SUITE_P(UpdateStore, Stores, testing::Bool(),
                         [](const auto& disk) { return disk.param ? "disk" : "memory"; });

TEST(DiskStore, LeavesNoNameInTheFolder) {
  const support::ScratchFolder folder;
  const auto disk = sys::make_posix_disk();
  const auto store = make_disk_store(*disk, folder.path());
  ASSERT_TRUE(store->put(mixed("one", 2, 1)));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(DiskStore, AnUpdateThatTheDiskRefusesLeavesTheOthersWhole) {
  const support::ScratchFolder folder;
  const auto disk = sys::make_posix_disk();
  const auto store = make_disk_store(*disk, folder.path());
  const Update one = mixed("one", 2, 1), two = mixed("two", 4, 9);
  const auto first = store->put(one).value();
  {
    const support::FileSizeLimit limit(512);
    const auto refused = store->put(two);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kIo);
    EXPECT_THAT(refused.error().line(), HasSubstr("two"));
  }
  const auto second = store->put(two).value();
  expect_equal(*first, one);
  expect_equal(*second, two);
}

TEST(DiskStore, NamesTheFolderThatRefuses) {
  const support::ScratchFolder folder;
  const auto disk = sys::make_posix_disk();
  const auto store = make_disk_store(*disk, folder.path() / "gone");
  const auto refused = store->put(mixed("one", 2, 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kFileMissing);
  EXPECT_THAT(refused.error().line(), HasSubstr("gone"));
}

TEST(CheckUpdate, RefusesWhatIsBadInItself) {
  EXPECT_TRUE(check_update(mixed("good", 2, 1)));
  auto update = mixed("bad", 2, 1);
  update.weight = 0.0;
  EXPECT_THAT(check_update(update).error().line(), HasSubstr("weight"));
  update.weight = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(check_update(update));
  update = mixed("bad", 2, 1);
  update.delta.clear();
  EXPECT_THAT(check_update(update).error().line(), HasSubstr("changes nothing"));
  update = mixed("bad", 2, 1);
  std::get<Dense>(update.delta.at("b").terms.front()).values(1, 2) =
      std::numeric_limits<float>::quiet_NaN();
  const auto refused = check_update(update);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
  EXPECT_THAT(refused.error().line(), HasSubstr("bad"));
}

}  // namespace
}  // namespace strata::coordinator
