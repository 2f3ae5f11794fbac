#include "protocol/update_part.h"

#include "formats/safetensors.h"
#include "formats/safetensors_header.h"

namespace strata::protocol {
namespace {

// "model.norm.weight:0.dense" is of "model.norm.weight" (protocol/update_codec.h).
std::string_view changed_tensor(std::string_view name) { return name.substr(0, name.rfind(':')); }

}  // namespace

Result<Bytes> part_of(ByteSpan update, const std::function<bool(std::string_view)>& wanted) {
  using formats::SafetensorsHeader;
  const std::string where = "an update";
  const auto header = [&]() -> Result<SafetensorsHeader> {
    auto length = SafetensorsHeader::length(update.first(std::min<std::size_t>(8, update.size())),
                                            update.size(), where);
    if (!length) return fail(std::move(length).error());
    return SafetensorsHeader::parse(update.first(*length), update.size(), where);
  }();
  if (!header) {
    Error error = header.error();
    error.code = ErrorCode::kIncompatibleUpdate;
    return fail(std::move(error));
  }
  std::vector<formats::TensorToWrite> tensors;
  for (const auto& tensor : header->tensors) {
    if (!wanted(changed_tensor(tensor.name))) continue;
    tensors.push_back(
        {.name = tensor.name,
         .dtype = tensor.dtype,
         .shape = tensor.shape,
         .bytes = update.subspan(header->data_begin + tensor.begin, tensor.end - tensor.begin)});
  }
  auto metadata = header->metadata;
  std::erase_if(metadata, [&](const auto& entry) {  // "id:" and "columns:" are of single tensors
    const std::string_view key = entry.first;
    const std::size_t kind = key.find(':');
    return kind != std::string_view::npos && !wanted(changed_tensor(key.substr(kind + 1)));
  });
  return formats::safetensors_bytes(tensors, metadata);
}

}  // namespace strata::protocol
