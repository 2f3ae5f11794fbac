#pragma once
// What coordinator and client say to each other in a round, as typed values. Transports carry them
// as bytes and know nothing of their meaning.
#include <cstdint>
#include <map>
#include <string>

#include "adapter/adapter.h"
#include "adapter/delta_terms.h"
#include "base/hash.h"

namespace strata::protocol {

using ClientId = std::string;  // [a-z0-9][a-z0-9._-]{0,62}

/// A client's contribution to a round.
struct Update {
  ClientId client;
  std::uint32_t round = 0;
  Sha256 base{};              // chain hash of the model it was trained on
  double weight = 1.0;        // relative; > 0
  adapter::DeltaTerms delta;  // scale folded into B
};

/// How clients start the next round.
enum class Restart {
  kFresh,  // new factors, zero moments
  kKeep,   // factors and moments stay; the folded product is subtracted (LTE without reset)
  kMean,   // the averaged factors of the control methods, on an unchanged base
};

}  // namespace strata::protocol
