#pragma once
// Plain tables and numbers for people.
#include <string>
#include <vector>

namespace strata::cli {

/// Columns padded to their widest cell, two spaces between; the first column to the left, others to
/// the right. First row: header.
[[nodiscard]] std::string table(const std::vector<std::vector<std::string>>& rows);

/// "1.5 GB", "12.0 kB" (decimal units).
[[nodiscard]] std::string bytes_text(double bytes);
/// "850 ms", "12.3 s", "4 min 05 s".
[[nodiscard]] std::string duration_text(double seconds);
/// Fixed digits; "-" for NaN.
[[nodiscard]] std::string number_text(double value, int digits);

}  // namespace strata::cli
