#pragma once
// An update of some of its tensors: what one member of a mesh needs of another's client when each
// merges a part of the model.
#include <functional>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace strata::protocol {

/// The encoded update `update` without the tensors that are not `wanted` (by the name of the tensor
/// they change), bit for bit as they are; what stands in its metadata of those that stay, stays.
/// kIncompatibleUpdate for what is no safetensors file.
[[nodiscard]] Result<Bytes> part_of(ByteSpan update,
                                    const std::function<bool(std::string_view)>& wanted);

}  // namespace strata::protocol
