// How a mesh shares out its merging: every tensor has one owner, and the fewer bytes are chosen.
#include "cli/mesh_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/golden_model.h"
#include "model/fold.h"

namespace strata::cli {
namespace {

using coordinator::golden_model;
using coordinator::PlannedUpdate;

class MeshExchange : public testing::Test {
 protected:
  // Clients that tell of every parameter densely, or of one tensor by factors.
  std::vector<PlannedUpdate> dense(std::size_t clients) const {
    std::vector<PlannedUpdate> out(clients);
    for (auto& client : out) {
      for (const auto& p : model_.parameters()) client.ranks.emplace(p.name(), 0);
    }
    return out;
  }
  static std::vector<PlannedUpdate> factors(std::size_t clients, std::size_t rank) {
    std::vector<PlannedUpdate> out(clients);
    for (auto& client : out) client.ranks.emplace(coordinator::kTensor, rank);
    return out;
  }
  static Job job(const std::string& encoding = "f32") {
    Job out;
    out.aggregation.encoding = encoding;
    out.aggregation.restart = "fresh";
    out.aggregation.topology = "mesh";
    return out;
  }

  model::Model model_ = golden_model();
};

TEST_F(MeshExchange, DealsTensorsOutEvenly) {
  const auto planned = dense(2);
  const Shards shards(planned, model_, 3);
  std::vector<std::size_t> load(3, 0);
  std::size_t largest = 0;
  for (const auto& p : model_.parameters()) {
    ASSERT_LT(shards.owner(p.name()), 3U);
    EXPECT_EQ(shards.owner(p.name()), Shards(planned, model_, 3).owner(p.name()));
    load[shards.owner(p.name())] += p.size();
    largest = std::max(largest, p.size());
  }
  const auto [least, most] = std::minmax_element(load.begin(), load.end());
  EXPECT_LE(*most - *least, largest);
}

TEST_F(MeshExchange, CountsWhatAMemberGets) {
  const double values = static_cast<double>(model_.parameter_count());
  // Three members with a client each: 2 others' values, or a third of them and 2/3 of the mean.
  const auto gradients = exchange_bytes(job(), dense(3), model_, 3);
  EXPECT_DOUBLE_EQ(gradients.gather, 4 * values * 2);
  EXPECT_NEAR(gradients.scatter, 4 * values * 2 / 3 + 4 * values * 2 / 3, 1e-6 * values);
  const auto& p = model_.parameters()[model_.find(coordinator::kTensor)];
  const auto side = static_cast<double>(p.d_out() + p.d_in());
  // Factors of rank 2 in bf16; what they come to is 6 ranks of floats.
  const auto low = exchange_bytes(job("bf16"), factors(3, 2), model_, 3);
  EXPECT_DOUBLE_EQ(low.gather, 2 * 2 * side * 2);
  EXPECT_NEAR(low.scatter, 2 * 2 * side * 2 / 3 + 4 * 6 * side * 2 / 3, 1e-6 * side);
  // Kept factors take back what was told.
  auto keep = factors(3, 2);
  for (auto& client : keep) client.terms = 2;
  EXPECT_DOUBLE_EQ(exchange_bytes(job("bf16"), keep, model_, 3).gather, 2 * low.gather);
  // More ranks than the tensor has: what they come to are its values.
  const auto wide = exchange_bytes(job("bf16"), factors(3, p.size()), model_, 3);
  EXPECT_NEAR(wide.scatter - wide.gather / 3, 4 * static_cast<double>(p.size()) * 2 / 3,
              1e-6 * side);
}

TEST_F(MeshExchange, TakesTheFewerBytes) {
  EXPECT_FALSE(scatters(job(), dense(2), model_, 1)) << "there is nobody else";
  EXPECT_FALSE(scatters(job(), dense(2), model_, 2)) << "it would be as many";
  EXPECT_TRUE(scatters(job(), dense(3), model_, 3));
  EXPECT_FALSE(scatters(job(), factors(3, 2), model_, 3));
  Job other = job();
  other.aggregation.exchange = "gather";
  EXPECT_FALSE(scatters(other, dense(3), model_, 3));
  other.aggregation.exchange = "scatter";
  EXPECT_TRUE(scatters(other, factors(3, 2), model_, 3));
  other = job();
  other.aggregation.method = "fedavg";
  EXPECT_FALSE(scatters(other, dense(3), model_, 3));
  for (const int what : {0, 1, 2}) {
    other = job();
    other.aggregation.diagnostics = what == 0;
    other.output.keep_updates = what == 1;
    other.aggregation.max_update_norm = what == 2 ? 5.0 : 0.0;
    EXPECT_FALSE(scatters(other, dense(3), model_, 3)) << "it needs whole updates: " << what;
  }
  other = job();
  other.aggregation.overlap = true;
  EXPECT_TRUE(scatters(other, dense(3), model_, 3)) << "merged parts travel as well as updates";
}

TEST_F(MeshExchange, PartsMakeTheWholeAndNobodyMergesAnothersTensor) {
  const Shards shards(dense(2), model_, 2);
  adapter::Packet whole;
  float value = 1.0F;
  for (const auto& p : model_.parameters()) {
    tensor::Matrix change(p.d_out(), p.d_in());
    for (float& v : change.values()) v = value;
    value += 1.0F;
    whole.tensors[p.name()] = {p.d_out(), p.d_in(), adapter::Dense{std::move(change)}};
  }
  adapter::Packet first = whole, second = whole;
  keep_own(first, shards, 0);
  keep_own(second, shards, 1);
  ASSERT_FALSE(first.empty());
  ASSERT_FALSE(second.empty());
  EXPECT_EQ(first.tensors.size() + second.tensors.size(), whole.tensors.size());
  const auto shapes = model::tensor_shapes(model_);
  adapter::Packet joined = first;
  ASSERT_TRUE(add_part(joined, second.bytes(), shards, 1, shapes));
  EXPECT_EQ(joined.hash(), whole.hash());
  const auto foreign = add_part(first, whole.bytes(), shards, 1, shapes);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().code, ErrorCode::kFormat);
  EXPECT_THAT(foreign.error().line(), testing::HasSubstr("rank 0 merges it"));
  const auto broken = add_part(first, ByteSpan(second.bytes()).first(9), shards, 1, shapes);
  EXPECT_FALSE(broken);
}

}  // namespace
}  // namespace strata::cli
