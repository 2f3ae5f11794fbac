#include "formats/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/checked.h"
#include "config/strict_json.h"
#include "formats/broken.h"

namespace strata::formats {
namespace {

using nlohmann::json;

constexpr int kHeaderDepthMax = 8;

Result<std::size_t> whole(const json& value, const std::string& where, std::string_view what) {
  if (!value.is_number_unsigned()) {
    return fail(broken(where, std::string(what) + " is " + printable(value.dump(), 40),
                       "it must be a whole number, not negative"));
  }
  return value.get<std::size_t>();
}

Result<TensorPlace> parse_entry(const std::string& name, const json& value, const std::string& file,
                                std::size_t data_bytes) {
  const std::string where = file + ": tensor " + printable(name, 120);
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    return fail(broken(where, "lacks dtype, shape or data_offsets"));
  }
  TensorPlace out{.name = name};
  const auto type = value["dtype"].is_string()
                        ? tensor::from_safetensors_name(value["dtype"].get<std::string>())
                        : std::nullopt;
  if (!type) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "has dtype " + printable(value["dtype"].dump(), 40),
                 .where = where,
                 .rule = "supported: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL"});
  }
  out.dtype = *type;
  if (!value["shape"].is_array() || value["shape"].size() > 16)
    return fail(broken(where, "shape is not a short list"));
  std::size_t elements = 1;
  for (const auto& side : value["shape"]) {
    auto n = whole(side, where, "a side of the shape");
    if (!n) return fail(std::move(n).error());
    const auto product = checked_mul(elements, *n);
    if (!product)
      return fail(broken(where, "shape " + printable(value["shape"].dump(), 80) + " overflows"));
    elements = *product;
    out.shape.push_back(*n);
  }
  const auto bytes = checked_mul(elements, tensor::size_of(out.dtype));
  const auto& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    return fail(broken(where, "data_offsets is not a pair"));
  auto begin = whole(offsets[0], where, "data_offsets[0]");
  auto end = whole(offsets[1], where, "data_offsets[1]");
  if (!begin) return fail(std::move(begin).error());
  if (!end) return fail(std::move(end).error());
  if (*begin > *end || *end > data_bytes) {
    return fail(broken(where,
                       "data_offsets [" + std::to_string(*begin) + ", " + std::to_string(*end) +
                           "] lie outside the " + std::to_string(data_bytes) + " data bytes",
                       "the file may be truncated"));
  }
  if (!bytes || *end - *begin != *bytes) {
    return fail(
        broken(where, "has " + std::to_string(*end - *begin) + " bytes",
               "shape and dtype need " + (bytes ? std::to_string(*bytes) : "more than memory")));
  }
  out.begin = *begin;
  out.end = *end;
  return out;
}

// Tensors must cover the data without holes or overlaps.
Result<void> check_cover(std::vector<TensorPlace>& entries, const std::string& file,
                         std::size_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const TensorPlace& a, const TensorPlace& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::size_t at = 0;
  for (const auto& entry : entries) {
    if (entry.begin != at) {
      return fail(broken(file + ": tensor " + printable(entry.name, 120),
                         std::string(entry.begin < at ? "overlaps the tensor before it"
                                                      : "leaves a hole before it") +
                             " (starts at byte " + std::to_string(entry.begin) + ", expected " +
                             std::to_string(at) + ")"));
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    return fail(broken(file, std::to_string(data_bytes - at) +
                                 " bytes after the last tensor belong to no tensor"));
  }
  return {};
}

}  // namespace

Result<std::uint64_t> SafetensorsHeader::length(ByteSpan first_eight, std::uint64_t file_bytes,
                                                const std::string& where, std::uint64_t max) {
  const auto announced = ByteReader(first_eight).number<std::uint64_t>();
  if (!announced) {
    return fail(broken(where, "is " + std::to_string(file_bytes) + " bytes long",
                       "a safetensors file starts with an 8-byte length"));
  }
  if (*announced <= file_bytes - sizeof *announced && *announced > max) {
    return fail(broken(
        where, "header length " + std::to_string(*announced) + " is larger than any that is read",
        "at most " + std::to_string(max) + " bytes"));
  }
  if (*announced > file_bytes - sizeof *announced) {
    return fail(broken(where,
                       "header length " + std::to_string(*announced) +
                           " is larger than the file allows (" + std::to_string(file_bytes) +
                           " bytes)",
                       "the file is truncated or no safetensors file"));
  }
  return sizeof *announced + *announced;
}

Result<SafetensorsHeader> SafetensorsHeader::parse(ByteSpan bytes, std::uint64_t file_bytes,
                                                   const std::string& where) {
  const std::string_view text = text_of(bytes.subspan(sizeof(std::uint64_t)));
  if (text.empty() || text.front() != '{')
    return fail(broken(where, "header does not start with '{'"));
  std::string problem;
  const auto json = config::parse_strict(text, kHeaderDepthMax, problem);
  if (!problem.empty()) return fail(broken(where, "header " + problem));
  SafetensorsHeader out;
  out.data_begin = bytes.size();
  const std::uint64_t data_bytes = file_bytes - bytes.size();
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object())
        return fail(broken(where, "__metadata__ is not an object of strings"));
      for (const auto& [key, entry] : value.items()) {
        if (!entry.is_string())
          return fail(broken(where, "__metadata__." + printable(key, 60) + " is not a string"));
        out.metadata.emplace(key, entry.get<std::string>());
      }
      continue;
    }
    auto place = parse_entry(name, value, where, data_bytes);
    if (!place) return fail(std::move(place).error());
    out.tensors.push_back(std::move(*place));
  }
  if (auto covered = check_cover(out.tensors, where, data_bytes); !covered)
    return fail(std::move(covered).error());
  return out;
}

}  // namespace strata::formats
