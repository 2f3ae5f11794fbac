#include "evaluation/exact_match.h"

#include <atomic>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "evaluation/generate.h"

namespace strata::evaluation {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// What is asked of the model, and what it should answer.
struct Question {
  std::vector<std::int32_t> prompt;
  std::string reference;
};

Result<Question> question_of(const text::ExampleBuilder& builder, const text::Record& record) {
  auto prompt = builder.build_prompt(record);
  if (!prompt) return fail(std::move(prompt).error());
  if (prompt->reference.empty()) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "has no reference answer",
                 .where = record.source,
                 .rule = "exact match needs records with a prompt and an answer",
                 .remedy = "set evaluation.exact_match to false"});
  }
  return Question{std::move(prompt->tokens), std::move(prompt->reference)};
}

}  // namespace

Result<void> check_references(const text::ExampleBuilder& builder,
                              std::span<const text::Record> records) {
  for (const auto& record : records) {
    if (auto question = question_of(builder, record); !question)
      return fail(std::move(question).error());
  }
  return {};
}

bool matches(std::string_view answer, std::string_view reference) {
  reference = trimmed(reference);
  answer = trimmed(answer);
  if (reference.find('\n') == std::string_view::npos)
    answer = trimmed(answer.substr(0, answer.find('\n')));
  return answer == reference;
}

double ExactMatchReport::share() const {
  if (matched.empty()) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(std::accumulate(matched.begin(), matched.end(), std::size_t{0})) /
         static_cast<double>(matched.size());
}

Result<ExactMatchReport> exact_match(const model::Model& model, const adapter::AdapterSet* adapters,
                                     const text::ModelText& text,
                                     const text::ExampleBuilder& builder,
                                     std::span<const text::Record> records,
                                     const ExactMatchOptions& options) {
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<std::string> references;
  for (const auto& record : records) {
    auto question = question_of(builder, record);
    if (!question) return fail(std::move(question).error());
    if (auto ok = check_prompt(model, question->prompt, record.source); !ok)
      return fail(std::move(ok).error());
    prompts.push_back(std::move(question->prompt));
    references.push_back(std::move(question->reference));
  }
  ExactMatchReport report;
  report.answers.resize(records.size());
  report.matched.resize(records.size());
  constexpr std::size_t kGroup = 16;
  std::atomic<std::size_t> next{0};
  std::mutex lock;
  std::optional<Error> error;
  const auto work = [&] {
    model::Workspace workspace(options.threads_per_worker);
    for (std::size_t first = kGroup * next++; first < prompts.size(); first = kGroup * next++) {
      const std::size_t count = std::min(kGroup, prompts.size() - first);
      auto answers = generate(model, adapters, std::span(prompts).subspan(first, count),
                              {.max_new_tokens = options.max_new_tokens,
                               .stops = text.stops,
                               .batch = kGroup,
                               .stopped = options.stopped},
                              workspace);
      if (!answers) {
        const std::scoped_lock guard(lock);
        error = answers.error();
        return;
      }
      for (std::size_t i = 0; i < count; ++i) {
        report.answers[first + i] = text.tokenizer.decode((*answers)[i], true);
        report.matched[first + i] =
            matches(report.answers[first + i], references[first + i]) ? 1 : 0;
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int w = 0; w < std::max(1, options.workers); ++w) threads.emplace_back(work);
  }
  if (error) return tl::unexpected<Error>(*error);
  return report;
}

}  // namespace strata::evaluation
