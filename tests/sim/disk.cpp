#include "sim/disk.h"

#include <algorithm>
#include <utility>

#include "sys/temporary_files.h"

namespace strata::sim {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Error missing(const std::filesystem::path& path) {
  return {.code = ErrorCode::kFileMissing, .what = "no such file", .where = path.string()};
}

class Mapping final : public sys::MappedFile {
 public:
  explicit Mapping(std::string text) : text_(std::move(text)) {}
  std::span<const std::byte> bytes() const override { return bytes_of(text_); }

 private:
  std::string text_;
};

class Writer final : public sys::FileWriter {
 public:
  Result<void> write(std::span<const std::byte> bytes) override {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }
  std::string text;
};

class Handle final : public sys::RandomFile {
 public:
  Handle(Disk& disk, std::filesystem::path path, std::shared_ptr<Disk::File> file)
      : disk_(disk), path_(std::move(path)), file_(std::move(file)) {}

  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    if (auto may = disk_.change("write", path_); !may) return may;
    std::string& text = file_->now;
    if (text.size() < offset + bytes.size()) text.resize(offset + bytes.size());
    std::copy_n(reinterpret_cast<const char*>(bytes.data()), bytes.size(),
                text.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  }
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const override {
    if (offset + into.size() > file_->now.size())
      return fail({.code = ErrorCode::kIo, .what = "ends early", .where = path_.string()});
    const auto all = bytes_of(file_->now);
    std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    return {};
  }
  Result<std::uint64_t> size() const override { return file_->now.size(); }
  Result<void> sync() override { return disk_.flush(*file_, path_); }
  Result<void> resize(std::uint64_t bytes) override {
    if (auto may = disk_.change("resize", path_); !may) return may;
    file_->now.resize(bytes);
    return {};
  }

 private:
  Disk& disk_;
  std::filesystem::path path_;
  std::shared_ptr<Disk::File> file_;
};

class Lock final : public sys::FileLock {
 public:
  Lock(std::weak_ptr<std::set<std::string>> locks, std::string path)
      : locks_(std::move(locks)), path_(std::move(path)) {}
  ~Lock() override {
    if (const auto locks = locks_.lock()) locks->erase(path_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  std::weak_ptr<std::set<std::string>> locks_;
  std::string path_;
};

}  // namespace

Result<void> Disk::change(const std::string& what, const Path& path) const {
  if (before_change) before_change(what + " " + path.string());
  if (broken)
    return fail({.code = ErrorCode::kIo, .what = "the disk fails", .where = path.string()});
  if (full && what != "remove")
    return fail({.code = ErrorCode::kDiskFull, .what = "no space left", .where = path.string()});
  return {};
}

Result<void> Disk::flush(File& file, const Path& path) {
  if (before_change) before_change("sync " + path.string());
  const bool fails = flush_fails > 0.0 && draw_.uniform() < flush_fails;
  if (broken || full || fails) {
    file.doubtful = true;
    const bool space = full || (fails && draw_.below(2) == 0);
    return fail({.code = space ? ErrorCode::kDiskFull : ErrorCode::kIo,
                 .what = space ? "no space left" : "the disk fails",
                 .where = path.string()});
  }
  take_time();
  if (!lies) file.synced = file.now;
  return {};
}

void Disk::take_time() {
  if (slow > 0.0 && took) took(slow * draw_.uniform(0.0, 2.0));
}

void Disk::unlock() {
  *locks_ = {};
  ++process_;
  for (auto& [path, file] : names_) {
    if (std::exchange(file->doubtful, false) && draw_.below(2) == 0) file->now = file->synced;
  }
}

void Disk::fall() {
  unlock();
  std::set<std::string> paths;
  for (const auto& [path, file] : names_) paths.insert(path);
  for (const auto& [path, file] : synced_) paths.insert(path);
  Names after;
  for (const auto& path : paths) {
    const auto now = names_.find(path);
    const auto sure = synced_.find(path);
    const bool changed = (now == names_.end()) != (sure == synced_.end()) ||
                         (now != names_.end() && now->second != sure->second);
    const bool keep_change = changed && draw_.below(2) == 0;
    const auto& chosen = !changed || keep_change ? now : sure;
    const bool there = chosen != (chosen == now ? names_.end() : synced_.end());
    if (there) after[path] = chosen->second;
  }
  for (auto& [path, file] : after) {
    if (file->now == file->synced) continue;
    // Lost, kept, or kept up to some byte.
    const std::size_t cut = draw_.below(file->now.size() + 1);
    std::string left = file->now.substr(0, draw_.below(3) == 0 ? file->now.size() : cut);
    if (left.size() < file->synced.size()) left += file->synced.substr(left.size());
    if (draw_.below(3) == 0) left = file->synced;
    file->now = file->synced = left;
  }
  names_ = synced_ = after;
}

bool Disk::rot(const Path& path) {
  const auto found = names_.find(path.string());
  if (found == names_.end() || found->second->now.empty()) return false;
  std::string& text = found->second->now;
  char& byte = text[draw_.below(text.size())];
  byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1u << draw_.below(8)));
  found->second->synced = text;
  return true;
}

std::vector<std::string> Disk::all_files() const {
  std::vector<std::string> out;
  for (const auto& [path, file] : names_) out.push_back(path);
  return out;
}

