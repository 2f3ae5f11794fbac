#include <array>

#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

// One line a verb, in the order of the help text.
constexpr std::array kVerbs{
    run_verb,
    coordinator_verb,
    client_verb,
    status_verb,
    audit_verb,
    inspect_verb,
    replay_verb,
    pretrain_verb,
    eval_verb,
    generate_verb,
    merge_verb,
    export_verb,
    import_verb,
    tokenize_verb,
    tokenizer_train_verb,
    data_preview_verb,
    schema_verb,
    certs_init_verb,
    certs_request_verb,
    certs_approve_verb,
    certs_install_verb,
    certs_revoke_verb,
    certs_list_verb,
    certs_verify_verb,
    certs_demo_verb,
    privacy_plan_verb,
    privacy_epsilon_verb,
    privacy_calibrate_verb,
    privacy_audit_verb,
    privacy_verify_verb,
    privacy_ledger_init_verb,
    privacy_ledger_show_verb,
    privacy_ledger_verify_verb,
    bench_train_verb,
    bench_gemm_verb,
    bench_round_verb,
};

}  // namespace

std::vector<Verb> all_verbs() {
  std::vector<Verb> out;
  out.reserve(kVerbs.size());
  for (const auto make : kVerbs) out.push_back(make());
  return out;
}

}  // namespace strata::cli
