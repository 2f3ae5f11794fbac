#pragma once
// Records into token ids with marks of what is trained, and a count of what became of them.
//
//   record              text that is tokenised                   trained (completion_only)
//   text                text + eos                               all of it
//   prompt/completion   plain: prompt + separator + completion   completion + eos
//                       + eos
//                       other: a user and an assistant           the answer, its turn's end
//                       message, by template
//   instruction/output  plain: instruction \n [input \n]         output + eos
//                       output + eos
//                       alpaca: its prompt, with or without      output + eos
//                       input; other: as prompt/completion
//   messages            by template                              assistant messages
//   input_ids           as they are                              labels other than -100
//
// Start (and end) tokens are those of the tokenizer's own post-processor, except where a template
// writes them itself. Ids equal those of the whole text tokenised at once whenever what is trained
// begins and ends between two of its tokens; otherwise (some completions that begin inside a word)
// the parts are tokenised apart, as they are when generating, and the record is counted in
// `tokenized_apart`.
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/example.h"
#include "text/model_text.h"
#include "text/record.h"

namespace strata::text {

struct BuildOptions {
  std::size_t max_length = 1024;  // tokens of one example; longer ones lose their end
  bool completion_only = true;    // false: every token of a record is trained
  std::string separator;          // plain template: between a prompt and its completion
};

/// What became of the records of one client or file. Sums over records; add with +=.
struct DataReport {
  std::size_t records = 0;          // read
  std::size_t examples = 0;         // kept
  std::size_t dropped = 0;          // nothing left to train on
  std::size_t truncated = 0;        // kept, but cut at max_length
  std::size_t tokens = 0;           // of the kept
  std::size_t trained_tokens = 0;   // of the kept
  std::size_t cut_tokens = 0;       // lost to truncation, in kept and dropped
  std::size_t tokenized_apart = 0;  // see above
  DataReport& operator+=(const DataReport& other);
  /// "120 records: 118 kept (4 cut at 512 tokens, 96 tokens lost), 2 dropped (nothing to train on),
  /// 9012 tokens, 4100 trained"
  [[nodiscard]] std::string line(std::size_t max_length) const;
};

struct Examples {
  std::vector<Example> examples;
  DataReport report;
};

/// A question for the model and the answer the data gives.
struct Prompt {
  std::vector<TokenId> tokens;  // ends where the answer begins
  std::string reference;        // as written; empty when the record has none
};

/// Holds references to `model` only. Immutable; may be used by several threads.
class ExampleBuilder {
 public:
  ExampleBuilder(const ModelText& model, BuildOptions options);

  /// One record before truncation. kData: the tokenizer or template refuses it, or an id is outside
  /// the vocabulary.
  [[nodiscard]] Result<Example> build(const Record& record) const;
  /// All records with truncation and dropping. `who` ("client north", "held-out data") and `path`
  /// name them in errors. kData: there is no record, or none has a token to train on.
  [[nodiscard]] Result<Examples> build_all(std::span<const Record> records, std::string_view who,
                                           std::string_view path) const;
  /// The part before the last answer, in the form that asks for it. A `text` record is all
  /// question. kUnsupported for input_ids.
  [[nodiscard]] Result<Prompt> build_prompt(const Record& record) const;

  [[nodiscard]] const BuildOptions& options() const { return options_; }
  /// What the tokenizer's post-processor puts before a text and after it.
  [[nodiscard]] std::span<const TokenId> start() const { return start_; }
  [[nodiscard]] std::span<const TokenId> end() const { return end_; }

 private:
  struct Rendered {
    std::vector<Piece> pieces;
    bool has_own_start = false;
  };
  struct Tokenized {
    std::vector<TokenId> tokens;
    std::vector<std::uint8_t> trained;
    bool apart = false;
  };
  [[nodiscard]] Result<Rendered> render(const Record& record) const;
  [[nodiscard]] Result<Tokenized> tokenize(const Record& record) const;
  [[nodiscard]] Result<Tokenized> tokenize_pieces(std::span<const Piece> pieces) const;
  [[nodiscard]] Result<Tokenized> checked_ids(const Record& record) const;
  void add_ends(Tokenized& tokenized, bool has_own_start) const;

  const ModelText& model_;
  BuildOptions options_;
  std::vector<TokenId> start_;  // what the post-processor puts before a text
  std::vector<TokenId> end_;    // and after it
};

}  // namespace strata::text
