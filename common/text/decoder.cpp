#include <map>
#include <nlohmann/json.hpp>

#include "text/text_stage.h"
#include "text/unicode.h"

namespace strata::text {
namespace {

std::string join(const std::vector<std::string>& tokens) {
  std::string out;
  for (const auto& token : tokens) out += token;
  return out;
}

// Printable stand-ins back to bytes; a token with any other character is taken as it is.
void byte_level(std::vector<std::string>& tokens) {
  static const std::map<std::string, char, std::less<>> kBytes = [] {
    std::map<std::string, char, std::less<>> out;
    for (unsigned byte = 0; byte < 256; ++byte)
      out.emplace(byte_characters()[byte], static_cast<char>(byte));
    return out;
  }();
  std::string bytes;
  for (const auto& token : tokens) {
    std::string own;
    bool known = true;
    for (std::size_t at = 0; known && at < token.size();) {
      const auto c = character_at(token, at);
      const auto found = kBytes.find(std::string_view(token).substr(at, c.bytes));
      known = found != kBytes.end();
      if (known) own += found->second;
      at += c.bytes;
    }
    bytes += known ? own : token;
  }
  tokens = {lossy_utf8(bytes)};
}

// Runs of <0xXX> become the text they spell, or one U+FFFD a byte when they spell none.
void byte_fallback(std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (!first_invalid(bytes)) {
      out.push_back(bytes);
    } else {
      for (std::size_t i = 0; i < bytes.size(); ++i) out.emplace_back("\xef\xbf\xbd");
    }
    bytes.clear();
  };
  for (auto& token : tokens) {
    int value = -1;
    if (token.size() == 6 && token.starts_with("<0x") && token.back() == '>') {
      char* end = nullptr;
      const std::string digits = token.substr(3, 2);
      value = static_cast<int>(std::strtol(digits.c_str(), &end, 16));
      if (end != digits.c_str() + 2) value = -1;
    }
    if (value >= 0) {
      bytes += static_cast<char>(value);
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

Result<Decode> replace(const StageSource& source) {
  auto find = make_pattern(source);
  if (!find) return fail(std::move(find).error());
  return Decode([find = std::move(*find), content = source.json.value("content", std::string())](
                    std::vector<std::string>& tokens) {
    for (auto& token : tokens) {
      std::string out;
      std::size_t at = 0;
      for (const auto& [begin, end] : find(token)) {
        out.append(token, at, begin - at);
        out += content;
        at = end;
      }
      out.append(token, at);
      token = std::move(out);
    }
  });
}

Decode strip(const StageSource& source) {
  return [content = source.json.value("content", std::string(" ")),
          start = source.json.value("start", 0),
          stop = source.json.value("stop", 0)](std::vector<std::string>& tokens) {
    for (auto& token : tokens) {
      for (int i = 0; i < start && token.starts_with(content); ++i) token.erase(0, content.size());
      for (int i = 0; i < stop && token.ends_with(content); ++i)
        token.resize(token.size() - content.size());
    }
  };
}

Decode metaspace(const StageSource& source) {
  const std::string mark = source.json.value("replacement", std::string("\xe2\x96\x81"));
  std::string scheme = source.json.value("prepend_scheme", std::string());
  if (scheme.empty()) scheme = source.json.value("add_prefix_space", true) ? "always" : "never";
  return [mark, drop_first = scheme != "never"](std::vector<std::string>& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string out;
      for (std::size_t at = 0; at < tokens[i].size();) {
        if (tokens[i].compare(at, mark.size(), mark) == 0) {
          if (!(i == 0 && drop_first)) out += ' ';
          at += mark.size();
        } else {
          out += tokens[i][at++];
        }
      }
      tokens[i] = std::move(out);
    }
  };
}

}  // namespace

Result<Decode> make_decoder(const StageSource& source) {
  const std::string type = stage_type(source);
  if (type == "ByteLevel") return Decode(byte_level);
  if (type == "ByteFallback") return Decode(byte_fallback);
  if (type == "Fuse")
    return Decode([](std::vector<std::string>& tokens) { tokens = {join(tokens)}; });
  if (type == "Replace") return replace(source);
  if (type == "Strip") return strip(source);
  if (type == "Metaspace") return metaspace(source);
  if (type == "Sequence") {
    std::vector<Decode> steps;
    for (const auto& step : source.json.value("decoders", nlohmann::json::array())) {
      auto made = make_decoder({step, source.where});
      if (!made) return made;
      steps.push_back(std::move(*made));
    }
    return Decode([steps = std::move(steps)](std::vector<std::string>& tokens) {
      for (const auto& step : steps) step(tokens);
    });
  }
  return unsupported_stage(source, "ByteLevel ByteFallback Fuse Replace Strip Metaspace Sequence");
}

}  // namespace strata::text
