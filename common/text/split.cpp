#include "text/split.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

namespace strata::text {

namespace {

constexpr std::uint32_t kDirichletTries = 100;

Error impossible(std::string what, std::string rule, std::string remedy) {
  return {.code = ErrorCode::kData,
          .what = std::move(what),
          .where = {},
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

std::vector<Share> empty_shares(std::span<const std::string> clients) {
  std::vector<Share> out;
  for (const auto& client : clients) out.push_back({client, {}});
  return out;
}

Result<void> check_counts(std::size_t records, std::size_t clients) {
  check(clients > 0, "a split has at least one client");
  if (records >= clients) return {};
  return fail(
      impossible(std::to_string(records) + " records for " + std::to_string(clients) + " clients",
                 "each client gets at least one", "give more data or fewer clients"));
}

struct Group {
  std::string value;
  std::vector<std::size_t> records;
};

// Records by the value of a field, in order of first appearance.
Result<std::vector<Group>> group_by(std::span<const Record> records, std::string_view field) {
  std::vector<Group> out;
  std::map<std::string_view, std::size_t> group_of;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto value = records[i].field(field);
    if (!value) {
      std::string keys;
      for (const auto& [key, ignored] : records[i].fields)
        keys += (keys.empty() ? "" : ", ") + printable(key, 40);
      auto error =
          impossible("there is no field \"" + printable(field, 40) + "\" to split by",
                     "every record has it, as a string, a number or a boolean",
                     keys.empty() ? "the record has no other fields" : "fields here are " + keys);
      error.where = records[i].source;
      return fail(std::move(error));
    }
    const auto [entry, is_new] = group_of.emplace(*value, out.size());
    if (is_new) out.push_back({std::string(*value), {}});
    out[entry->second].records.push_back(i);
  }
  return out;
}

// One draw of proportions. Gammas of a tiny shape can all be zero in double; then one client takes
// everything, which is the limit of the distribution.
std::vector<double> dirichlet(double alpha, std::size_t clients, sys::Stream& stream) {
  std::vector<double> out(clients);
  for (double& value : out) value = stream.gamma(alpha);
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  if (!(sum > 0)) {
    std::ranges::fill(out, 0.0);
    out[stream.below(clients)] = 1.0;
    return out;
  }
  for (double& value : out) value /= sum;
  return out;
}

void deal(std::vector<Share>& shares, const Group& group, double alpha, sys::Stream stream) {
  const auto proportions = dirichlet(alpha, shares.size(), stream);
  const auto order = stream.permutation(group.records.size());
  double cumulative = 0;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < shares.size(); ++k) {
    cumulative += proportions[k];
    const double cut = std::round(cumulative * static_cast<double>(order.size()));
    const std::size_t end = k + 1 == shares.size()
                                ? order.size()
                                : std::clamp(static_cast<std::size_t>(cut), begin, order.size());
    for (; begin < end; ++begin) shares[k].records.push_back(group.records[order[begin]]);
  }
}

void sort_records(std::vector<Share>& shares) {
  for (Share& share : shares) std::ranges::sort(share.records);
}

}  // namespace

std::vector<std::string> client_names(std::size_t count) {
  std::vector<std::string> out;
  const std::size_t width = std::to_string(count).size();
  for (std::size_t k = 1; k <= count; ++k) {
    const std::string number = std::to_string(k);
    out.push_back("client-" + std::string(width - number.size(), '0') + number);
  }
  return out;
}

Result<std::vector<Share>> split_iid(std::size_t records, std::span<const std::string> clients,
                                     sys::Stream stream) {
  if (auto counts = check_counts(records, clients.size()); !counts)
    return fail(std::move(counts).error());
  auto shares = empty_shares(clients);
  const auto order = stream.at({.purpose = "split.iid"}).permutation(records);
  for (std::size_t i = 0; i < records; ++i) shares[i % shares.size()].records.push_back(order[i]);
  sort_records(shares);
  return shares;
}

Result<std::vector<Share>> split_by_field(std::span<const Record> records, std::string_view field) {
  auto groups = group_by(records, field);
  if (!groups) return fail(std::move(groups).error());
  if (groups->size() < 2) {
    return fail(impossible("all records have one value of " + printable(field, 40),
                           "there is one client a value, and more than one",
                           "split by another field, or iid"));
  }
  std::vector<Share> out;
  for (Group& group : *groups) out.push_back({std::move(group.value), std::move(group.records)});
  return out;
}

Result<std::vector<Share>> split_by_field(std::span<const Record> records, std::string_view field,
                                          std::span<const std::string> clients) {
  if (auto counts = check_counts(records.size(), clients.size()); !counts)
    return fail(std::move(counts).error());
  auto groups = group_by(records, field);
  if (!groups) return fail(std::move(groups).error());
  if (groups->size() < clients.size()) {
    return fail(impossible(std::to_string(groups->size()) + " values of " + printable(field, 40) +
                               " for " + std::to_string(clients.size()) + " clients",
                           "each client gets at least one value",
                           "use fewer clients, or a dirichlet split"));
  }
  std::ranges::stable_sort(*groups, std::greater{},
                           [](const Group& group) { return group.records.size(); });
  auto shares = empty_shares(clients);
  for (const Group& group : *groups) {
    const auto lightest = std::ranges::min_element(
        shares, {}, [](const Share& share) { return share.records.size(); });
    lightest->records.insert(lightest->records.end(), group.records.begin(), group.records.end());
  }
  sort_records(shares);
  return shares;
}

Result<std::vector<Share>> split_dirichlet(std::span<const Record> records, std::string_view field,
                                           double alpha, std::span<const std::string> clients,
                                           sys::Stream stream) {
  check(alpha > 0 && std::isfinite(alpha), "a Dirichlet concentration is a positive number");
  if (auto counts = check_counts(records.size(), clients.size()); !counts)
    return fail(std::move(counts).error());
  const auto groups = group_by(records, field);
  if (!groups) return fail(groups.error());
  for (std::uint32_t attempt = 0; attempt < kDirichletTries; ++attempt) {
    auto shares = empty_shares(clients);
    for (std::size_t g = 0; g < groups->size(); ++g) {
      deal(shares, (*groups)[g], alpha,
           stream.at({.step = attempt, .purpose = "split.dirichlet", .item = g}));
    }
    if (std::ranges::any_of(shares, [](const Share& share) { return share.records.empty(); }))
      continue;
    sort_records(shares);
    return shares;
  }
  return fail(impossible("in " + std::to_string(kDirichletTries) + " draws of Dirichlet(" +
                             std::to_string(alpha) + ") over " + std::to_string(groups->size()) +
                             " values of " + printable(field, 40) + ", each left a client of " +
                             std::to_string(clients.size()) + " without a record",
                         "each client gets at least one", "raise alpha, or use fewer clients"));
}

Result<HeldOut> hold_out(std::size_t records, double fraction, sys::Stream stream) {
  check(fraction > 0 && fraction < 1, "a held-out fraction lies between 0 and 1");
  if (records < 2) {
    return fail(impossible(std::to_string(records) + " records to hold some out of",
                           "at least one is trained on and one is held out",
                           "give more data, or a held-out file"));
  }
  const auto wanted =
      static_cast<std::size_t>(std::llround(fraction * static_cast<double>(records)));
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, records - 1);
  auto order = stream.at({.purpose = "split.held_out"}).permutation(records);
  HeldOut out;
  out.held_out.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
  out.train.assign(order.begin() + static_cast<std::ptrdiff_t>(count), order.end());
  std::ranges::sort(out.held_out);
  std::ranges::sort(out.train);
  return out;
}

std::vector<Record> select(std::span<const Record> records, std::span<const std::size_t> numbers) {
  std::vector<Record> out;
  out.reserve(numbers.size());
  for (const std::size_t number : numbers) out.push_back(records[number]);
  return out;
}

}  // namespace strata::text
