#include "formats/gguf.h"

#include <cstring>

#include "base/checked.h"

namespace strata::formats {
namespace {

constexpr std::uint64_t kCountMax = 1u << 24;  // key/values, tensors, list items
constexpr std::size_t kTextMax = 1u << 24;

struct Block {
  std::size_t values;
  std::size_t bytes;
};

std::optional<Block> block_of(std::uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::kF32:
      return Block{1, 4};
    case GgufType::kF16:
    case GgufType::kBF16:
      return Block{1, 2};
    case GgufType::kQ4_0:
      return Block{32, 18};
    case GgufType::kQ4_1:
      return Block{32, 20};
    case GgufType::kQ5_0:
      return Block{32, 22};
    case GgufType::kQ5_1:
      return Block{32, 24};
    case GgufType::kQ8_0:
      return Block{32, 34};
    case GgufType::kQ4_K:
      return Block{256, 144};
    case GgufType::kQ5_K:
      return Block{256, 176};
    case GgufType::kQ6_K:
      return Block{256, 210};
  }
  return std::nullopt;
}

// Reads forward over the file; the first failure sticks and everything after it is empty.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  template <class T>
  T take() {
    T value{};
    if (const auto part = raw(sizeof(T)); part.size() == sizeof(T))
      std::memcpy(&value, part.data(), sizeof(T));
    return value;
  }
  std::string text() {
    const auto length = take<std::uint64_t>();
    if (length > kTextMax) {
      refuse("a text of " + std::to_string(length) + " bytes", "texts are shorter than 16 MiB");
      return {};
    }
    const auto part = raw(static_cast<std::size_t>(length));
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::uint64_t count(std::string_view what) {
    const auto n = take<std::uint64_t>();
    if (n <= kCountMax) return n;
    refuse(std::to_string(n) + " " + std::string(what), "at most " + std::to_string(kCountMax));
    return 0;
  }
  std::span<const std::byte> raw(std::size_t n) {
    if (error_ || n > bytes_.size() - at_) {
      refuse("ends at byte " + std::to_string(bytes_.size()) + " where more is announced",
             "the file may be truncated");
      return {};
    }
    at_ += n;
    return bytes_.subspan(at_ - n, n);
  }
  void refuse(std::string what, std::string rule, ErrorCode code = ErrorCode::kFormat) {
    if (!error_)
      error_ = Error{.code = code,
                     .what = std::move(what),
                     .where = where_,
                     .rule = std::move(rule),
                     .remedy = "fetch the file again"};
  }
  [[nodiscard]] bool failed() const { return error_.has_value(); }
  [[nodiscard]] const Error& error() const { return *error_; }
  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] std::span<const std::byte> rest_from(std::size_t offset) const {
    return offset <= bytes_.size() ? bytes_.subspan(offset) : std::span<const std::byte>{};
  }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  std::size_t at_ = 0;
  std::optional<Error> error_;
};

GgufValue read_value(Cursor& in, std::uint32_t kind);

GgufValue read_list(Cursor& in) {
  const auto kind = in.take<std::uint32_t>();
  const auto n = in.count("list items");
  if (kind == 9) {  // not read either by llama.cpp, and no depth to run out of
    in.refuse("a list of lists", "lists hold numbers or texts");
    return false;
  }
  if (kind == 8) {
    std::vector<std::string> out;
    for (std::uint64_t i = 0; i < n && !in.failed(); ++i) out.push_back(in.text());
    return out;
  }
  if (kind == 6 || kind == 12) {
    std::vector<double> out;
    for (std::uint64_t i = 0; i < n && !in.failed(); ++i)
      out.push_back(std::get<double>(read_value(in, kind)));
    return out;
  }
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < n && !in.failed(); ++i) {
    const GgufValue item = read_value(in, kind);
    if (const auto* u = std::get_if<std::uint64_t>(&item))
      out.push_back(static_cast<std::int64_t>(*u));
    else if (const auto* s = std::get_if<std::int64_t>(&item))
      out.push_back(*s);
    else if (const auto* b = std::get_if<bool>(&item))
      out.push_back(*b ? 1 : 0);
  }
  return out;
}