std::string Disk::lasting(const Path& path) const {
  const auto found = synced_.find(path.string());
  return found == synced_.end() ? std::string() : found->second->synced;
}

void Disk::put(const Path& path, const std::string& text) {
  auto file = std::make_shared<File>();
  file->now = file->synced = text;
  names_[path.string()] = synced_[path.string()] = file;
}

bool Disk::exists(const Path& path) const {
  return names_.contains(path.string()) || folders_.contains(path.string());
}

bool Disk::is_directory(const Path& path) const { return folders_.contains(path.string()); }

Result<std::vector<std::string>> Disk::list(const Path& folder) const {
  if (!is_directory(folder)) return fail(missing(folder));
  std::vector<std::string> out;
  for (const auto& [path, file] : names_) {
    if (Path(path).parent_path() == folder) out.push_back(Path(path).filename().string());
  }
  return out;
}

Result<std::string> Disk::read_text(const Path& path) const {
  const auto found = names_.find(path.string());
  if (found == names_.end()) return fail(missing(path));
  return found->second->now;
}

Result<std::shared_ptr<const sys::MappedFile>> Disk::map(const Path& path) const {
  auto text = read_text(path);
  if (!text) return fail(std::move(text).error());
  return std::make_shared<const Mapping>(std::move(*text));
}

// Folders are there for good: what is in them is what is interesting.
Result<void> Disk::create_directories(const Path& folder) {
  for (Path p = folder; !p.empty() && p != p.parent_path(); p = p.parent_path())
    folders_.insert(p.string());
  return {};
}

Result<void> Disk::create_private_directory(const Path& folder) {
  return create_directories(folder);
}

Result<void> Disk::write_atomic(const Path& path,
                                const std::function<Result<void>(sys::FileWriter&)>& produce,
                                sys::Durability durability) {
  const Path temporary = sys::temporary_of(path, process_);
  if (auto written = write_temporary(temporary, path, produce, durability); !written) {
    names_.erase(temporary.string());
    return written;
  }
  auto file = std::move(names_.extract(temporary.string()).mapped());
  names_[path.string()] = file;
  if (durability == sys::Durability::kMachine) {
    if (auto may = change("sync folder of", path); !may) return may;
    if (!lies) synced_[path.string()] = file;
  }
  return {};
}

// A process that ends in here leaves the file behind.
Result<void> Disk::write_temporary(const Path& temporary, const Path& path,
                                   const std::function<Result<void>(sys::FileWriter&)>& produce,
                                   sys::Durability durability) {
  if (auto may = change("create", path); !may) return may;
  auto file = std::make_shared<File>();
  names_[temporary.string()] = file;
  Writer writer;
  if (auto produced = produce(writer); !produced) return produced;
  if (auto may = change("write", path); !may) return may;
  file->now = std::move(writer.text);
  if (durability == sys::Durability::kMachine) {
    if (auto flushed = flush(*file, path); !flushed) return flushed;
  }
  return change("rename", path);
}

Result<std::unique_ptr<sys::RandomFile>> Disk::open(const Path& path, sys::Durability durability) {
  if (auto may = change("open", path); !may) return fail(std::move(may).error());
  auto& file = names_[path.string()];
  if (!file) file = std::make_shared<File>();
  if (durability == sys::Durability::kMachine) {
    if (auto may = change("sync folder of", path); !may) return fail(std::move(may).error());
    if (!lies) synced_[path.string()] = file;
  }
  return std::make_unique<Handle>(*this, path, file);
}

Result<std::unique_ptr<sys::FileLock>> Disk::lock(const Path& path) {
  if (!locks_->insert(path.string()).second)
    return fail({.code = ErrorCode::kLocked, .what = "is held", .where = path.string()});
  return std::make_unique<Lock>(locks_, path.string());
}

Result<void> Disk::append(const Path& path, std::string_view text) {
  if (auto may = change("write", path); !may) return may;
  auto& file = names_[path.string()];
  if (!file) file = std::make_shared<File>();
  file->now += text;
  return {};
}

Result<void> Disk::rename(const Path& from, const Path& to) {
  if (auto may = change("rename", from); !may) return may;
  const auto found = names_.find(from.string());
  if (found == names_.end()) return fail(missing(from));
  names_[to.string()] = found->second;
  synced_[to.string()] = found->second;
  names_.erase(from.string());
  synced_.erase(from.string());
  return {};
}

Result<void> Disk::sync_folder(const Path& folder) {
  if (auto may = change("sync folder", folder); !may) return may;
  if (lies) return {};
  const auto inside = [&](const auto& entry) { return Path(entry.first).parent_path() == folder; };
  std::erase_if(synced_, inside);
  for (const auto& entry : names_) {
    if (inside(entry)) synced_.insert(entry);
  }
  return {};
}

// Gone for processes at once; for good only some time later.
Result<void> Disk::remove_all(const Path& path) {
  if (auto may = change("remove", path); !may) return may;
  const std::string below = path.string() + "/";
  std::erase_if(names_, [&](const auto& entry) {
    return entry.first == path.string() || entry.first.starts_with(below);
  });
  return {};
}

}  // namespace strata::sim
