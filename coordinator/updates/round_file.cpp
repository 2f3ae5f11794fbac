#include "coordinator/updates/round_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/safetensors_header.h"

namespace strata::coordinator {
namespace {

constexpr std::uint64_t kHeaderMax = 16u << 20;
constexpr std::uint64_t kHeaderUsual = 4096;  // most headers are read in one call
constexpr std::size_t kHashPiece = 1u << 20;

class InRegion final : public KeptUpdate {
 public:
  InRegion(protocol::ClientId client, double weight,
           std::shared_ptr<const protocol::UpdateLayout> layout,
           std::shared_ptr<const Outline> shape, protocol::ReadAt bytes,
           const adapter::SeededFactors& seeded)
      : client_(std::move(client)),
        weight_(weight),
        layout_(std::move(layout)),
        outline_(std::move(shape)),
        bytes_(std::move(bytes)),
        seeded_(seeded) {}
  const protocol::ClientId& client() const override { return client_; }
  double weight() const override { return weight_; }
  const Outline& outline() const override { return *outline_; }
  Result<std::shared_ptr<const adapter::TensorDelta>> read(std::string_view name) const override {
    const auto& [tensor, places] = *layout_->find(name);
    auto delta = protocol::read_tensor(tensor, places, bytes_, seeded_);
    if (!delta) return fail(std::move(delta).error());
    return std::make_shared<const adapter::TensorDelta>(std::move(*delta));
  }

 private:
  protocol::ClientId client_;
  double weight_;
  std::shared_ptr<const protocol::UpdateLayout> layout_;
  std::shared_ptr<const Outline> outline_;
  protocol::ReadAt bytes_;
  adapter::SeededFactors seeded_;
};

protocol::ReadAt region_of(std::shared_ptr<const sys::RandomFile> file, std::uint64_t offset) {
  return [file = std::move(file), offset](std::uint64_t at, std::span<std::byte> into) {
    return file->read(offset + at, into);
  };
}

protocol::ReadAt memory_of(ByteSpan bytes) {
  return [bytes](std::uint64_t at, std::span<std::byte> into) -> Result<void> {
    const auto part = bytes.subspan(at, into.size());
    std::copy(part.begin(), part.end(), into.begin());
    return {};
  };
}

Result<protocol::UpdateHeader> header_of(const protocol::ReadAt& bytes, std::uint64_t size,
                                         const std::string& where) {
  Bytes header(std::min<std::uint64_t>(size, kHeaderUsual));
  if (auto got = bytes(0, header); !got) return fail(std::move(got).error());
  auto length = formats::SafetensorsHeader::length(
      ByteSpan(header).first(std::min<std::size_t>(header.size(), 8)), size, where, kHeaderMax);
  if (!length) {
    Error error = std::move(length).error();
    error.code = ErrorCode::kIncompatibleUpdate;
    error.remedy.clear();
    return fail(std::move(error));
  }
  const std::size_t have = header.size();
  header.resize(*length);
  if (have < *length) {
    if (auto got = bytes(have, std::span(header).subspan(have)); !got)
      return fail(std::move(got).error());
  }
  return protocol::UpdateHeader::parse(header, size, where);
}

// Whether what the update leaves out is what this side draws. Until then its shapes are a client's
// word, and nothing is made by them.
Result<void> check_seeded(const protocol::UpdateHeader& header, const RoundFactors& factors,
                          const std::string& where) {
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = std::move(what),
                 .where = where,
                 .rule = std::move(rule)});
  };
  for (const auto& [name, tensor] : header.layout) {
    if (!tensor.seeded()) continue;
    const std::string shown = printable(name, 120);
    if (header.round != factors.source.round()) {
      return refuse(fmt::format("is for round {}", header.round),
                    fmt::format("A is drawn for round {}", factors.source.round()));
    }
    const auto known = factors.shapes.find(name);
    if (known == factors.shapes.end())
      return refuse(shown + " comes without A", "the model has no such tensor");
    const auto [d_out, d_in] = known->second;
    if (tensor.d_out != d_out || tensor.d_in != d_in) {
      return refuse(fmt::format("{} is {} x {}", shown, tensor.d_out, tensor.d_in),
                    fmt::format("the model's is {} x {}", d_out, d_in));
    }
    const std::uint64_t id = factors.source.id(name);
    for (const auto& term : tensor.terms) {
      if (term.second.rows > std::min(d_out, d_in))
        return refuse(fmt::format("{} has rank {}", shown, term.second.rows),
                      "a rank is at most the tensor's smaller side");
      if (term.id_a != id) {
        return refuse(fmt::format("{} is trained on A {:016x}", shown, term.id_a),
                      fmt::format("the plan's seed draws {:016x} for round {}", id, header.round));
      }
    }
  }
  return {};
}

}  // namespace

