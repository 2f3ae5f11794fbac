#include "privacy/ledger/records.h"

#include <algorithm>

namespace strata::ledger {
namespace {

using nlohmann::ordered_json;

Sha256 hash_at(const ordered_json& record, const char* key) {
  const auto out = unhex(record.at(key).get<std::string>());
  if (!out) throw std::invalid_argument(std::string(key) + " is no hash");
  return *out;
}

ordered_json fields_of(const Rows& rows, const std::vector<Sharers>& sharers) {
  return {{"rows", rows.count},
          {"root", hex(rows.root)},
          {"prefixes", hex(rows.file)},
          {"shares", sharers}};
}

// Applies records one by one; throws what is wrong with one.
class Reader {
 public:
  void apply(std::uint64_t sequence, const ordered_json& r) {
    const auto type = r.at("type").get<std::string>();
    if ((sequence == 0) != (type == "created")) throw std::invalid_argument("is out of place");
    if (type == "created") {
      state.key_id = r.at("key").get<std::string>();
    } else if (type == "open") {
      open(r);
    } else if (type == "rows") {
      add_rows(dataset(r), r);
    } else if (type == "reserve") {
      reserve(sequence, r);
    } else if (type == "release") {
      auto& reserved = reserved_by(r);
      if (reserved.update || reserved.abandoned)
        throw std::invalid_argument("releases what is done with");
      reserved.update = hash_at(r, "update");
    } else if (type == "abandon") {
      reserved_by(r).abandoned = true;
    } else if (type == "close") {
      dataset(r).closed = true;
    } else {
      throw std::invalid_argument("is of a kind this program does not know");
    }
  }

  State state;

 private:
  Opened& dataset(const ordered_json& r) {
    const auto found = state.datasets.find(r.at("dataset").get<std::string>());
    if (found == state.datasets.end()) throw std::invalid_argument("is of a data set not opened");
    return found->second;
  }

  void open(const ordered_json& r) {
    Opened out;
    r.at("dataset").get_to(out.terms.id);
    r.at("unit").get_to(out.terms.unit);
    r.at("adjacency").get_to(out.terms.adjacency);
    r.at("epsilon_cap").get_to(out.terms.epsilon_cap);
    r.at("delta").get_to(out.terms.delta);
    const auto [at, fresh] = state.datasets.emplace(out.terms.id, out);
    if (!fresh) throw std::invalid_argument("opens a data set twice");
    add_rows(at->second, r);
  }

  void add_rows(Opened& to, const ordered_json& r) {
    to.rows.push_back(
        {hash_at(r, "root"), r.at("rows").get<std::uint64_t>(), hash_at(r, "prefixes")});
    for (const auto& names : r.at("shares").get<std::vector<Sharers>>()) {
      for (const auto& name : names) {
        if (!state.datasets.contains(name))
          throw std::invalid_argument("shares rows with a data set not opened");
      }
      state.sharers.push_back(names);
    }
  }

  void reserve(std::uint64_t sequence, const ordered_json& r) {
    if (dataset(r).closed) throw std::invalid_argument("charges a closed data set");
    Reserved out;
    out.sequence = sequence;
    r.at("dataset").get_to(out.dataset);
    r.at("run").get_to(out.run);
    r.at("round").get_to(out.round);
    r.at("mechanism").get_to(out.charge.mechanism);
    r.at("q").get_to(out.charge.q);
    r.at("z").get_to(out.charge.z);
    r.at("steps").get_to(out.charge.steps);
    state.reserved.push_back(std::move(out));
  }

  Reserved& reserved_by(const ordered_json& r) {
    const auto sequence = r.at("reserve").get<std::uint64_t>();
    const auto found = std::find_if(state.reserved.begin(), state.reserved.end(),
                                    [&](const auto& x) { return x.sequence == sequence; });
    if (found == state.reserved.end()) throw std::invalid_argument("is about no charge");
    return *found;
  }
};

}  // namespace

std::vector<Sharers> State::sharers_of(const std::string& dataset) const {
  std::vector<Sharers> out{{dataset}};
  for (const auto& set : sharers) {
    if (set.contains(dataset)) out.push_back(set);
  }
  // Largest first; what lies inside one that was kept adds nothing.
  std::stable_sort(out.begin(), out.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::vector<Sharers> kept;
  for (const auto& set : out) {
    const bool inside = std::any_of(kept.begin(), kept.end(), [&](const Sharers& larger) {
      return std::includes(larger.begin(), larger.end(), set.begin(), set.end());
    });
    if (!inside) kept.push_back(set);
  }
  return kept;
}

std::vector<Charge> State::charges(const Sharers& members, const std::string& run) const {
  std::vector<Charge> out;
  for (const auto& r : reserved) {
    if (members.contains(r.dataset) && (run.empty() || r.run == run)) out.push_back(r.charge);
  }
  return out;
}

Result<State> read_records(const Lines& lines, const std::string& where) {
  Reader reader;
  for (std::size_t i = 0; i < lines.all.size(); ++i) {
    const ordered_json& record = lines.all[i].fields;
    if (i == 0 && record.contains("format") && record["format"].is_number_integer() &&
        record["format"].get<std::int64_t>() > kFormat) {
      return fail({.code = ErrorCode::kUnsupported,
                   .what = "is written by format " + record["format"].dump(),
                   .where = where,
                   .rule = "this program reads up to format " + std::to_string(kFormat),
                   .remedy = "use the version that wrote it, or a newer one"});
    }
    try {
      reader.apply(i, record);
    } catch (const std::exception& problem) {  // of the library, and Reader's own
      return fail(damaged_line(where, i + 1, problem.what()));
    }
  }
  return std::move(reader.state);
}

Record created_record(const std::string& key_id) {
  return Record{{{"type", "created"}, {"format", kFormat}, {"key", key_id}}};
}

Record open_record(const Dataset& dataset, const Rows& rows, const std::vector<Sharers>& sharers) {
  ordered_json out{{"type", "open"},
                   {"dataset", dataset.id},
                   {"unit", dataset.unit},
                   {"adjacency", dataset.adjacency},
                   {"epsilon_cap", dataset.epsilon_cap},
                   {"delta", dataset.delta}};
  out.update(fields_of(rows, sharers));
  return Record{std::move(out)};
}

Record rows_record(const std::string& dataset, const Rows& rows,
                   const std::vector<Sharers>& sharers) {
  ordered_json out{{"type", "rows"}, {"dataset", dataset}};
  out.update(fields_of(rows, sharers));
  return Record{std::move(out)};
}

Record reserve_record(const Reservation& r, double epsilon_after) {
  return Record{{{"type", "reserve"},
                 {"dataset", r.dataset},
                 {"run", r.run},
                 {"round", r.round},
                 {"plan", hex(r.plan)},
                 {"mechanism", r.charge.mechanism},
                 {"q", r.charge.q},
                 {"z", r.charge.z},
                 {"steps", r.charge.steps},
                 {"epsilon_after", epsilon_after}}};
}

Record release_record(const Reserved& reserved, const Sha256& update) {
  return Record{{{"type", "release"},
                 {"reserve", reserved.sequence},
                 {"round", reserved.round},
                 {"update", hex(update)}}};
}

Record abandon_record(const Reserved& reserved) {
  return Record{{{"type", "abandon"}, {"reserve", reserved.sequence}, {"round", reserved.round}}};
}

Record close_record(const std::string& dataset) {
  return Record{{{"type", "close"}, {"dataset", dataset}}};
}

}  // namespace strata::ledger
