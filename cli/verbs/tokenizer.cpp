// strata tokenizer train: a byte-level BPE tokenizer learnt from text, as a Hugging Face folder.
#include <fmt/format.h>

#include <set>

#include "cli/data_preview.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "formats/atomic_folder.h"
#include "text/corpus.h"
#include "text/tokenizer_file.h"

namespace strata::cli {
namespace {

struct Options {
  std::vector<std::string> data;
  std::vector<std::string> fields;
  std::string output;
  std::string eos_token = "<|endoftext|>";
  std::string bos_token;  // empty: as eos
  std::vector<std::string> special_tokens;
  text::BpeTrainOptions training;
  bool force = false;
};

struct Trained {
  text::CorpusReport corpus;
  std::size_t distinct_words = 0;
  text::TrainedBpe bpe;
  std::uint64_t tokens = 0;  // of the whole corpus
};

Result<Trained> learn(const Options& options, const text::BpeTrainOptions& training,
                      const Context& context) {
  auto fields = field_map(options.fields);
  if (!fields) return fail(std::move(fields).error());
  const std::vector<std::filesystem::path> inputs(options.data.begin(), options.data.end());
  const auto files = text::find_corpus(context.disk, inputs);
  if (!files) return fail(files.error());
  auto counts = text::WordCounts::make();
  if (!counts) return fail(std::move(counts).error());
  const auto corpus =
      text::read_corpus(context.disk, *files, *fields, [&](std::string_view document) {
        counts->add(document);
        if (!context.stopped()) return Result<void>{};
        return Result<void>(fail({.code = ErrorCode::kInterrupted,
                                  .what = "stopped while reading the text",
                                  .remedy = "nothing was written; start again"}));
      });
  if (!corpus) return fail(corpus.error());
  auto bpe = text::train_bpe(*counts, training);
  if (!bpe) return fail(std::move(bpe).error());
  const auto tokens = text::count_tokens(*counts, *bpe);
  if (!tokens) return fail(tokens.error());
  return Trained{.corpus = *corpus,
                 .distinct_words = counts->words().size(),
                 .bpe = *std::move(bpe),
                 .tokens = *tokens};
}

VerbOutput described(const Options& options, std::size_t special, const Trained& trained) {
  const std::size_t size = trained.bpe.tokens.size();
  const double bytes_per_token =
      static_cast<double>(trained.corpus.bytes) / static_cast<double>(trained.tokens);
  VerbOutput out;
  out.data = {{"output", options.output},
              {"files", trained.corpus.files},
              {"documents", trained.corpus.documents},
              {"bytes", trained.corpus.bytes},
              {"distinct_words", trained.distinct_words},
              {"vocab_size", size},
              {"special_tokens", special},
              {"merges", trained.bpe.merges.size()},
              {"tokens", trained.tokens},
              {"bytes_per_token", bytes_per_token}};
  out.text = table({{"text", bytes_text(static_cast<double>(trained.corpus.bytes))},
                    {"files", std::to_string(trained.corpus.files)},
                    {"documents", std::to_string(trained.corpus.documents)},
                    {"distinct words", std::to_string(trained.distinct_words)},
                    {"vocabulary", std::to_string(size)},
                    {"special tokens", std::to_string(special)},
                    {"merges", std::to_string(trained.bpe.merges.size())},
                    {"tokens of the text", std::to_string(trained.tokens)},
                    {"bytes per token", number_text(bytes_per_token, 2)}});
  if (size < options.training.vocab_size) {
    out.text += fmt::format("{} tokens fewer than asked for: no other pair occurs {} times\n",
                            options.training.vocab_size - size, options.training.min_frequency);
  }
  out.text +=
      fmt::format("written {}; a config.json for it has vocab_size {}\n", options.output, size);
  return out;
}

Result<VerbOutput> train(const Options& options, Context& context) {
  if (auto free = formats::check_free(context.disk, options.output, options.force); !free)
    return fail(std::move(free).error());
  const std::string bos = options.bos_token.empty() ? options.eos_token : options.bos_token;
  auto training = options.training;
  training.stopped = context.stopped;
  auto& special = training.special_tokens;
  special = {options.eos_token, bos};
  special.insert(special.end(), options.special_tokens.begin(), options.special_tokens.end());
  if (auto fine = text::check_options(training); !fine) return fail(std::move(fine).error());
  auto trained = learn(options, training, context);
  if (!trained) return fail(std::move(trained).error());
  auto written = formats::write_folder(
      context.disk, options.output, options.force,
      [&](const std::filesystem::path& folder) -> Result<void> {
        auto done = context.disk.write_atomic(folder / "tokenizer.json",
                                              text::tokenizer_json(trained->bpe, special));
        if (!done) return done;
        return context.disk.write_atomic(folder / "tokenizer_config.json",
                                         text::tokenizer_config_json(bos, options.eos_token));
      });
  if (!written) return fail(std::move(written).error());
  const std::set<std::string> different(special.begin(), special.end());
  return described(options, different.size(), *trained);
}

}  // namespace

Verb tokenizer_train_verb() {
  return {.name = "tokenizer train",
          .help = "learn a byte-level BPE tokenizer from text",
          .example = "strata tokenizer train corpus/ more.jsonl --vocab-size 8192 -o models/base",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            auto& training = options->training;
            command
                .add_option("data", options->data,
                            "text files, files of records (.jsonl, .json), folders of them")
                ->required();
            command.add_option("-o,--output-dir", options->output, "folder to write")->required();
            command.add_option("--vocab-size", training.vocab_size,
                               "tokens at most, special ones and 256 bytes included (30000)");
            command
                .add_option("--min-frequency", training.min_frequency,
                            "how often a pair must occur to become a token (2)")
                ->check(CLI::PositiveNumber);
            command.add_option("--eos-token", options->eos_token,
                               "special token that ends a text (<|endoftext|>)");
            command.add_option("--bos-token", options->bos_token,
                               "special token that begins a text (that of --eos-token)");
            // One value a flag: what follows it is data.
            command
                .add_option("--special-token", options->special_tokens,
                            "one more special token; repeatable")
                ->allow_extra_args(false);
            command
                .add_option("--field", options->fields,
                            "NAME=KEY: the records' key for text, prompt, ...; repeatable")
                ->allow_extra_args(false);
            command.add_flag("--force", options->force, "replace an existing folder");
            return [options](Context& context) { return train(*options, context); };
          }};
}

}  // namespace strata::cli
