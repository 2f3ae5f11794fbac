#include "protocol/update_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "formats/safetensors.h"
#include "formats/safetensors_header.h"

namespace strata::protocol {
namespace {

using adapter::Dense;
using adapter::LowRank;
using formats::TensorPlace;
using formats::TensorToWrite;
using tensor::DType;
using tensor::Matrix;

constexpr std::uint64_t kColumnsMax = std::uint64_t{1} << 31;
constexpr std::string_view kFormat = "strata-update-1";

template <class T>
ByteSpan raw(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

// Converts matrices for the wire and keeps what it made until the bytes are put together.
class Encoder {
 public:
  explicit Encoder(Encoding encoding) : encoding_(encoding) {}

  /// `lost`: takes what is lost of each value.
  void add(const std::string& name, const Matrix& m, Matrix* lost = nullptr) {
    lost_ = lost == nullptr ? nullptr : lost->data();
    switch (encoding_) {
      case Encoding::kF32:
        tensors_.push_back({name, DType::kF32, {m.rows(), m.cols()}, std::as_bytes(m.values())});
        return;
      case Encoding::kBF16:
        add_bf16(name, m);
        return;
      case Encoding::kInt8:
        add_int8(name, m);
        return;
    }
  }

  std::span<const TensorToWrite> tensors() const { return tensors_; }
  double relative_error() const { return norm_ > 0.0 ? std::sqrt(error_ / norm_) : 0.0; }

 private:
  void count(float value, float decoded) {
    const double difference = static_cast<double>(decoded) - static_cast<double>(value);
    error_ += difference * difference;
    norm_ += static_cast<double>(value) * static_cast<double>(value);
    if (lost_ != nullptr)
      *lost_++ = std::isfinite(difference) ? static_cast<float>(-difference) : 0;
  }

  void add_bf16(const std::string& name, const Matrix& m) {
    auto& half = halves_.emplace_back();
    half.reserve(m.size());
    for (const float value : m.values()) {
      const auto rounded = tensor::BFloat16::from(value);
      half.push_back(rounded.bits);
      count(value, rounded.to_float());
    }
    tensors_.push_back({name, DType::kBF16, {m.rows(), m.cols()}, raw(half)});
  }

  void add_int8(const std::string& name, const Matrix& m) {
    auto& bytes = integers_.emplace_back(m.size());
    auto& scales = scales_.emplace_back(m.rows());
    for (std::size_t i = 0; i < m.rows(); ++i) {
      const auto row = m.values().subspan(i * m.cols(), m.cols());
      float largest = 0.0f;
      bool finite = true;
      for (const float value : row) {
        largest = std::max(largest, std::abs(value));
        finite = finite && std::isfinite(value);
      }
      // A value that is not finite has no integer: the row's scale says so, and is refused for it.
      scales[i] = finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
      for (std::size_t j = 0; j < row.size(); ++j) {
        const float q = scales[i] > 0.0f ? std::nearbyint(row[j] / scales[i]) : 0.0f;
        bytes[i * m.cols() + j] = static_cast<std::int8_t>(std::clamp(q, -127.0f, 127.0f));
        count(row[j], scales[i] * static_cast<float>(bytes[i * m.cols() + j]));
      }
    }
    tensors_.push_back({name, DType::kI8, {m.rows(), m.cols()}, raw(bytes)});
    tensors_.push_back({name + ".scale", DType::kF32, {m.rows()}, raw(scales)});
  }

  Encoding encoding_;
  float* lost_ = nullptr;  // where the next value's loss goes
  std::vector<TensorToWrite> tensors_;
  // Moving a vector keeps the place of its values.
  std::vector<std::vector<std::uint16_t>> halves_;
  std::vector<std::vector<std::int8_t>> integers_;
  std::vector<std::vector<float>> scales_;
  double error_ = 0.0;
  double norm_ = 0.0;
};

Matrix sum(const Matrix& a, const Matrix& b) {
  Matrix out(a.rows(), a.cols());
  std::transform(a.data(), a.data() + a.size(), b.data(), out.data(), std::plus<>());
  return out;
}

// Of one length for every value: equal shapes give equal headers.
std::string fixed_hex(std::uint64_t value) { return fmt::format("{:016x}", value); }

std::optional<std::uint64_t> from_hex(std::string_view text) {
  std::uint64_t out = 0;
  if (text.size() != 16) return std::nullopt;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return std::nullopt;
    out = out * 16 + static_cast<std::uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return out;
}

std::optional<Sha256> hash_from_hex(std::string_view text) {
  if (text.size() != 64) return std::nullopt;
  Sha256 out{};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto word = from_hex(text.substr(16 * i, 16));
    if (!word) return std::nullopt;
    for (std::size_t j = 0; j < 8; ++j) out[8 * i + j] = std::byte((*word >> (56 - 8 * j)) & 0xff);
  }
  return out;
}

tl::unexpected<Error> refuse(const std::string& where, std::string what, std::string rule) {
  return fail({.code = ErrorCode::kIncompatibleUpdate,
               .what = std::move(what),
               .where = where,
               .rule = std::move(rule)});
}

// "<tensor>:<i>.<part>", part one of B, A, dense.
struct PartName {
  std::string_view tensor;
  std::size_t term = 0;
  std::string_view part;
};

std::optional<PartName> part_of(std::string_view name) {
  const auto colon = name.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  PartName out{.tensor = name.substr(0, colon)};
  std::string_view rest = name.substr(colon + 1);
  const auto dot = rest.find('.');
  if (dot == 0 || dot > 3 || dot == std::string_view::npos) return std::nullopt;
  for (const char c : rest.substr(0, dot)) {
    if (c < '0' || c > '9') return std::nullopt;
    out.term = out.term * 10 + static_cast<std::size_t>(c - '0');
  }
  out.part = rest.substr(dot + 1);
  return out;
}

// The parts of one update by name, taken out one after the other; what is left belongs to nothing.
class Parts {
 public:
  Parts(const formats::SafetensorsHeader& header, std::string where)
      : data_begin_(header.data_begin), where_(std::move(where)) {
    for (const auto& place : header.tensors) places_.emplace(place.name, &place);
  }