Result<void> RoundFile::ensure_open() {
  if (file_) return {};
  auto opened = disk_.open(path_, durability_);
  if (!opened) return fail(std::move(opened).error());
  file_ = std::move(*opened);
  return {};
}

Result<std::uint64_t> RoundFile::reserve(std::uint64_t size) {
  if (auto open = ensure_open(); !open) return fail(std::move(open).error());
  const std::uint64_t at = end_;
  end_ += (size + 7) / 8 * 8;
  return at;
}

Result<void> RoundFile::keep_until(std::uint64_t end) {
  if (auto open = ensure_open(); !open) return open;
  end_ = std::max(end_, (end + 7) / 8 * 8);
  return {};
}

Result<void> RoundFile::write(std::uint64_t offset, ByteSpan bytes) {
  return file_->write(offset, bytes);
}

Result<void> RoundFile::sync() {
  if (!file_ || durability_ == sys::Durability::kProcess) return {};
  return file_->sync();
}

Result<Sha256> RoundFile::hash(std::uint64_t offset, std::uint64_t size) {
  if (auto open = ensure_open(); !open) return fail(std::move(open).error());
  Hasher hasher;
  Bytes piece(std::min<std::uint64_t>(size, kHashPiece));
  while (size > 0) {
    const auto part = std::span(piece).first(std::min<std::uint64_t>(size, piece.size()));
    if (auto got = file_->read(offset, part); !got) return fail(std::move(got).error());
    hasher.add(part);
    offset += part.size();
    size -= part.size();
  }
  return hasher.finish();
}

Result<SharedUpdate> RoundFile::open(const protocol::ClientId& client, std::uint64_t offset,
                                     std::uint64_t size, const std::string& encoding,
                                     ByteSpan whole) {
  if (auto open = ensure_open(); !open) return fail(std::move(open).error());
  const std::string where = "update of " + client;
  const auto bytes = whole.empty() ? region_of(file_, offset) : memory_of(whole);
  auto header = header_of(bytes, size, where);
  if (!header) return fail(std::move(header).error());
  if (header->encoding != encoding) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = "is encoded as " + header->encoding,
                 .where = where,
                 .rule = "the job asks for " + encoding});
  }
  if (auto known = check_seeded(*header, factors_, where); !known)
    return fail(std::move(known).error());
  auto kind = std::find_if(kinds_.begin(), kinds_.end(),
                           [&](const Kind& known) { return *known.layout == header->layout; });
  if (kind == kinds_.end()) {
    kind = kinds_.insert(kinds_.end(),
                         {std::make_shared<const protocol::UpdateLayout>(header->layout),
                          std::make_shared<const Outline>(protocol::outline_of(header->layout))});
  }
  const InRegion seen(client, header->weight, kind->layout, kind->outline, bytes, factors_.source);
  auto kept = std::make_shared<const InRegion>(client, header->weight, kind->layout, kind->outline,
                                               region_of(file_, offset), factors_.source);
  last_ = std::move(*header);
  last_.layout.clear();
  if (auto good = check_update(seen); !good) return fail(std::move(good).error());
  return SharedUpdate(std::move(kept));
}

}  // namespace strata::coordinator