GgufValue read_value(Cursor& in, std::uint32_t kind) {
  switch (kind) {
    case 0:
      return static_cast<std::uint64_t>(in.take<std::uint8_t>());
    case 1:
      return static_cast<std::int64_t>(in.take<std::int8_t>());
    case 2:
      return static_cast<std::uint64_t>(in.take<std::uint16_t>());
    case 3:
      return static_cast<std::int64_t>(in.take<std::int16_t>());
    case 4:
      return static_cast<std::uint64_t>(in.take<std::uint32_t>());
    case 5:
      return static_cast<std::int64_t>(in.take<std::int32_t>());
    case 6:
      return static_cast<double>(in.take<float>());
    case 7:
      return in.take<std::uint8_t>() != 0;
    case 8:
      return in.text();
    case 9:
      return read_list(in);
    case 10:
      return in.take<std::uint64_t>();
    case 11:
      return in.take<std::int64_t>();
    case 12:
      return in.take<double>();
    default:
      in.refuse("value kind " + std::to_string(kind), "kinds are 0 to 12");
      return false;
  }
}

struct Info {
  std::string name;
  GgufTensor tensor;
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
};

Info read_info(Cursor& in) {
  Info info;
  info.name = in.text();
  const auto sides = in.take<std::uint32_t>();
  if (sides == 0 || sides > 4)
    in.refuse("tensor " + printable(info.name, 80) + " has " + std::to_string(sides) + " sides",
              "tensors have 1 to 4");
  std::optional<std::size_t> elements = 1;
  for (std::uint32_t i = 0; i < sides && !in.failed(); ++i) {
    const auto side = in.take<std::uint64_t>();
    if (elements) elements = checked_mul(*elements, static_cast<std::size_t>(side));
    info.tensor.shape.insert(info.tensor.shape.begin(), static_cast<std::size_t>(side));
  }
  const auto type = in.take<std::uint32_t>();
  info.offset = in.take<std::uint64_t>();
  if (in.failed()) return info;
  const auto block = block_of(type);
  if (!block) {
    in.refuse("tensor " + printable(info.name, 80) + " has element type " + std::to_string(type),
              "supported: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K",
              ErrorCode::kUnsupported);
    return info;
  }
  info.tensor.type = static_cast<GgufType>(type);
  if (!elements || info.tensor.shape.back() % block->values != 0) {
    in.refuse("tensor " + printable(info.name, 80) + " has a row of " +
                  std::to_string(info.tensor.shape.back()) + " values",
              "its type comes in blocks of " + std::to_string(block->values));
    return info;
  }
  const auto bytes = checked_mul(*elements / block->values, block->bytes);
  if (!bytes) in.refuse("tensor " + printable(info.name, 80) + " is larger than memory", "");
  info.bytes = bytes.value_or(0);
  return info;
}

}  // namespace

struct GgufFile::State {
  std::string where;
  std::shared_ptr<const sys::MappedFile> mapping;
  std::map<std::string, GgufValue, std::less<>> values;
  std::map<std::string, GgufTensor, std::less<>> tensors;
};

std::size_t GgufTensor::element_count() const {
  std::size_t n = 1;
  for (const std::size_t side : shape) n *= side;
  return n;
}

