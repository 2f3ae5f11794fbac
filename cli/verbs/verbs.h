#pragma once
// Every command's maker, for registry.cpp only.
#include "cli/verb.h"

namespace strata::cli {

Verb run_verb();
Verb pretrain_verb();
Verb eval_verb();
Verb generate_verb();
Verb merge_verb();
Verb export_verb();
Verb import_verb();
Verb bench_train_verb();
Verb bench_gemm_verb();
Verb tokenize_verb();
Verb data_preview_verb();
Verb schema_verb();

}  // namespace strata::cli
