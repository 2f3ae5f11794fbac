#pragma once
// A round's packet into a model, and a model's changes out of it: the one way in which coordinator
// and clients come to the same bits. Threads: exclusive use of the model; a team changes no bit.
#include <filesystem>
#include <string>

#include "adapter/packet.h"
#include "model/model.h"
#include "sys/disk.h"

namespace strata::model {

/// Shapes of all tensors, as a packet must have them.
[[nodiscard]] adapter::TensorShapes tensor_shapes(const Model& model);

/// W <- f32(W + change) for every tensor of the packet, which was checked against tensor_shapes().
void fold(Model& model, const adapter::Packet& packet, tensor::Team* team = nullptr);

/// Bytes of the tensors that are not as they lie in the checkpoint.
[[nodiscard]] std::size_t changed_bytes(const Model& model);

/// Those tensors as a safetensors file, F32, in storage order.
[[nodiscard]] Result<void> write_changed(sys::Disk& disk, const std::filesystem::path& path,
                                         const Model& model);
/// Puts the tensors of such a file, open in `file`, in the place of the model's. kFormat naming the
/// tensor when it is unknown, of another shape, or not finite; the model is unchanged then.
[[nodiscard]] Result<void> load_changed(Model& model, const formats::SafetensorsFile& file);

}  // namespace strata::model
