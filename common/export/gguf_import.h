#pragma once
// A GGUF model as a Hugging Face folder: config.json, model.safetensors, tokenizer.json,
// tokenizer_config.json, generation_config.json, chat_template.jinja. Weights are dequantised; q
// and k rows of llama models go back from llama.cpp's interleaved rotary layout to the half-split
// one. No thread rules.
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"
#include "tensor/dtype.h"

namespace strata::exporting {

struct ImportOptions {
  tensor::DType dtype = tensor::DType::kBF16;  // of the written tensors: kBF16 or kF32
  bool force = false;
};

struct ImportReport {
  std::string architecture;
  std::string name;
  std::size_t tensors = 0;
  std::size_t parameters = 0;
};

/// Writes the folder whole or not at all. kUnsupported for architectures other than llama, qwen2
/// and qwen3, rotary scalings or tokenizers that cannot be said in a Hugging Face folder; kFormat
/// for damaged files; each naming file and key or tensor.
[[nodiscard]] Result<ImportReport> import_gguf(sys::Disk& disk, const std::filesystem::path& gguf,
                                               const std::filesystem::path& out,
                                               const ImportOptions& options);

}  // namespace strata::exporting
