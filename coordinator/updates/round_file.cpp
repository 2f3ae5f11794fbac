#include "coordinator/updates/round_file.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/safetensors_header.h"

namespace strata::coordinator {
namespace {

constexpr std::uint64_t kHeaderMax = 16u << 20;
constexpr std::size_t kHashPiece = 1u << 20;

class InRegion final : public KeptUpdate {
 public:
  InRegion(protocol::ClientId client, double weight,
           std::shared_ptr<const protocol::UpdateLayout> layout,
           std::shared_ptr<const Outline> shape, std::shared_ptr<const sys::RandomFile> file,
           std::uint64_t offset)
      : client_(std::move(client)),
        weight_(weight),
        layout_(std::move(layout)),
        outline_(std::move(shape)),
        file_(std::move(file)),
        offset_(offset) {}
  const protocol::ClientId& client() const override { return client_; }
  double weight() const override { return weight_; }
  const Outline& outline() const override { return *outline_; }
  Result<std::shared_ptr<const adapter::TensorDelta>> read(std::string_view name) const override {
    auto delta = protocol::read_tensor(layout_->find(name)->second,
                                       [this](std::uint64_t at, std::span<std::byte> into) {
                                         return file_->read(offset_ + at, into);
                                       });
    if (!delta) return fail(std::move(delta).error());
    return std::make_shared<const adapter::TensorDelta>(std::move(*delta));
  }

 private:
  protocol::ClientId client_;
  double weight_;
  std::shared_ptr<const protocol::UpdateLayout> layout_;
  std::shared_ptr<const Outline> outline_;
  std::shared_ptr<const sys::RandomFile> file_;
  std::uint64_t offset_;
};

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

Result<protocol::UpdateHeader> RoundFile::header_at(std::uint64_t offset, std::uint64_t size,
                                                    const std::string& where) const {
  std::array<std::byte, 8> first{};
  const auto head = std::span(first).first(std::min<std::uint64_t>(size, first.size()));
  if (auto got = file_->read(offset, head); !got) return fail(std::move(got).error());
  auto length = formats::SafetensorsHeader::length(head, size, where, kHeaderMax);
  if (!length) {
    Error error = std::move(length).error();
    error.code = ErrorCode::kIncompatibleUpdate;
    error.remedy.clear();
    return fail(std::move(error));
  }
  Bytes header(*length);
  if (auto got = file_->read(offset, header); !got) return fail(std::move(got).error());
  return protocol::UpdateHeader::parse(header, size, where);
}

Result<SharedUpdate> RoundFile::open(const protocol::ClientId& client, std::uint64_t offset,
                                     std::uint64_t size, const std::string& encoding) {
  if (auto open = ensure_open(); !open) return fail(std::move(open).error());
  const std::string where = "update of " + client;
  auto header = header_at(offset, size, where);
  if (!header) return fail(std::move(header).error());
  if (header->encoding != encoding) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = "is encoded as " + header->encoding,
                 .where = where,
                 .rule = "the job asks for " + encoding});
  }
  auto kind = std::find_if(kinds_.begin(), kinds_.end(),
                           [&](const Kind& known) { return *known.layout == header->layout; });
  if (kind == kinds_.end()) {
    kind = kinds_.insert(kinds_.end(),
                         {std::make_shared<const protocol::UpdateLayout>(header->layout),
                          std::make_shared<const Outline>(protocol::outline_of(header->layout))});
  }
  auto kept = std::make_shared<const InRegion>(client, header->weight, kind->layout, kind->outline,
                                               file_, offset);
  last_ = std::move(*header);
  last_.layout.clear();
  if (auto good = check_update(*kept); !good) return fail(std::move(good).error());
  return SharedUpdate(std::move(kept));
}

}  // namespace strata::coordinator