  bool has(const std::string& name) const { return places_.contains(name); }
  const std::map<std::string, const TensorPlace*, std::less<>>& left() const { return places_; }

  Result<MatrixPlace> take(const std::string& name, DType dtype) {
    const std::string where = where_ + ": " + printable(name, 120);
    const auto found = places_.find(name);
    if (found == places_.end()) return refuse(where, "is missing", "a pair has both factors");
    const TensorPlace& place = *found->second;
    if (place.dtype != dtype || place.shape.size() != 2 || place.shape[0] == 0 ||
        place.shape[1] == 0) {
      return refuse(where,
                    fmt::format("is {} of {} dimensions", tensor::safetensors_name(place.dtype),
                                place.shape.size()),
                    fmt::format("the update's values are {} matrices with rows and columns",
                                tensor::safetensors_name(dtype)));
    }
    MatrixPlace out{place.shape[0], place.shape[1], dtype, data_begin_ + place.begin, 0};
    places_.erase(found);
    if (dtype != DType::kI8) return out;
    const auto scale = places_.find(name + ".scale");
    if (scale == places_.end() || scale->second->dtype != DType::kF32 ||
        scale->second->shape != std::vector<std::size_t>{out.rows}) {
      return refuse(where, "has no fitting scale", "int8 values have one F32 scale a row");
    }
    out.scale = data_begin_ + scale->second->begin;
    places_.erase(scale);
    return out;
  }

