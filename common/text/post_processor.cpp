#include <nlohmann/json.hpp>

#include "text/text_stage.h"

namespace strata::text {
namespace {

using nlohmann::json;

// [cls] text [sep]
Result<Surround> cls_sep(const StageSource& source) {
  Surround out;
  for (const auto& [key, side] : {std::pair{"cls", &out.before}, std::pair{"sep", &out.after}}) {
    const auto found = source.json.find(key);
    if (found == source.json.end() || !found->is_array() || found->size() != 2 ||
        !(*found)[1].is_number_integer()) {
      return fail({.code = ErrorCode::kFormat,
                   .what = std::string(key) + " is not [token, id]",
                   .where = source.where});
    }
    side->push_back((*found)[1].get<Id>());
  }
  return out;
}

Result<Surround> from_template(const StageSource& source,
                               const std::function<Id(std::string_view)>& id_of) {
  Surround out;
  bool behind = false;
  const auto specials = source.json.value("special_tokens", json::object());
  for (const auto& item : source.json.value("single", json::array())) {
    if (item.is_object() && item.contains("Sequence")) {
      behind = true;
      continue;
    }
    const auto special = item.is_object() ? item.find("SpecialToken") : item.end();
    if (!item.is_object() || special == item.end() || !special->is_object() ||
        !special->contains("id")) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "single has an item that is neither Sequence nor SpecialToken",
                   .where = source.where});
    }
    const auto name = (*special)["id"].get<std::string>();
    auto& side = behind ? out.after : out.before;
    const auto found = specials.find(name);
    if (found != specials.end() && found->is_object() && found->contains("ids")) {
      for (const auto& id : (*found)["ids"]) side.push_back(id.get<Id>());
    } else if (const Id id = id_of(name); id >= 0) {
      side.push_back(id);
    } else {
      return fail({.code = ErrorCode::kFormat,
                   .what = "uses the unknown token \"" + printable(name, 60) + "\"",
                   .where = source.where});
    }
  }
  return out;
}

}  // namespace

Result<Surround> make_post_processor(const StageSource& source,
                                     const std::function<Id(std::string_view)>& id_of) {
  const std::string type = stage_type(source);
  if (type == "ByteLevel") return Surround{};  // moves offsets only
  if (type == "TemplateProcessing") return from_template(source, id_of);
  if (type == "RobertaProcessing" || type == "BertProcessing") return cls_sep(source);
  if (type == "Sequence") {
    Surround all;
    for (const auto& step : source.json.value("processors", json::array())) {
      auto made = make_post_processor({step, source.where}, id_of);
      if (!made) return made;
      all.before.insert(all.before.begin(), made->before.begin(), made->before.end());
      all.after.insert(all.after.end(), made->after.begin(), made->after.end());
    }
    return all;
  }
  return unsupported_stage(
      source, "TemplateProcessing ByteLevel RobertaProcessing BertProcessing Sequence");
}

}  // namespace strata::text
