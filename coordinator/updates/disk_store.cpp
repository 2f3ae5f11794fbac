// Updates behind one another in a scratch file: per tensor in the order of names, per term, the
// floats of B and A, or of the dense values. Clients of one rank share one outline, so that a kept
// update costs a few words of memory.
#include <utility>

#include "coordinator/updates/update_store.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using adapter::TensorDelta;
using tensor::Matrix;

std::span<const std::byte> bytes_of(const Matrix& m) { return std::as_bytes(m.values()); }

std::size_t byte_count(const TensorOutline& tensor) {
  std::size_t values = 0;
  for (const std::size_t rank : tensor.ranks)
    values += rank == 0 ? tensor.d_out * tensor.d_in : rank * (tensor.d_out + tensor.d_in);
  return values * sizeof(float);
}

struct Ids {
  std::uint64_t a = 0;
  std::uint64_t b = 0;
};

class OnDisk final : public KeptUpdate {
 public:
  OnDisk(protocol::ClientId client, double weight, std::shared_ptr<const Outline> outline,
         std::shared_ptr<const sys::ScratchFile> file, std::uint64_t offset, std::vector<Ids> ids)
      : client_(std::move(client)),
        weight_(weight),
        outline_(std::move(outline)),
        file_(std::move(file)),
        offset_(offset),
        ids_(std::move(ids)) {}
  const protocol::ClientId& client() const override { return client_; }
  double weight() const override { return weight_; }
  const Outline& outline() const override { return *outline_; }

  Result<std::shared_ptr<const TensorDelta>> read(std::string_view tensor) const override {
    std::uint64_t at = offset_;
    std::size_t term = 0;  // among all of the update
    auto wanted = outline_->begin();
    for (; wanted->first != tensor; ++wanted) {
      at += byte_count(wanted->second);
      term += wanted->second.ranks.size();
    }
    const TensorOutline& shape = wanted->second;
    auto out = std::make_shared<TensorDelta>();
    out->d_out = shape.d_out;
    out->d_in = shape.d_in;
    const auto fetch = [&](std::size_t rows, std::size_t cols) -> Result<Matrix> {
      Matrix values(rows, cols);
      const auto into = std::as_writable_bytes(values.values());
      if (auto done = file_->read(at, into); !done) return fail(std::move(done).error());
      at += into.size();
      return values;
    };
    for (const std::size_t rank : shape.ranks) {
      if (rank == 0) {
        auto values = fetch(shape.d_out, shape.d_in);
        if (!values) return fail(std::move(values).error());
        out->terms.emplace_back(Dense{std::move(*values)});
      } else {
        auto b = fetch(shape.d_out, rank);
        if (!b) return fail(std::move(b).error());
        auto a = fetch(rank, shape.d_in);
        if (!a) return fail(std::move(a).error());
        const Ids ids = ids_.empty() ? Ids{} : ids_[term];
        out->terms.emplace_back(
            LowRank{.b = std::move(*b), .a = std::move(*a), .id_a = ids.a, .id_b = ids.b});
      }
      ++term;
    }
    return std::shared_ptr<const TensorDelta>(std::move(out));
  }

 private:
  protocol::ClientId client_;
  double weight_;
  std::shared_ptr<const Outline> outline_;
  std::shared_ptr<const sys::ScratchFile> file_;
  std::uint64_t offset_;
  std::vector<Ids> ids_;  // by term; empty when no factor is shared
};

class DiskStore final : public UpdateStore {
 public:
  DiskStore(sys::Disk& disk, std::filesystem::path folder)
      : disk_(disk), folder_(std::move(folder)) {}

  Result<SharedUpdate> put(protocol::Update update) override {
    if (!file_) {
      auto made = disk_.scratch(folder_);
      if (!made) return fail(std::move(made).error());
      file_ = std::move(*made);
    }
    std::uint64_t end = end_;
    const auto append = [&](const Matrix& values) {
      const std::uint64_t at = end;
      end += values.size() * sizeof(float);
      return file_->write(at, bytes_of(values));
    };
    std::vector<Ids> ids;
    bool shared = false;
    for (const auto& [name, change] : update.delta) {
      for (const auto& term : change.terms) {
        Result<void> done;
        if (const auto* pair = std::get_if<LowRank>(&term)) {
          done = append(pair->b);
          if (done) done = append(pair->a);
          ids.push_back({pair->id_a, pair->id_b});
          shared = shared || pair->id_a != 0 || pair->id_b != 0;
        } else {
          done = append(std::get<Dense>(term).values);
          ids.emplace_back();
        }
        if (!done) return fail(std::move(done).error(), "keeping the update of " + update.client);
      }
    }
    if (!shared) ids.clear();
    return std::make_shared<const OnDisk>(std::move(update.client), update.weight,
                                          shared_outline(outline_of(update.delta)), file_,
                                          std::exchange(end_, end), std::move(ids));
  }

  void clear() override { end_ = 0; }

 private:
  std::shared_ptr<const Outline> shared_outline(Outline outline) {
    for (const auto& known : outlines_) {
      if (*known == outline) return known;
    }
    return outlines_.emplace_back(std::make_shared<const Outline>(std::move(outline)));
  }

  sys::Disk& disk_;
  std::filesystem::path folder_;
  std::shared_ptr<sys::ScratchFile> file_;
  std::uint64_t end_ = 0;
  std::vector<std::shared_ptr<const Outline>> outlines_;  // as many as there are kinds of clients
};

}  // namespace

std::unique_ptr<UpdateStore> make_disk_store(sys::Disk& disk, std::filesystem::path folder) {
  return std::make_unique<DiskStore>(disk, std::move(folder));
}

}  // namespace strata::coordinator
