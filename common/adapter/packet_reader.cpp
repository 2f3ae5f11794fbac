#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "adapter/packet.h"
#include "base/checked.h"

namespace strata::adapter {
namespace {

tl::unexpected<Error> refuse(std::string where, std::string what, std::string rule) {
  return fail({.code = ErrorCode::kFormat,
               .what = std::move(what),
               .where = std::move(where),
               .rule = std::move(rule),
               .remedy = "fetch the packet again"});
}

// Takes bytes from the front; every length is compared with what is left before anything is made
// from it.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class Number>
  std::optional<Number> number() {
    if (rest_.size() < sizeof(Number)) return std::nullopt;
    Number value;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return value;
  }

  std::optional<std::string> text(std::size_t length) {
    if (rest_.size() < length) return std::nullopt;
    std::string out(reinterpret_cast<const char*>(rest_.data()), length);
    rest_ = rest_.subspan(length);
    return out;
  }

  std::optional<tensor::Matrix> matrix(std::size_t rows, std::size_t cols) {
    const auto count = checked_mul(rows, cols);
    const auto length = count ? checked_mul(*count, sizeof(float)) : std::nullopt;
    if (!length || rest_.size() < *length) return std::nullopt;
    tensor::Matrix out(rows, cols);
    std::memcpy(out.data(), rest_.data(), *length);
    rest_ = rest_.subspan(*length);
    return out;
  }

  std::size_t left() const { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
};

tl::unexpected<Error> ends_early(const std::string& where) {
  return refuse(where, "ends early", "a packet holds all the bytes its lengths announce");
}

bool finite(const tensor::Matrix& m) {
  return std::all_of(m.values().begin(), m.values().end(),
                     [](float v) { return std::isfinite(v); });
}

Result<Stack> read_stack(Cursor& in, const std::string& where, std::size_t d_out,
                         std::size_t d_in) {
  const auto rank = in.number<std::uint64_t>();
  if (!rank) return ends_early(where);
  if (*rank == 0) return refuse(where, "has rank 0", "a stack has at least one column");
  auto b = in.matrix(d_out, *rank);
  if (!b) return ends_early(where);
  auto a = in.matrix(*rank, d_in);
  if (!a) return ends_early(where);
  if (!finite(*b) || !finite(*a)) return refuse(where, "has NaN or infinity", "factors are finite");
  return Stack{std::move(*b), std::move(*a)};
}

Result<tensor::Matrix> read_whole(Cursor& in, const std::string& where, std::size_t d_out,
                                  std::size_t d_in) {
  auto values = in.matrix(d_out, d_in);
  if (!values) return ends_early(where);
  if (!finite(*values)) return refuse(where, "has NaN or infinity", "changes are finite");
  return std::move(*values);
}

// One tensor behind its name.
Result<PacketTensor> read_tensor(Cursor& in, const std::string& where,
                                 std::pair<std::size_t, std::size_t> shape) {
  const auto kind = in.number<std::uint8_t>();
  const auto d_out = in.number<std::uint64_t>();
  const auto d_in = in.number<std::uint64_t>();
  if (!kind || !d_out || !d_in) return ends_early(where);
  if (*d_out != shape.first || *d_in != shape.second) {
    return refuse(
        where, "is " + std::to_string(*d_out) + " x " + std::to_string(*d_in),
        "the model's is " + std::to_string(shape.first) + " x " + std::to_string(shape.second));
  }
  PacketTensor out{shape.first, shape.second, {}};
  if (*kind == 0) {
    auto stack = read_stack(in, where, out.d_out, out.d_in);
    if (!stack) return fail(std::move(stack).error());
    out.change = std::move(*stack);
  } else if (*kind == 1 || *kind == 2) {
    auto values = read_whole(in, where, out.d_out, out.d_in);
    if (!values) return fail(std::move(values).error());
    if (*kind == 1) {
      out.change = Dense{std::move(*values)};
    } else {
      out.change = StackProduct{std::move(*values)};
    }
  } else {
    return refuse(where, "is of kind " + std::to_string(*kind),
                  "0 is a stack, 1 a dense change, 2 a product");
  }
  return out;
}

}  // namespace

Result<Packet> Packet::parse(std::span<const std::byte> bytes, const TensorShapes& expected) {
  Cursor in(bytes);
  const auto format = in.number<std::uint32_t>();
  const auto count = in.number<std::uint32_t>();
  if (!format || !count) return ends_early("packet");
  if (*format != kPacketFormat) {
    return refuse("packet", "is of format " + std::to_string(*format),
                  "this program reads format " + std::to_string(kPacketFormat));
  }
  Packet out;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const std::string place =
        "packet, tensor " + std::to_string(i + 1) + " of " + std::to_string(*count);
    const auto length = in.number<std::uint32_t>();
    const auto name = length ? in.text(*length) : std::nullopt;
    if (!name) return ends_early(place);
    const std::string where = place + " (" + printable(*name, 120) + ")";
    const auto known = expected.find(*name);
    if (known == expected.end())
      return refuse(where, "is unknown", "packets name tensors of the model");
    if (!out.tensors.empty() && out.tensors.rbegin()->first >= *name) {
      return refuse(where, "is out of order", "names ascend, each once");
    }
    auto tensor = read_tensor(in, where, known->second);
    if (!tensor) return fail(std::move(tensor).error());
    out.tensors.emplace_hint(out.tensors.end(), *name, std::move(*tensor));
  }
  if (in.left() != 0) {
    return refuse("packet", "has " + std::to_string(in.left()) + " bytes behind its last tensor",
                  "a packet ends with it");
  }
  return out;
}

}  // namespace strata::adapter
