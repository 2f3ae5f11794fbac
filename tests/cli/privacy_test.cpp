// strata privacy: the numbers of the accountants through the command line, and bad input in one
// line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;
using Args = std::vector<std::string>;

json data_of(Args args) {
  args.insert(args.end(), {"--format", "json"});
  const Finished finished = strata(args);
  EXPECT_EQ(finished.status, 0) << finished.out << finished.err;
  return json::parse(finished.out).at("data");
}

Args epsilon(const Args& more) {
  Args out{"privacy", "epsilon", "--delta", "1e-5"};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

// The single release of tests/golden/privacy: q 0.01, z 1, 1000 steps.
Args usual(const Args& more = {}) {
  Args out = epsilon({"--noise-multiplier", "1", "--sampling-rate", "0.01", "--steps", "1000"});
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

TEST(PrivacyEpsilon, GivesBothBoundsAndTheOneAskedForAsTheAnswer) {
  const json pld = data_of(usual());
  EXPECT_NEAR(pld.at("epsilon").get<double>(), 1.8283, 1e-3);
  EXPECT_EQ(pld.at("accountant"), "pld");
  EXPECT_EQ(pld.at("accountants").at("pld").at("epsilon"), pld.at("epsilon"));
  const json rdp = data_of(usual({"--accountant", "rdp"}));
  EXPECT_NEAR(rdp.at("epsilon").get<double>(), 2.1, 0.02);
  EXPECT_EQ(rdp.at("accountants").at("pld").at("epsilon"), pld.at("epsilon"));
  const Finished text = strata(usual());
  EXPECT_THAT(text.out, HasSubstr("pld"));
  EXPECT_THAT(text.out, HasSubstr("rdp"));
  EXPECT_THAT(text.out, HasSubstr("1.828"));
}

TEST(PrivacyEpsilon, TakesPhasesAndAdjacencies) {
  const std::string list = R"([{"noise_multiplier":1,"sampling_rate":0.01,"steps":400},)"
                           R"({"noise_multiplier":1,"sampling_rate":0.01,"steps":600}])";
  EXPECT_NEAR(data_of(epsilon({"--phases", list})).at("epsilon").get<double>(),
              data_of(usual()).at("epsilon").get<double>(), 1e-9);
  const json laplace = data_of(epsilon({"--phases", R"([{"laplace_scale":1,"steps":1}])"}));
  EXPECT_NEAR(laplace.at("epsilon").get<double>(), 0.99998, 1e-4);
  EXPECT_EQ(data_of(usual({"--adjacency", "zero_out"})).at("epsilon"),
            data_of(usual()).at("epsilon"));
  const json swapped = data_of(usual({"--adjacency", "replace_one"}));
  EXPECT_GT(swapped.at("epsilon").get<double>(), 1.5 * 1.8283);
  EXPECT_TRUE(swapped.at("accountants").at("rdp").at("epsilon").is_null());
  EXPECT_THAT(swapped.at("accountants").at("rdp").at("refused").get<std::string>(),
              HasSubstr("replace_one"));
}

TEST(PrivacyEpsilon, WithoutNoiseIsInfiniteAndNotANumber) {
  const json none =
      data_of(epsilon({"--noise-multiplier", "0", "--sampling-rate", "0.01", "--steps", "1"}));
  EXPECT_TRUE(none.at("epsilon").is_null());
  EXPECT_EQ(none.at("finite"), false);
  const json nothing =
      data_of(epsilon({"--noise-multiplier", "1", "--sampling-rate", "0", "--steps", "1"}));
  EXPECT_EQ(nothing.at("epsilon"), 0.0);
}

TEST(PrivacyCalibrate, FindsNoiseWhoseEpsilonIsTheOneItPrints) {
  const json found = data_of({"privacy", "calibrate", "--epsilon", "1", "--delta", "1e-5",
                              "--sampling-rate", "0.01", "--steps", "1000"});
  const double z = found.at("noise_multiplier");
  EXPECT_NEAR(z, 1.4155, 1e-3);
  EXPECT_LE(found.at("epsilon").get<double>(), 1.0);
  const json back = data_of(epsilon({"--noise-multiplier", found.at("noise_multiplier").dump(),
                                     "--sampling-rate", "0.01", "--steps", "1000"}));
  EXPECT_EQ(back.at("epsilon"), found.at("epsilon"));
}

TEST(PrivacyBadInput, IsOneLineThatNamesTheValue) {
  struct Bad {
    Args args;
    int status;
    std::string what;
  };
  const auto phases = [](const std::string& list) { return epsilon({"--phases", list}); };
  for (const Bad& bad : std::vector<Bad>{
           {epsilon({}), 2, "nothing says what is released"},
           {epsilon({"--steps", "3"}), 2, "a value is missing"},
           {usual({"--phases", "[]"}), 2, "both given"},
           {phases("[]"), 2, "--phases is empty"},
           {phases("[1"), 2, "--phases"},
           {phases(R"([{"noise_multiplier":1,"steps":3}])"), 2, "phases[0]: has no sampling_rate"},
           {phases(R"([{"noise_multiplier":1,"laplace_scale":1,"steps":3}])"), 2, "both kinds"},
           {phases(R"([{"laplace_scale":1,"sampling_rate":0.5,"steps":3}])"), 2,
            "has a sampling_rate"},
           {phases(R"([{"steps":3}])"), 2, "has no noise"},
           {phases(R"([{"laplace_scale":1}])"), 2, "steps"},
           {phases(R"([{"laplace_scale":1,"steps":1,"stps":1}])"), 2, "stps"},
           {phases(R"([{"laplace_scale":-1,"steps":1}])"), 3, "the Laplace scale is -1"},
           {usual({"--sampling-rate", "1.5"}), 2, ""},
           {usual({"--accountant", "gdp"}), 2, "gdp"},
           {usual({"--accountant", "rdp", "--adjacency", "replace_one"}), 7, "pld"},
           {{"privacy", "epsilon", "--noise-multiplier", "1", "--sampling-rate", "0.1", "--steps",
             "2.5", "--delta", "1e-5"},
            3,
            "releases is 2.5"},
           {{"privacy", "epsilon", "--noise-multiplier", "nan", "--sampling-rate", "0.1", "--steps",
             "2", "--delta", "1e-5"},
            3,
            "noise multiplier is nan"},
           {{"privacy", "calibrate", "--epsilon", "-1", "--delta", "1e-5", "--sampling-rate",
             "0.01", "--steps", "10"},
            3,
            "target epsilon is -1"}}) {
    const Finished finished = strata(bad.args);
    EXPECT_EQ(finished.status, bad.status) << bad.what << ": " << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(bad.what));
    EXPECT_THAT(finished.out, testing::IsEmpty());
  }
}

}  // namespace
}  // namespace strata::cli
