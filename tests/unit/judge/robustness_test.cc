// Records as a broken disk, a mutation or a hostile hand leaves them: the judge says something
// about each prediction, the same each time, and never ends the process.

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "run_builder.h"

namespace squall::judge {
namespace {

using testing::at;

const char* kPredictions[] = {
    "reads.success >= 99% during fault",
    "p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault",
    "p99.9(reads.latency where reads.status == 200) < 1s during outage from 3s",
    "mean(reads.latency) between 1ms and 2s during recovery",
    "max(p99(reads.latency) each 1s) < 1s during fault",
    "share(reads.status == 503) <= 1% during fault",
    "share(stuck.value > 1) < 50% during fault",
    "time(stuck.value > 3) < 10s during fault",
    "count(reads where reads.status == 503) == 0 during fault",
    "rate(log) < 5/s during fault",
    "stuck.value == 0 for 5s within 30s of revert",
    "stuck.value < 2 * baseline(max(stuck.value)) + 1 during recovery",
    "reads.success >= 99% for 5s within 20s of inject outage",
    "count(reads) / count(writes) > 1 during fault",
    "lost(writes) + duplicated(writes) == 0 at end",
    "stuck.value == 0 at end",
    "api.memory - stuck.value * 1MiB < 1GiB during fault",
};

double wild_number(base::Random& random) {
  switch (random.below(8)) {
    case 0:
      return std::numeric_limits<double>::quiet_NaN();
    case 1:
      return std::numeric_limits<double>::infinity();
    case 2:
      return -std::numeric_limits<double>::infinity();
    case 3:
      return 1e308;
    case 4:
      return -0.0;
    default:
      return (random.uniform() - 0.5) * 10;
  }
}

base::Instant wild_moment(base::Random& random) {
  if (random.below(20) == 0) return base::instant_from_nanoseconds(0);
  return at(std::floor(random.uniform() * 600) / 10);
}

evidence::RequestBucket wild_bucket(base::Random& random) {
  evidence::RequestBucket bucket;
  bucket.start = wild_moment(random);
  for (auto& count : bucket.outcomes) {
    count = static_cast<std::uint32_t>(random.below(random.below(9) == 0 ? 4'000'000'000 : 20));
  }
  bucket.dropped = static_cast<std::uint32_t>(random.below(3));
  for (std::uint64_t i = random.below(30); i > 0; --i) {
    bucket.response_time.add(base::Duration(static_cast<std::int64_t>(random.next() >> 12)));
    bucket.lag.add(base::Duration(static_cast<std::int64_t>(random.below(1'000'000))));
  }
  return bucket;
}

evidence::Series wild_series(base::Random& random, const char* name, evidence::SeriesKind kind) {
  evidence::Series series;
  series.declaration = {name, kind, "", std::string(name, std::strcspn(name, ". "))};
  if (random.below(10) == 0)
    series.declaration.kind = static_cast<evidence::SeriesKind>(random.below(3));
  for (std::uint64_t i = random.below(400); i > 0; --i) {
    series.buckets.push_back(wild_bucket(random));
    series.samples.push_back({wild_moment(random), wild_number(random)});
  }
  for (std::uint64_t i = random.below(50); i > 0; --i) {
    series.writes.push_back(
        {random.below(60), wild_moment(random), static_cast<evidence::WriteFate>(random.below(3))});
    series.read_backs.push_back(
        {random.below(60), random.below(4) != 0, static_cast<std::uint32_t>(random.below(3))});
  }
  // The reader sorts and merges; so much it promises.
  const auto by_start = [](const auto& one, const auto& other) { return one.start < other.start; };
  const auto by_time = [](const auto& one, const auto& other) { return one.at < other.at; };
  std::stable_sort(series.buckets.begin(), series.buckets.end(), by_start);
  std::stable_sort(series.samples.begin(), series.samples.end(), by_time);
  return series;
}

evidence::Record wild_record(base::Random& random) {
  evidence::Record::Content content;
  content.header.boot_start = at(0);
  const char* types[] = {"run.started",
                         "phase.started",
                         "fault.arming",
                         "fault.armed",
                         "fault.effective",
                         "fault.reverting",
                         "fault.reverted",
                         "fault.verified",
                         "fault.failed",
                         "run.finished",
                         "member.restarted",
                         "member.gone",
                         ""};
  const char* subjects[] = {"outage", "second", "baseline", "fault", "recovery", "api", ""};
  const char* details[] = {"",
                           "{",
                           "[]",
                           R"({"expected":false})",
                           R"({"expected":7})",
                           R"({"outcome":"completed"})",
                           R"({"outcome":3})",
                           R"({"still_active":"x"})"};
  for (std::uint64_t i = random.below(40); i > 0; --i) {
    content.events.push_back({wild_moment(random), types[random.below(std::size(types))],
                              subjects[random.below(std::size(subjects))], "text",
                              details[random.below(std::size(details))]});
  }
  using evidence::SeriesKind;
  for (const auto& [name, kind] : std::initializer_list<std::pair<const char*, SeriesKind>>{
           {"reads", SeriesKind::kRequests},
           {"reads where reads.status == 200", SeriesKind::kRequests},
           {"reads where reads.status == 503", SeriesKind::kRequests},
           {"writes", SeriesKind::kRequests},
           {"stuck.value", SeriesKind::kGauge},
           {"api.memory", SeriesKind::kGauge},
           {"log.matches", SeriesKind::kCounter}}) {
    if (random.below(6) != 0) content.series.push_back(wild_series(random, name, kind));
  }
  content.finished = random.below(2) == 0;
  return evidence::Record::make(std::move(content));
}

TEST(JudgeRobustness, SaysSomethingAboutAnyRecord) {
  testing::RunBuilder run;
  for (const char* text : kPredictions) run.hypothesis(text);
  run.steady_state("reads.success >= 99%", "up").steady_state("stuck.value == 0", "none");
  run.steady_state("p99(reads.latency) < 1s", "fast");
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    base::Random random(seed);
    const evidence::Record record = wild_record(random);
    const Question question{record, run.map(), run.experiment()};
    const Judgement judgement = judge(question);
    ASSERT_EQ(judgement.predictions.size(), std::size(kPredictions) + 6);
    for (const PredictionResult& result : judgement.predictions) {
      EXPECT_FALSE(result.reason.empty()) << "seed " << seed << ": " << result.text;
      EXPECT_EQ(result.reason.find("the judge failed"), std::string::npos)
          << "seed " << seed << ": " << result.reason;
    }
    EXPECT_EQ(to_json(judgement).dump(), to_json(judge(question)).dump()) << "seed " << seed;
    EXPECT_TRUE(judgement_from_json(to_json(judgement)).ok());
    EXPECT_GE(exit_status_of(judgement), 0);
  }
}

TEST(JudgeRobustness, AnEmptyRecordIsUndecided) {
  testing::RunBuilder run;
  for (const char* text : kPredictions) run.hypothesis(text);
  const evidence::Record record = evidence::Record::make({});
  const Judgement judgement = judge({record, run.map(), run.experiment()});
  for (const PredictionResult& result : judgement.predictions) {
    EXPECT_NE(result.verdict, model::Verdict::kHeld) << result.text;
    EXPECT_NE(result.verdict, model::Verdict::kViolated) << result.text;
  }
  EXPECT_EQ(judgement.outcome, model::Outcome::kErrored);
  EXPECT_EQ(exit_status_of(judgement), 1);
}

TEST(JudgeRobustness, TimesThatNoRunCanHaveAreNotJudged) {
  for (const std::int64_t wild :
       {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min(),
        std::int64_t{1} << 61}) {
    testing::RunBuilder run;
    run.requests("reads", 20, 0, 50, testing::good);
    for (const char* text : kPredictions) run.hypothesis(text);
    evidence::Record::Content content;
    content.header.boot_start = at(0);
    content.events.push_back({base::instant_from_nanoseconds(wild), "run.finished", "", "", ""});
    const evidence::Record record = evidence::Record::make(std::move(content));
    const Judgement judgement = judge({record, run.map(), run.experiment()});
    EXPECT_EQ(judgement.predictions.size(), std::size(kPredictions));
    EXPECT_EQ(judgement.predictions[0].verdict, model::Verdict::kInconclusive);
    EXPECT_EQ(exit_status_of(judgement), 8) << "nothing is known about the reverts";
  }
}

TEST(JudgeRobustness, AnIncompletePredictionIsInconclusive) {
  testing::RunBuilder run;
  run.experiment().hypothesis.emplace_back();
  EXPECT_EQ(run.judge_one().verdict, model::Verdict::kInconclusive);
}

TEST(JudgeRobustness, MangledJudgementsAreRefused) {
  testing::RunBuilder run;
  run.requests("reads", 20, 0, 50, testing::good).hypothesis(kPredictions[0]);
  const std::string text = to_json(run.judge()).dump();
  base::Random random(7);
  for (int i = 0; i < 300; ++i) {
    std::string mangled = text;
    mangled[random.below(mangled.size())] = static_cast<char>(random.below(256));
    const auto parsed = base::parse_json(mangled);
    if (parsed.ok()) (void)judgement_from_json(*parsed).ok();
  }
}

}  // namespace
}  // namespace squall::judge
