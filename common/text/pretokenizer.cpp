#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/regex.h"
#include "text/text_stage.h"
#include "text/unicode.h"

namespace strata::text {
namespace {

using Ranges = std::vector<std::pair<std::size_t, std::size_t>>;

enum class Behaviour { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct Span {
  std::size_t begin;
  std::size_t end;
  bool match;
};

// The text as alternating spans, matches marked (or the gaps, when inverted).
std::vector<Span> cover(std::string_view text, const Ranges& matches, bool invert) {
  std::vector<Span> out;
  std::size_t at = 0;
  for (const auto& [begin, end] : matches) {
    if (begin > at) out.push_back({at, begin, invert});
    out.push_back({begin, end, !invert});
    at = end;
  }
  if (at < text.size()) out.push_back({at, text.size(), invert});
  return out;
}

std::vector<Span> merged_with_previous(const std::vector<Span>& spans) {
  std::vector<Span> out;
  bool previous_match = false;
  for (const Span& span : spans) {
    if (span.match && !previous_match && !out.empty()) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
    previous_match = span.match;
  }
  return out;
}

std::vector<Span> merged_with_next(const std::vector<Span>& spans) {
  std::vector<Span> out;
  bool previous_match = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->match && !previous_match && !out.empty()) {
      out.back().begin = span->begin;
    } else {
      out.push_back(*span);
    }
    previous_match = span->match;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<Span> behave(const std::vector<Span>& spans, Behaviour behaviour) {
  switch (behaviour) {
    case Behaviour::kIsolated:
      return spans;
    case Behaviour::kMergedWithPrevious:
      return merged_with_previous(spans);
    case Behaviour::kMergedWithNext:
      return merged_with_next(spans);
    case Behaviour::kRemoved: {
      std::vector<Span> out;
      std::copy_if(spans.begin(), spans.end(), std::back_inserter(out),
                   [](const Span& s) { return !s.match; });
      return out;
    }
    case Behaviour::kContiguous: {
      std::vector<Span> out;
      for (const Span& span : spans) {
        if (!out.empty() && out.back().match == span.match) {
          out.back().end = span.end;
        } else {
          out.push_back(span);
        }
      }
      return out;
    }
  }
  return spans;
}

template <class Find>
void split(std::vector<TextPart>& parts, Behaviour behaviour, bool invert, const Find& find) {
  std::vector<TextPart> out;
  for (const TextPart& part : parts) {
    for (const Span& span : behave(cover(part.text, find(part.text), invert), behaviour)) {
      if (span.end > span.begin)
        out.push_back({part.text.substr(span.begin, span.end - span.begin),
                       part.at_start && span.begin == 0});
    }
  }
  parts = std::move(out);
}

// Every character of a class as a match of its own.
template <class Is>
auto each_character(const Is& is) {
  return [is](std::string_view text) {
    Ranges out;
    for (std::size_t at = 0; at < text.size();) {
      const auto c = character_at(text, at);
      if (is(c.code)) out.emplace_back(at, at + c.bytes);
      at += c.bytes;
    }
    return out;
  };
}

// \w+|[^\w\s]+
Ranges words_and_marks(std::string_view text) {
  Ranges out;
  int running = 0;  // 1: word, 2: neither word nor space
  for (std::size_t at = 0; at < text.size();) {
    const auto c = character_at(text, at);
    const int kind = is_word(c.code) ? 1 : (is_white_space(c.code) ? 0 : 2);
    if (kind != 0 && kind == running) {
      out.back().second = at + c.bytes;
    } else if (kind != 0) {
      out.emplace_back(at, at + c.bytes);
    }
    running = kind;
    at += c.bytes;
  }
  return out;
}

Result<Behaviour> behaviour_of(const StageSource& source, std::string_view fallback) {
  const std::string name = source.json.value("behavior", std::string(fallback));
  if (name == "Removed") return Behaviour::kRemoved;
  if (name == "Isolated") return Behaviour::kIsolated;
  if (name == "MergedWithPrevious") return Behaviour::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behaviour::kMergedWithNext;
  if (name == "Contiguous") return Behaviour::kContiguous;
  return fail({.code = ErrorCode::kUnsupported,
               .what = "behavior \"" + printable(name, 40) + "\"",
               .where = source.where,
               .rule = "supported: Removed Isolated MergedWithPrevious MergedWithNext Contiguous"});
}

// GPT-2's expression; then every byte becomes a printable character.
Result<PreTokenize> byte_level(const StageSource& source) {
  auto regex = Regex::compile(kGpt2Words, source.where);
  if (!regex) return fail(std::move(regex).error());
  return PreTokenize(
      [regex = std::move(*regex), prefix = source.json.value("add_prefix_space", true),
       use_regex = source.json.value("use_regex", true)](std::vector<TextPart>& parts) {
        for (TextPart& part : parts) {
          if (prefix && !part.text.starts_with(' ')) part.text.insert(0, " ");
        }
        if (use_regex)
          split(parts, Behaviour::kIsolated, false,
                [&](std::string_view text) { return regex.find_all(text); });
        const auto& characters = byte_characters();
        for (TextPart& part : parts) {
          std::string mapped;
          mapped.reserve(part.text.size() + 8);
          for (const char c : part.text) mapped += characters[static_cast<unsigned char>(c)];
          part.text = std::move(mapped);
        }
      });
}

Result<PreTokenize> metaspace(const StageSource& source) {
  const std::string mark = source.json.value("replacement", std::string("\xe2\x96\x81"));
  std::string scheme = source.json.value("prepend_scheme", std::string());
  if (scheme.empty())
    scheme = source.json.value("add_prefix_space", true) ? "always"
                                                         : "never";  // files of older versions
  const bool cut = source.json.value("split", true);
  return PreTokenize([=](std::vector<TextPart>& parts) {
    for (TextPart& part : parts) {
      std::string replaced;
      for (const char c : part.text) {
        if (c == ' ') {
          replaced += mark;
        } else {
          replaced += c;
        }
      }
      const bool wanted = scheme == "always" || (scheme == "first" && part.at_start);
      part.text = wanted && !replaced.starts_with(mark) ? mark + replaced : std::move(replaced);
    }
    if (!cut) return;
    split(parts, Behaviour::kMergedWithNext, false, [&](std::string_view text) {
      Ranges out;
      for (std::size_t at = text.find(mark); at != std::string_view::npos;
           at = text.find(mark, at + mark.size())) {
        out.emplace_back(at, at + mark.size());
      }
      return out;
    });
  });
}

Result<PreTokenize> sequence(const StageSource& source) {
  std::vector<PreTokenize> steps;
  for (const auto& step : source.json.value("pretokenizers", nlohmann::json::array())) {
    auto made = make_pretokenizer({step, source.where});
    if (!made) return made;
    steps.push_back(std::move(*made));
  }
  return PreTokenize([steps = std::move(steps)](std::vector<TextPart>& parts) {
    for (const auto& step : steps) step(parts);
  });
}

Result<PreTokenize> split_stage(const StageSource& source) {
  auto behaviour = behaviour_of(source, "Isolated");
  if (!behaviour) return fail(std::move(behaviour).error());
  auto find = make_pattern(source);
  if (!find) return fail(std::move(find).error());
  return PreTokenize([behaviour = *behaviour, invert = source.json.value("invert", false),
                      find = std::move(*find)](std::vector<TextPart>& parts) {
    split(parts, behaviour, invert, find);
  });
}

}  // namespace

Result<PreTokenize> make_pretokenizer(const StageSource& source) {
  const std::string type = stage_type(source);
  if (type == "ByteLevel") return byte_level(source);
  if (type == "Metaspace") return metaspace(source);
  if (type == "Sequence") return sequence(source);
  if (type == "Split") return split_stage(source);
  if (type == "Digits") {
    const auto behaviour = source.json.value("individual_digits", false) ? Behaviour::kIsolated
                                                                         : Behaviour::kContiguous;
    return PreTokenize([=](std::vector<TextPart>& parts) {
      split(parts, behaviour, false, each_character(is_numeric));
    });
  }
  if (type == "Whitespace") {
    return PreTokenize([](std::vector<TextPart>& parts) {
      split(parts, Behaviour::kRemoved, true, words_and_marks);
    });
  }
  if (type == "WhitespaceSplit") {
    return PreTokenize([](std::vector<TextPart>& parts) {
      split(parts, Behaviour::kRemoved, false, each_character(is_white_space));
    });
  }
  if (type == "Punctuation") {
    auto behaviour = behaviour_of(source, "Isolated");
    if (!behaviour) return fail(std::move(behaviour).error());
    return PreTokenize([b = *behaviour](std::vector<TextPart>& parts) {
      split(parts, b, false, each_character(is_punctuation));
    });
  }
  return unsupported_stage(
      source, "ByteLevel Metaspace Split Digits Whitespace WhitespaceSplit Punctuation Sequence");
}

}  // namespace strata::text