 private:
  std::uint64_t data_begin_;
  std::string where_;
  std::map<std::string, const TensorPlace*, std::less<>> places_;
};

std::uint64_t id_in(const std::map<std::string, std::string>& metadata, const std::string& name) {
  const auto found = metadata.find("id:" + name);
  return found == metadata.end() ? 0 : from_hex(found->second).value_or(0);
}

// A term without A, whose metadata says what A the receiver draws: its id and its columns.
Result<MatrixPlace> seeded_place(const TermPlace& term, const std::string& name,
                                 const std::map<std::string, std::string>& metadata,
                                 const std::string& where) {
  const std::uint64_t columns = from_hex(metadata.at("columns:" + name)).value_or(0);
  if (columns == 0 || columns > kColumnsMax || id_in(metadata, name) == 0) {
    return refuse(where + ": " + printable(name, 120), "is not there and not named",
                  "a factor that is drawn has an id and its columns, in 16 hexadecimal digits");
  }
  return MatrixPlace{.rows = term.first.cols, .cols = columns, .dtype = DType::kF32};
}

// Terms of one tensor, from 0 up, as long as there are any.
Result<TensorPlaces> take_tensor(Parts& parts, const std::string& tensor, DType dtype,
                                 const std::map<std::string, std::string>& metadata,
                                 const std::string& where) {
  TensorPlaces out;
  while (true) {
    const std::string stem = fmt::format("{}:{}.", tensor, out.terms.size());
    TermPlace term;
    term.dense = parts.has(stem + "dense");
    if (!term.dense && !parts.has(stem + "B") && !parts.has(stem + "A")) break;
    auto first = parts.take(stem + (term.dense ? "dense" : "B"), dtype);
    if (!first) return fail(std::move(first).error());
    term.first = *first;
    if (!term.dense) {
      term.seeded = metadata.contains("columns:" + stem + "A");
      if (term.seeded && parts.has(stem + "A")) {
        return refuse(where + ": " + printable(stem + "A", 120), "is there although it is drawn",
                      "an update carries A, or names what it is drawn from");
      }
      auto second = term.seeded ? seeded_place(term, stem + "A", metadata, where)
                                : parts.take(stem + "A", dtype);
      if (!second) return fail(std::move(second).error());
      term.second = *second;
      term.id_b = id_in(metadata, stem + "B");
      term.id_a = id_in(metadata, stem + "A");
    }
    const std::size_t d_in = term.dense ? term.first.cols : term.second.cols;
    if (!term.dense && term.first.cols != term.second.rows) {
      return refuse(where + ": " + printable(tensor, 120),
                    fmt::format("B is {} x {}, A is {} x {}", term.first.rows, term.first.cols,
                                term.second.rows, term.second.cols),
                    "B has as many columns as A has rows");
    }
    if (out.terms.empty()) {
      out.d_out = term.first.rows;
      out.d_in = d_in;
    } else if (out.d_out != term.first.rows || out.d_in != d_in) {
      return refuse(where + ": " + printable(tensor, 120), "has terms of different shapes",
                    "all terms of a tensor are d_out x d_in");
    } else if (out.seeded() != term.seeded) {
      return refuse(where + ": " + printable(tensor, 120), "has terms with A and without",
                    "all terms of a tensor are of one method");
    }
    out.terms.push_back(term);
  }
  return out;
}

Result<void> read_metadata(UpdateHeader& out, const std::map<std::string, std::string>& metadata,
                           const std::string& where) {
  const auto value = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string_view{} : std::string_view(found->second);
  };
  if (value("update") != kFormat) {
    return refuse(where, fmt::format("says it is \"{}\"", printable(value("update"), 40)),
                  fmt::format("an update says \"{}\"", kFormat));
  }
  const auto round = from_hex(value("round"));
  const auto weight = from_hex(value("weight"));
  const auto base = hash_from_hex(value("base"));
  if (!round || *round > 0xffffffffu || !weight || !base)
    return refuse(where, "has broken metadata", "round, weight and base are hexadecimal");
  out.round = static_cast<std::uint32_t>(*round);
  out.weight = std::bit_cast<double>(*weight);
  out.base = *base;
  out.encoding = value("encoding");
  if (std::find(std::begin(kEncodingNames), std::end(kEncodingNames), out.encoding) ==
      std::end(kEncodingNames)) {
    return refuse(where, fmt::format("is encoded as \"{}\"", printable(out.encoding, 40)),
                  "encodings: f32, bf16, int8");
  }
  return {};
}

DType dtype_of(Encoding encoding) {
  switch (encoding) {
    case Encoding::kBF16:
      return DType::kBF16;
    case Encoding::kInt8:
      return DType::kI8;
    case Encoding::kF32:
      break;
  }
  return DType::kF32;
}

Result<Matrix> read_matrix(const MatrixPlace& place, const ReadAt& read) {
  Matrix out(place.rows, place.cols);
  if (place.dtype == DType::kF32) {
    if (auto done = read(place.at, std::as_writable_bytes(out.values())); !done)
      return fail(std::move(done).error());
    return out;
  }
  Bytes bytes(out.size() * tensor::size_of(place.dtype));
  if (auto done = read(place.at, bytes); !done) return fail(std::move(done).error());
  if (place.dtype == DType::kBF16) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      tensor::BFloat16 value;
      std::memcpy(&value.bits, bytes.data() + 2 * i, sizeof value.bits);
      out.data()[i] = value.to_float();
    }
    return out;
  }
  std::vector<float> scales(place.rows);
  if (auto done = read(place.scale, std::as_writable_bytes(std::span(scales))); !done)
    return fail(std::move(done).error());
  for (std::size_t i = 0; i < place.rows; ++i) {
    for (std::size_t j = 0; j < place.cols; ++j) {
      const auto q = static_cast<std::int8_t>(bytes[i * place.cols + j]);
      out(i, j) = scales[i] * static_cast<float>(q);
    }
  }
  return out;
}

}  // namespace

