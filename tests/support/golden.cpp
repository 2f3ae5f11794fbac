#include "support/golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "sys/disk.h"

namespace strata::support {
namespace {

template <class T>
T value_or_throw(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().line());
  return std::move(*result);
}

formats::SafetensorsFile open(const std::filesystem::path& path) {
  const auto disk = sys::make_posix_disk();
  return value_or_throw(formats::SafetensorsFile::open(*disk, path));
}

template <class T>
double largest_difference(std::span<const T> actual, std::span<const T> expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

template <class T>
double relative_difference(std::span<const T> actual, std::span<const T> expected) {
  const double difference = largest_difference(actual, expected);
  double scale = 0.0;
  for (const T value : expected) scale = std::max(scale, std::abs(static_cast<double>(value)));
  if (difference == 0.0) return 0.0;
  return scale > 0.0 ? difference / scale : std::numeric_limits<double>::infinity();
}

}  // namespace

std::filesystem::path golden_folder() {
  return std::filesystem::path(STRATA_SOURCE_DIR) / "tests" / "golden";
}

Golden::Golden(const std::string& model)
    : folder_(golden_folder() / "model" / model), file_(open(folder_ / "expected.safetensors")) {
  const auto tokens = copy<std::int32_t>("tokens", tensor::DType::kI32);
  const auto trained = copy<std::uint8_t>("trained", tensor::DType::kU8);
  const auto offsets = copy<std::int32_t>("offsets", tensor::DType::kI32);
  if (offsets.empty() || trained.size() != tokens.size() ||
      static_cast<std::size_t>(offsets.back()) != tokens.size()) {
    throw std::runtime_error(file_.where() + ": tokens, trained and offsets do not fit together");
  }
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    records_.push_back({{tokens.begin() + offsets[i], tokens.begin() + offsets[i + 1]},
                        {trained.begin() + offsets[i], trained.begin() + offsets[i + 1]}});
  }
}

formats::StoredTensor Golden::find(std::string_view name) const {
  return value_or_throw(file_.get(name));
}

template <class T>
std::vector<T> Golden::copy(std::string_view name, tensor::DType type) const {
  const auto stored = find(name);
  if (stored.dtype != type) {
    throw std::runtime_error(file_.where() + ": " + std::string(name) + " is " +
                             std::string(tensor::safetensors_name(stored.dtype)) + ", wanted " +
                             std::string(tensor::safetensors_name(type)));
  }
  std::vector<T> values(stored.element_count());
  if (!values.empty()) std::memcpy(values.data(), stored.bytes.data(), stored.bytes.size());
  return values;
}

std::size_t Golden::trained_tokens() const {
  std::size_t count = 0;
  for (const auto& record : records_) {
    count += std::accumulate(record.trained.begin() + 1, record.trained.end(), std::size_t{0});
  }
  return count;
}

std::vector<float> Golden::values(std::string_view name) const {
  return copy<float>(name, tensor::DType::kF32);
}
std::vector<double> Golden::numbers(std::string_view name) const {
  return copy<double>(name, tensor::DType::kF64);
}
std::vector<std::size_t> Golden::shape(std::string_view name) const { return find(name).shape; }

std::vector<std::string> Golden::names(std::string_view prefix) const {
  std::vector<std::string> found;
  for (const auto& name : file_.names()) {
    if (name.starts_with(prefix)) found.push_back(name.substr(prefix.size()));
  }
  return found;
}

double max_abs_diff(std::span<const float> actual, std::span<const float> expected) {
  return largest_difference(actual, expected);
}
double max_abs_diff(std::span<const double> actual, std::span<const double> expected) {
  return largest_difference(actual, expected);
}
double max_rel_diff(std::span<const float> actual, std::span<const float> expected) {
  return relative_difference(actual, expected);
}
double max_rel_diff(std::span<const double> actual, std::span<const double> expected) {
  return relative_difference(actual, expected);
}

}  // namespace strata::support
