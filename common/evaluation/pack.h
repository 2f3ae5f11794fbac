#pragma once
// Examples into the batches that a model takes.
#include "model/batch.h"
#include "text/example.h"

namespace strata::evaluation {

inline void pack(model::PackedBatch& batch, const text::Example& example) {
  if (example.is_image()) {
    batch.add_image(example.tokens.size(), example.pixels, example.label);
  } else {
    batch.add(example.tokens, example.trained);
  }
}

}  // namespace strata::evaluation
