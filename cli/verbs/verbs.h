#pragma once
// Every command's maker, for registry.cpp only.
#include "cli/verb.h"

namespace strata::cli {

Verb run_verb();
Verb coordinator_verb();
Verb client_verb();
Verb status_verb();
Verb audit_verb();
Verb inspect_verb();
Verb replay_verb();
Verb pretrain_verb();
Verb eval_verb();
Verb generate_verb();
Verb merge_verb();
Verb export_verb();
Verb import_verb();
Verb bench_train_verb();
Verb bench_gemm_verb();
Verb bench_round_verb();
Verb privacy_plan_verb();
Verb privacy_epsilon_verb();
Verb privacy_calibrate_verb();
Verb privacy_audit_verb();
Verb privacy_verify_verb();
Verb privacy_ledger_init_verb();
Verb privacy_ledger_show_verb();
Verb privacy_ledger_verify_verb();
Verb tokenize_verb();
Verb tokenizer_train_verb();
Verb data_preview_verb();
Verb schema_verb();
Verb certs_init_verb();
Verb certs_request_verb();
Verb certs_approve_verb();
Verb certs_install_verb();
Verb certs_revoke_verb();
Verb certs_list_verb();
Verb certs_verify_verb();
Verb certs_demo_verb();

}  // namespace strata::cli
