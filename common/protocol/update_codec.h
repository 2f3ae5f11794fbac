#pragma once
// A client's update as bytes: a safetensors file (docs/formats/update.md), so that anything that
// reads those can look at what left a site. The coordinator reads it a tensor at a time from
// wherever it lies; its header is checked in full before that.
//   <tensor>:<i>.B  d_out x r,  <tensor>:<i>.A  r x d_in     term i, low-rank
//   <tensor>:<i>.B  d_out x r                                the same whose A the receiver draws
//   <tensor>:<i>.dense  d_out x d_in                         term i, dense
//   <any of these>.scale  rows                               int8 only, F32
// Values are F32, BF16 (nearest), or I8 with one scale a row: x = scale q, scale = max|row| / 127.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/seeded_factors.h"
#include "protocol/messages.h"
#include "tensor/dtype.h"

namespace strata::protocol {

/// How the values of an update travel.
enum class Encoding : std::uint8_t { kF32, kBF16, kInt8 };

inline constexpr std::string_view kEncodingNames[] = {"f32", "bf16", "int8"};
[[nodiscard]] Encoding encoding_of(std::string_view name);  // of kEncodingNames

struct EncodedUpdate {
  Bytes bytes;
  /// || decoded - update ||_2 / || update ||_2 over all factors; 0 for f32.
  double relative_error = 0.0;
};

/// What encodings have not told yet of one tensor's change: of its dense values, or of B over a
/// lasting A.
struct Lost {
  std::uint64_t lasting_a = 0;
  tensor::Matrix values;
};
using Untold = std::map<std::string, Lost, std::less<>>;

/// The client's name is not part of it: who sends it is the transport's knowledge. Values are
/// finite. With `untold`, dense changes, and B of a tensor's one term whose A lasts, are sent
/// with error feedback (Seide et al. 2014; Karimireddy et al. 2019): what was lost in rounds before
/// is added before encoding,
///   sent_t = Q(change_t + e_t),  e_{t+1} = change_t + e_t - sent_t,
/// so that nothing is lost but the last e of a client whose updates are all used with one weight;
/// others come near that. An e over another A is forgotten, and so is one that is no number. A
/// itself is Q(A) to all others, in every round alike. Terms over an A that is trained are sent as
/// they are: kept factors take back what was told of them before, by the same Q, and others stand
/// for themselves.
[[nodiscard]] EncodedUpdate encode(const Update& update, Encoding encoding,
                                   Untold* untold = nullptr);

/// Where one matrix of an update lies.
struct MatrixPlace {
  std::size_t rows = 0;
  std::size_t cols = 0;
  tensor::DType dtype = tensor::DType::kF32;
  std::uint64_t at = 0;     // from the beginning of the update
  std::uint64_t scale = 0;  // of the row scales; int8 only
  friend bool operator==(const MatrixPlace&, const MatrixPlace&) = default;
};

struct TermPlace {
  MatrixPlace first;   // B, or the dense values
  MatrixPlace second;  // A
  bool dense = false;
  bool seeded = false;  // A is not in the update: second has its shape only
  std::uint64_t id_a = 0, id_b = 0;
  friend bool operator==(const TermPlace&, const TermPlace&) = default;
};

struct TensorPlaces {
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  std::vector<TermPlace> terms;
  /// Of all terms alike.
  [[nodiscard]] bool seeded() const { return !terms.empty() && terms.front().seeded; }
  friend bool operator==(const TensorPlaces&, const TensorPlaces&) = default;
};

/// By tensor. Updates of clients of the same ranks have the same.
using UpdateLayout = std::map<std::string, TensorPlaces, std::less<>>;

/// What an update is, known from its header alone.
struct UpdateHeader {
  std::uint32_t round = 0;
  Sha256 base{};
  double weight = 0.0;
  std::string encoding;
  UpdateLayout layout;

  /// From the header (of formats::SafetensorsHeader::length()) of an update of `size` bytes.
  /// kIncompatibleUpdate naming tensor and rule for anything but an update as encode() writes it.
  [[nodiscard]] static Result<UpdateHeader> parse(ByteSpan header, std::uint64_t size,
                                                  const std::string& where);
};

/// Fills the span with the update's bytes from the offset on.
using ReadAt = std::function<Result<void>(std::uint64_t, std::span<std::byte>)>;

/// One tensor's change, decoded; not checked for values that are not finite. What the update does
/// not carry is drawn from `seeded`; that it names the same and that d_in is the tensor's was
/// checked before.
[[nodiscard]] Result<adapter::TensorDelta> read_tensor(const std::string& name,
                                                       const TensorPlaces& tensor,
                                                       const ReadAt& read,
                                                       const adapter::SeededFactors& seeded);

/// No update whose layout has these shapes takes more bytes (`ranks`: by tensor and term, 0 dense).
struct TensorOutline {
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  std::vector<std::size_t> ranks;  // by term; 0: dense
  bool seeded = false;             // its factors A are drawn, not sent
  friend bool operator==(const TensorOutline&, const TensorOutline&) = default;
};
using Outline = std::map<std::string, TensorOutline, std::less<>>;

[[nodiscard]] std::uint64_t bytes_max(const Outline& outline, Encoding encoding);
[[nodiscard]] Outline outline_of(const UpdateLayout& layout);

}  // namespace strata::protocol
