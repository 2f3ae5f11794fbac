#include "text/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

namespace strata::text {
namespace {

// Length of the valid sequence at `at`, or 0; then `skip` is the length of the maximal invalid
// part.
std::size_t valid_length(std::string_view s, std::size_t at, std::size_t& skip) {
  const auto byte = [&](std::size_t i) {
    return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u;
  };
  const unsigned lead = byte(at);
  skip = 1;
  if (lead < 0x80) return 1;
  std::size_t length = 0;
  unsigned low = 0x80, high = 0xbf;  // of the second byte
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    const unsigned next = byte(at + i);
    if (at + i >= s.size() || next < low || next > high) {
      skip = i;
      return 0;
    }
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace

Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {((lead & 0x1fu) << 6) | (byte(1) & 0x3fu), 2};
  if (lead < 0xf0)
    return {((lead & 0x0fu) << 12) | ((byte(1) & 0x3fu) << 6) | (byte(2) & 0x3fu), 3};
  return {((lead & 0x07u) << 18) | ((byte(1) & 0x3fu) << 12) | ((byte(2) & 0x3fu) << 6) |
              (byte(3) & 0x3fu),
          4};
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0u | (c >> 6));
    out += static_cast<char>(0x80u | (c & 0x3fu));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0u | (c >> 12));
    out += static_cast<char>(0x80u | ((c >> 6) & 0x3fu));
    out += static_cast<char>(0x80u | (c & 0x3fu));
  } else {
    out += static_cast<char>(0xf0u | (c >> 18));
    out += static_cast<char>(0x80u | ((c >> 12) & 0x3fu));
    out += static_cast<char>(0x80u | ((c >> 6) & 0x3fu));
    out += static_cast<char>(0x80u | (c & 0x3fu));
  }
}

std::optional<std::size_t> first_invalid(std::string_view bytes) {
  std::size_t skip = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = valid_length(bytes, at, skip);
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

std::string lossy_utf8(std::string_view bytes) {
  std::string out;
  std::size_t skip = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = valid_length(bytes, at, skip);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      at += skip;
    } else {
      out.append(bytes.substr(at, length));
      at += length;
    }
  }
  return out;
}

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool is_numeric(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126);
  switch (category(c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return true;
    default:
      return false;
  }
}

bool is_word(char32_t c) {
  if (c == 0x200c || c == 0x200d) return true;  // joiners
  if (c >= 0x24b6 && c <= 0x24e9) return true;  // circled letters are alphabetic
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

std::string lower_case(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto [code, bytes] = character_at(text, at);
    if (code == 0x130) {
      out += "i\xcc\x87";  // the one character whose lower case is two
    } else {
      append_utf8(out,
                  static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    }
    at += bytes;
  }
  return out;
}

std::string normal_form(std::string_view text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  options |=
      form == NormalForm::kNfc || form == NormalForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* made = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &made,
                                   static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  if (length < 0) return std::string(text);  // only for invalid UTF-8, which callers have refused
  return std::string(reinterpret_cast<const char*>(made), static_cast<std::size_t>(length));
}

}  // namespace strata::text