Encoding encoding_of(std::string_view name) {
  const auto* found = std::find(std::begin(kEncodingNames), std::end(kEncodingNames), name);
  check(found != std::end(kEncodingNames), "the name of an encoding was checked before");
  return static_cast<Encoding>(found - std::begin(kEncodingNames));
}

EncodedUpdate encode(const Update& update, Encoding encoding, Untold* untold) {
  Encoder encoder(encoding);
  std::map<std::string, std::string> metadata{
      {"update", std::string(kFormat)},
      {"round", fixed_hex(update.round)},
      {"base", hex(update.base)},
      {"weight", fixed_hex(std::bit_cast<std::uint64_t>(update.weight))},
      {"encoding", std::string(kEncodingNames[static_cast<std::size_t>(encoding)])}};
  const auto add = [&](const std::string& part, const Matrix& values, const std::string& tensor,
                       std::uint64_t lasting_a) {
    if (untold == nullptr || encoding == Encoding::kF32) return encoder.add(part, values);
    Lost& lost = (*untold)[tensor];
    if (lost.lasting_a != lasting_a || lost.values.size() != values.size())
      lost = {lasting_a, Matrix(values.rows(), values.cols())};
    encoder.add(part, sum(values, lost.values), &lost.values);
  };
  for (const auto& [name, delta] : update.delta) {
    for (std::size_t i = 0; i < delta.terms.size(); ++i) {
      const std::string stem = fmt::format("{}:{}.", name, i);
      if (const auto* pair = std::get_if<LowRank>(&delta.terms[i])) {
        if (pair->lasting_a != 0 && delta.terms.size() == 1) {
          add(stem + "B", pair->b, name, pair->lasting_a);
        } else {
          encoder.add(stem + "B", pair->b);
        }
        if (pair->seeded_a) {
          metadata["columns:" + stem + "A"] = fixed_hex(pair->a.cols());
        } else {
          encoder.add(stem + "A", pair->a);
        }
        if (pair->id_b != 0) metadata["id:" + stem + "B"] = fixed_hex(pair->id_b);
        if (pair->id_a != 0) metadata["id:" + stem + "A"] = fixed_hex(pair->id_a);
      } else {
        add(stem + "dense", std::get<Dense>(delta.terms[i]).values, name, 0);
      }
    }
  }
  return {.bytes = formats::safetensors_bytes(encoder.tensors(), metadata),
          .relative_error = encoder.relative_error()};
}

