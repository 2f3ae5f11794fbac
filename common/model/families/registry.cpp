#include <array>

#include "model/families/config_reader.h"
#include "model/families/gpt2.h"
#include "model/families/llama.h"
#include "model/families/vit.h"
#include "model/family.h"

namespace strata::model {
namespace {

constexpr std::array kFamilies{
    FamilyEntry{"llama", "Llama 2/3, SmolLM2, TinyLlama", kLlamaNames, parse_llama},
    FamilyEntry{"mistral", "Llama with a sliding window", kLlamaNames, parse_mistral},
    FamilyEntry{"qwen2", "Qwen2/2.5: biases on q, k and v", kLlamaNames, parse_qwen2},
    FamilyEntry{"qwen3", "Qwen3: RMSNorm on q and k", kLlamaNames, parse_qwen3},
    FamilyEntry{"gpt2", "GPT-2", kGpt2Names, parse_gpt2},
    FamilyEntry{"vit", "vision transformers that classify images", kVitNames, parse_vit},
};

}  // namespace

std::span<const FamilyEntry> families() { return kFamilies; }

Result<const FamilyEntry*> find_family(std::string_view json, const std::string& where) {
  ConfigReader in(json, where);
  const std::string type = in.text("model_type", "");
  if (in.error()) return tl::unexpected<Error>(*in.error());
  for (const auto& family : kFamilies) {
    if (family.model_type == type) return &family;
  }
  std::string rule = "supported:";
  for (const auto& family : kFamilies) rule += " " + std::string(family.model_type);
  return fail({.code = type.empty() ? ErrorCode::kFormat : ErrorCode::kUnsupported,
               .what = type.empty() ? "is missing" : "is \"" + printable(type, 60) + "\"",
               .where = where + ": model_type",
               .rule = rule});
}

}  // namespace strata::model
