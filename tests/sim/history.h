#pragma once
// What was seen of a simulated federation from outside, over all lives of all its processes, and
// what must hold of it in the end.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/round_records.h"
#include "model/model.h"
#include "protocol/messages.h"
#include "protocol/update_codec.h"
#include "sim/disk.h"
#include "sim/network.h"
#include "sim/scenario.h"

namespace strata::sim {

struct History {
  std::map<Sha256, protocol::Update> made;                            // fit for use
  std::map<Sha256, Bytes> others;                                     // beside those of that hash
  std::vector<coordinator::RoundCommitted> committed;                 // as announced
  std::vector<std::pair<protocol::ClientId, protocol::Ack>> acks;     // as clients heard them
  std::vector<std::pair<protocol::ClientId, protocol::Head>> models;  // that clients came to
  std::vector<std::string> noticed;                                   // by the coordinator
  std::unique_ptr<model::Model> final_model;
  Sha256 final_state{};
  std::size_t conflicts = 0;  // second updates that were refused
};

/// Told of whatever does not hold.
using Complain = std::function<void(const std::string&)>;

/// Of the coordinator's disk and what everybody saw, once the run is over: promises were kept,
/// rounds follow each other, the model is the base and exactly the listed updates.
void check_history(const Scenario& scenario, History& history, const Disk& coordinator,
                   const Complain& complain);
/// What the coordinator held for one connection stayed below its caps.
void check_held(const Scenario& scenario, const Network::Held& held, const Complain& complain);
/// No file of a machine is temporary, or lies elsewhere than below `place`.
void check_files(const Disk& disk, const std::string& place, const Complain& complain);

}  // namespace strata::sim
