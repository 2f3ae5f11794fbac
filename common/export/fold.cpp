#include "export/fold.h"

#include "adapter/packet.h"

namespace strata::exporting {
namespace {

std::string shape_text(std::size_t d_out, std::size_t d_in) {
  return std::to_string(d_out) + " x " + std::to_string(d_in);
}

Error misfit(const std::string& where, const std::string& module, std::string what,
             std::string rule) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = where + ": " + printable(module),
          .rule = std::move(rule),
          .remedy = "use the base model that the adapter was trained on"};
}

}  // namespace

Result<void> check_fits(const model::Model& model, const PeftAdapter& peft,
                        const std::string& where) {
  for (const auto& [name, module] : peft.modules) {
    const std::size_t at = model.find(name + ".weight");
    if (at == model::kNone) {
      return fail(misfit(where, name, "an adapter for a layer that does not exist",
                         "layers are those of " + model.where()));
    }
    const auto& weight = model.parameters()[at];
    if (weight.d_out() == module.b.rows() && weight.d_in() == module.a.cols()) continue;
    return fail(misfit(
        where, name, "an adapter for " + shape_text(module.b.rows(), module.a.cols()),
        "the layer is " + shape_text(weight.d_out(), weight.d_in()) + " in " + model.where()));
  }
  return {};
}

Result<void> fold_adapter(model::Model& model, const PeftAdapter& peft, const std::string& where,
                          tensor::Team* team) {
  if (auto fits = check_fits(model, peft, where); !fits) return fits;
  auto changes = delta_terms(peft);
  for (auto& [name, delta] : changes) {
    auto& weight = model.parameters()[model.find(name)];
    auto& term = std::get<adapter::LowRank>(delta.terms.front());
    const adapter::PacketTensor change{delta.d_out, delta.d_in,
                                       adapter::Stack{std::move(term.b), std::move(term.a)}};
    adapter::merge(weight.master(), weight.transposed(), change, team);
    weight.refresh();
  }
  return {};
}

}  // namespace strata::exporting