Result<UpdateHeader> UpdateHeader::parse(ByteSpan header, std::uint64_t size,
                                         const std::string& where) {
  auto file = formats::SafetensorsHeader::parse(header, size, where);
  if (!file) {
    Error error = std::move(file).error();
    error.code = ErrorCode::kIncompatibleUpdate;
    error.remedy.clear();
    return fail(std::move(error));
  }
  UpdateHeader out;
  if (auto read = read_metadata(out, file->metadata, where); !read)
    return fail(std::move(read).error());
  const DType dtype = dtype_of(encoding_of(out.encoding));
  Parts parts(*file, where);
  while (!parts.left().empty()) {
    const std::string name = parts.left().begin()->first;
    const auto part = part_of(name);
    if (!part)
      return refuse(where + ": " + printable(name, 120), "is no part of a change",
                    "parts are named <tensor>:<term>.B, .A or .dense");
    const std::string tensor(part->tensor);
    auto places = take_tensor(parts, tensor, dtype, file->metadata, where);
    if (!places) return fail(std::move(places).error());
    if (places->terms.empty() || out.layout.contains(tensor)) {
      return refuse(where + ": " + printable(name, 120), "belongs to no term",
                    "terms count from 0 and have B and A, or are dense");
    }
    out.layout.emplace(tensor, std::move(*places));
  }
  return out;
}

Result<adapter::TensorDelta> read_tensor(const std::string& name, const TensorPlaces& tensor,
                                         const ReadAt& read, const adapter::SeededFactors& seeded) {
  adapter::TensorDelta out{tensor.d_out, tensor.d_in, {}};
  for (const auto& term : tensor.terms) {
    auto first = read_matrix(term.first, read);
    if (!first) return fail(std::move(first).error());
    if (term.dense) {
      out.terms.emplace_back(Dense{std::move(*first)});
      continue;
    }
    auto second = term.seeded ? Result<Matrix>(seeded.a(name, term.second.rows, term.second.cols))
                              : read_matrix(term.second, read);
    if (!second) return fail(std::move(second).error());
    out.terms.emplace_back(LowRank{.b = std::move(*first),
                                   .a = std::move(*second),
                                   .id_a = term.id_a,
                                   .id_b = term.id_b,
                                   .seeded_a = term.seeded});
  }
  return out;
}

std::uint64_t bytes_max(const Outline& outline, Encoding encoding) {
  // Names, types, shapes and offsets of a tensor's parts in JSON, generously.
  constexpr std::uint64_t kEntryBytes = 256;
  std::uint64_t out = 4096;
  const std::uint64_t width = tensor::size_of(dtype_of(encoding));
  for (const auto& [name, shape] : outline) {
    for (const std::size_t rank : shape.ranks) {
      const std::uint64_t factors = shape.d_out + (shape.seeded ? 0 : shape.d_in);
      const std::uint64_t values = rank == 0 ? shape.d_out * shape.d_in : rank * factors;
      out += values * width + 4 * (kEntryBytes + 2 * name.size());
      if (encoding == Encoding::kInt8) out += (shape.d_out + shape.d_in + rank) * sizeof(float);
    }
  }
  return out;
}

Outline outline_of(const UpdateLayout& layout) {
  Outline out;
  for (const auto& [name, tensor] : layout) {
    TensorOutline shape{tensor.d_out, tensor.d_in, {}, tensor.seeded()};
    for (const auto& term : tensor.terms) shape.ranks.push_back(term.dense ? 0 : term.second.rows);
    out.emplace(name, std::move(shape));
  }
  return out;
}

}  // namespace strata::protocol