Result<GgufFile> GgufFile::open(const sys::Disk& disk, const std::filesystem::path& path) {
  auto mapped = disk.map(path);
  if (!mapped) return fail(std::move(mapped).error());
  auto state = std::make_shared<State>();
  state->where = path.string();
  state->mapping = std::move(*mapped);
  Cursor in(state->mapping->bytes(), state->where);
  if (in.take<std::uint32_t>() != 0x46554747u)
    in.refuse("does not start with GGUF", "give a GGUF model file");
  const auto version = in.take<std::uint32_t>();
  if (!in.failed() && version != 2 && version != 3)
    in.refuse("is GGUF version " + std::to_string(version), "supported: 2 and 3",
              ErrorCode::kUnsupported);
  const auto tensors = in.count("tensors");
  const auto values = in.count("key/values");
  for (std::uint64_t i = 0; i < values && !in.failed(); ++i) {
    std::string key = in.text();
    const auto kind = in.take<std::uint32_t>();
    GgufValue value = read_value(in, kind);
    if (!state->values.emplace(key, std::move(value)).second)
      in.refuse("has the key " + printable(key, 80) + " twice", "keys are unique");
  }
  std::vector<Info> infos;
  for (std::uint64_t i = 0; i < tensors && !in.failed(); ++i) infos.push_back(read_info(in));
  if (in.failed()) return fail(in.error());

  GgufFile file;
  file.state_ = state;
  const std::uint64_t alignment = file.whole("general.alignment").value_or(32);
  if (alignment == 0 || alignment > 65536)
    in.refuse("general.alignment is " + std::to_string(alignment), "between 1 and 65536");
  const auto data = in.failed() ? std::span<const std::byte>{}
                                : in.rest_from((in.at() + alignment - 1) / alignment * alignment);
  for (auto& info : infos) {
    if (in.failed()) break;
    if (info.offset > data.size() || info.bytes > data.size() - info.offset) {
      in.refuse("tensor " + printable(info.name, 80) + " lies beyond the end of the file",
                "the file may be truncated");
      break;
    }
    info.tensor.bytes = data.subspan(static_cast<std::size_t>(info.offset), info.bytes);
    if (!state->tensors.emplace(info.name, std::move(info.tensor)).second)
      in.refuse("has the tensor " + printable(info.name, 80) + " twice", "names are unique");
  }
  if (in.failed()) return fail(in.error());
  return file;
}

const std::map<std::string, GgufValue, std::less<>>& GgufFile::values() const {
  return state_->values;
}
const std::map<std::string, GgufTensor, std::less<>>& GgufFile::tensors() const {
  return state_->tensors;
}
const std::string& GgufFile::where() const { return state_->where; }

std::optional<bool> GgufFile::flag(std::string_view key) const {
  const auto found = state_->values.find(key);
  const auto* b = found == state_->values.end() ? nullptr : std::get_if<bool>(&found->second);
  return b != nullptr ? std::optional<bool>(*b) : std::nullopt;
}

std::optional<std::uint64_t> GgufFile::whole(std::string_view key) const {
  const auto found = state_->values.find(key);
  if (found == state_->values.end()) return std::nullopt;
  if (const auto* u = std::get_if<std::uint64_t>(&found->second)) return *u;
  const auto* s = std::get_if<std::int64_t>(&found->second);
  return s != nullptr && *s >= 0 ? std::optional<std::uint64_t>(static_cast<std::uint64_t>(*s))
                                 : std::nullopt;
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const auto found = state_->values.find(key);
  if (found == state_->values.end()) return std::nullopt;
  if (const auto* d = std::get_if<double>(&found->second)) return *d;
  const auto w = whole(key);
  return w ? std::optional<double>(static_cast<double>(*w)) : std::nullopt;
}

std::optional<std::string> GgufFile::text(std::string_view key) const {
  const auto found = state_->values.find(key);
  const auto* s =
      found == state_->values.end() ? nullptr : std::get_if<std::string>(&found->second);
  return s != nullptr ? std::optional<std::string>(*s) : std::nullopt;
}

const std::vector<std::string>* GgufFile::texts(std::string_view key) const {
  const auto found = state_->values.find(key);
  return found == state_->values.end() ? nullptr
                                       : std::get_if<std::vector<std::string>>(&found->second);
}

}  // namespace strata::formats
