// What the language refuses: where the mistake is said to be, in which words, with which remedy.

#include <gtest/gtest.h>

#include "base/text.h"
#include "unit/model/prediction_support.h"

namespace squall::model {
namespace {

using testing::messages;
using testing::parse;
using testing::table;

struct Refused {
  const char* text;
  const char* place;    // the text that the span covers
  const char* message;  // part of it
  const char* hint;     // part of it; empty: not looked at
};

void expect_refused(const std::vector<Refused>& cases, ClauseRule rule = ClauseRule::kHypothesis) {
  for (const Refused& refused : cases) {
    const auto parsed = parse(refused.text, rule);
    ASSERT_FALSE(parsed.prediction) << refused.text;
    ASSERT_EQ(parsed.errors.size(), 1u) << refused.text << "\n" << messages(parsed.errors);
    const LanguageError& error = parsed.errors.front();
    EXPECT_EQ(std::string(refused.text).substr(error.span.begin, error.span.end - error.span.begin),
              refused.place)
        << refused.text << "\n"
        << messages(parsed.errors);
    EXPECT_NE(error.message.find(refused.message), std::string::npos) << refused.text << "\n"
                                                                      << messages(parsed.errors);
    EXPECT_NE(error.hint.find(refused.hint), std::string::npos) << refused.text << "\n"
                                                                << messages(parsed.errors);
  }
}

TEST(PredictionError, Words) {
  expect_refused({
      {"stuck.value = 0 at end", "=", "`=` is not an operator", "write `==`"},
      {"stuck.value => 0 at end", "=>", "`=>` is not an operator", "write `>=`"},
      {"stuck.value =< 0 at end", "=<", "`=<`", "write `<=`"},
      {"stuck.value <> 0 at end", "<>", "`<>`", "write `!=`"},
      {"stuck.value \u2264 0 at end", "\u2264", "not an operator", "write `<=`"},
      {"share(reads.faulted && reads.success) > 1% at end", "&&", "`&&`", "write `and`"},
      {"share(!reads.faulted) > 1% at end", "!", "`!`", "write `not`"},
      {"p99(reads.latency) < 250 msec during fault", "250 msec", "unknown unit `msec`", "ms"},
      {"p99(reads.latency) < 5m during fault", "5m", "unknown unit `m`", "`min`"},
      {"p99(reads.latency) < 250MS during fault", "250MS", "unknown unit `MS`", "`ms`"},
      {"p99(reads.latency) < 1:30 during fault", "1:30", "`1:30` is not a duration", "write `90s`"},
      {"count(reads) > 1,000 during fault", "1,000", "without commas", "write `1000`"},
      {"reads.success > .5 during fault", ".", "expected a number", "0.5"},
      {"share(reads.status == 2XX) > 1% at end", "2XX", "not a status class", "`2xx`"},
      {"share(reads.outcome == 'ok') > 1% at end", "'ok'", "double quotes", "\"ok\""},
      {"reads.success >= 99% during fault;", ";", "unexpected character `;`", ""},
      {"share(reads.outcome == \"ok) > 1% at end", "\"ok) > 1% at end", "no closing", ""},
      {"share(reads.json[\"$\\n\"] exists) > 1% at end", "\\n", "unknown escape", "\\\\"},
  });
}

TEST(PredictionError, Grammar) {
  expect_refused({
      {"reads.success during fault", "during", "expected a comparison", "reads.success >= 99.5%"},
      {"reads.success >= during fault", "during", "expected a signal", ""},
      {"1 < stuck.value < 3 at end", "<", "expected the end", "between"},
      {"stuck.value < 3 and queue.depth < 3 at end", "and", "expected the end", "write two"},
      {"p99(reads.latency < 3s during fault", "<", "expected `)` of p99(", ""},
      {"p99(reads.latency)) < 3s during fault", ")", "expected a comparison", ""},
      {"stuck.value < 3) at end", ")", "expected the end", "never opened"},
      {"p99(reads.latency each 1s) < 3s during fault", "reads.latency", "is many values",
       "p99(reads.latency)"},
      {"p99(reads.latency) each 1s < 3s during fault", "each", "expected a comparison",
       "max(p99(reads.latency) each 1s)"},
      {"max(p99(reads.latency)) < 3s during fault", "p99(reads.latency)",
       "takes one signal, or a statistic with `each`", "max(reads.latency)"},
      {"max(p99(reads.latency) / 2 each 1s) < 3s during fault", "p99(reads.latency) / 2",
       "`each` repeats one statistic", ""},
      {"max(max(p99(reads.latency) each 1s) each 2s) < 3s during fault",
       "max(p99(reads.latency) each 1s)", "`each` repeats one statistic", ""},
      {"count(p99(reads.latency) each 1s) < 3 during fault", "count(p99(reads.latency) each 1s)",
       "windows are not counted", ""},
      {"max(stuck.value each 1s) < 3 during fault", "stuck.value",
       "needs a statistic for each window", "max(mean(stuck.value) each 1s)"},
      {"max(p99(reads.latency) each 250ms) < 3s during fault", "max(p99(reads.latency) each 250ms)",
       "multiples of 100ms", ""},
      {"median(reads.latency) < 3s during fault", "median", "no function `median`", "p50"},
      {"p100(reads.latency) < 3s during fault", "p100", "no function `p100`", "max"},
      {"meen(reads.latency) < 3s during fault", "meen", "no function `meen`", "`mean`"},
      {"p99.12345(reads.latency) < 3s during fault", "p99.12345", "finer", "p99.999"},
      {"lost(writes.latency) == 0 at end", ".", "expected `)` of lost(", "lost(writes)"},
      {"reads >= 99% during fault", "reads", "expected a signal", "reads.latency"},
      {"reads.header[\"X\"] == \"a\" during fault", "[", "only in a condition", "share("},
      {"stuck.value == \"a\" at end", "\"a\"", "expected a number", "condition"},
      {"share(200 == reads.status) > 1% at end", "200", "expected a field", "comes first"},
      {"share(reads.status in 200) > 1% at end", "in", "`in` is not part", " or "},
      {"share(reads.status == ok) > 1% at end", "ok", "expected a value", "\"ok\""},
      {"share(max(stuck.value) > 1) > 1% at end", "(", "expected a comparison", "no functions"},
      {"share(reads.json[state] == 1) > 1% at end", "state", "expected a text in double quotes",
       "json["},
      {"stuck.value between 5 and 1 at end", "5 and 1", "lower limit is above", "between 1 and 5"},
      {"stuck.value between 5 or 6 at end", "or", "expected `and`", ""},
      {"1 < 2 at end", "1 < 2 at end", "says nothing about the system", "name a signal"},
      {"stuck.value / 0 > 1 at end", "stuck.value / 0", "division by zero", ""},
  });
}

TEST(PredictionError, Names) {
  expect_refused({
      {"read.success >= 99% during fault", "read.success", "no probe or service `read`",
       "did you mean `reads`"},
      {"reads.sucess >= 99% during fault", "reads.sucess", "`reads` has no signal `sucess`",
       "did you mean `success`"},
      {"stuck.size >= 9 during fault", "stuck.size", "`stuck` has no signal `size`",
       "only `value`"},
      {"stuck.value-1 > 3 at end", "stuck.value-1", "no signal `value-1`", "spaces around a minus"},
      {"stuck-queue.depth > 3 at end", "stuck-queue.depth", "no probe or service `stuck-queue`",
       "spaces around a minus"},
      {"lost(reads) == 0 at end", "lost(reads)", "does not number its own", "`writes`"},
      {"lost(wirtes) == 0 at end", "lost(wirtes)", "no probe or service", "`writes`"},
      {"reads.success > 9% during outgae", "outgae", "no fault `outgae`", "`outage`"},
      {"reads.success > 9% during recvery", "recvery", "no fault `recvery`", "`recovery`"},
      {"reads.success > 9% within 3s of revert slow", "slow", "no fault `slow`", ""},
      {"share(reads.outcome == \"timeuot\") < 1% at end", "reads.outcome == \"timeuot\"",
       "no outcome \"timeuot\"", "\"timeout\""},
      {"share(status == 200) < 1% at end", "status == 200", "needs the name of its probe",
       "reads.status"},
      {"count(reads where status == 200) < 1 at end", "status == 200",
       "needs the name of its probe", "`reads.status`"},
  });
}

TEST(PredictionError, Dimensions) {
  expect_refused({
      {"p99(reads.latency) < 99% during fault", "<",
       "`p99(reads.latency)` is a duration and cannot be compared with `99%`, a share", "250ms"},
      {"p99(reads.latency) < 250 during fault", "<", "a number", "`250ms`"},
      {"rate(reads) > 200 during fault", ">", "is a rate", "`200/s`"},
      {"reads.success > 3s during fault", ">", "is a share", "99.5%"},
      {"reads.success >= 99 during fault", "99", "beyond 100%", "`99%`"},
      {"reads.success >= 101% during fault", "101%", "beyond 100%", ""},
      {"reads.success >= count(reads) during fault", ">=", "`count(reads)`, a number", ""},
      {"worker.memory < 512 during fault", "<", "is a size", "MiB"},
      {"p99(reads.latency) + reads.success > 1s during fault", "p99(reads.latency) + reads.success",
       "cannot be added to", ""},
      {"1s * p99(reads.latency) > 1s during fault", "1s * p99(reads.latency)",
       "cannot be multiplied by", ""},
      {"time(stuck.value > 1) < 50% during fault", "<", "is a duration", ""},
      {"time(stuck.value > 1s) < 5s during fault", "stuck.value > 1s",
       "is a number and cannot be compared with a duration", ""},
      {"share(reads.latency > 3) < 5% during fault", "reads.latency > 3",
       "compared with a duration", "250ms"},
      {"share(reads.status == \"200\") < 5% during fault", "reads.status == \"200\"",
       "a status is a number", "without quotes"},
      {"share(reads.status >= 5xx) < 5% during fault", "reads.status >= 5xx", "equal or not equal",
       "500"},
      {"share(reads.status == 0) < 5% during fault", "reads.status == 0", "has no status",
       "not reads.status exists"},
  });
}

TEST(PredictionError, Types) {
  expect_refused({
      {"reads.latency < 3s during fault", "reads.latency", "many values", "p99(reads.latency)"},
      {"reads.status == 200 during fault", "reads.status", "only in a condition",
       "share(reads.status == 503)"},
      {"mean(reads.success) > 9% during fault", "mean(reads.success)", "has no mean",
       "`reads.success`"},
      {"count(reads.latency) > 9 during fault", "count(reads.latency)", "counts requests",
       "count(reads)"},
      {"mean(reads) > 9 during fault", "mean(reads)", "needs a signal", "mean(reads.latency)"},
      {"count(stuck.value) > 9 during fault", "count(stuck.value)", "is a gauge", "mean"},
      {"mean(api-log.matches) > 9 during fault", "mean(api-log.matches)", "counts events",
       "count(api-log.matches)"},
      {"api-log.matches > 9 during fault", "api-log.matches", "counts events", "rate"},
      {"max(stuck.value where stuck.value > 3) > 9 during fault", "stuck.value > 3",
       "picks requests", "time("},
      {"time(reads.status == 200) > 9s during fault", "time(reads.status == 200)",
       "requests are moments", "share(reads.status == 200)"},
      {"share(reads.faulted and stuck.value > 3) > 9% during fault", "stuck.value > 3",
       "requests or of a gauge", "two predictions"},
      {"share(reads.faulted and writes.faulted) > 9% during fault", "writes.faulted",
       "speaks of one probe", ""},
      {"time(queue.depth > 1 and stuck.value > 3) > 9s during fault", "stuck.value > 3",
       "speaks of one gauge", ""},
      {"count(reads where writes.faulted) > 9 during fault", "writes.faulted",
       "`where` picks requests of `reads`", ""},
      {"share(reads.status) > 9% during fault", "reads.status", "not true or false", "2xx"},
      {"share(reads.header[\"X\"]) > 9% during fault", "reads.header[\"X\"]", "not true or false",
       "exists"},
      {"share(reads.latency exists) > 9% during fault", "reads.latency exists", "always exists",
       ""},
      {"share(reads.header == \"a\") > 9% during fault", "reads.header == \"a\"", "needs a key",
       ""},
      {"share(reads.status[\"a\"] == 200) > 9% during fault", "reads.status[\"a\"] == 200",
       "takes no key", ""},
      {"share(reads.json[\"state\"] == 3) > 9% during fault", "reads.json[\"state\"] == 3",
       "not a JSON path", "$.state"},
      {"share(db.status == 503) > 9% during fault", "db.status == 503",
       "the answers of `db` have no status", "db.outcome"},
      {"share(db.success and db.value > 3) > 9% during fault", "db.value > 3",
       "requests or of a gauge", "two predictions"},
      {"baseline(stuck.value) > 9 during fault", "stuck.value", "many values",
       "baseline(mean(stuck.value))"},
      {"stuck.value > baseline(3) during fault", "baseline(3)", "no baseline", ""},
      {"p99(reads.latency) == 250ms during fault", "==", "never shows equality", "between"},
      {"reads.success != 99% during fault", "!=", "never shows equality", "between"},
  });
}

TEST(PredictionError, ClausesOfAHypothesis) {
  expect_refused({
      {"reads.success >= 99%", "", "does not say when", "during fault"},
      {"reads.success >= 99% over 2s", "over 2s", "belongs to abort rules", "during fault"},
      {"reads.success >= 99% durring fault", "durring", "expected the end", "`during`"},
      {"reads.success >= 99% at the end", "the", "expected `end`", "at end"},
      {"reads.success >= 99% during 3s", "3s", "expected baseline, fault", ""},
      {"reads.success >= 99% within 30s", "", "expected `of inject`", ""},
      {"reads.success >= 99% within 30s of end", "end", "expected `inject` or `revert`", ""},
      {"reads.success >= 99% within 30 of revert", "30", "`30` is not a duration", "unit"},
      {"reads.success >= 99% within 30s of revert for 5s", "for", "expected the end",
       "for 5s within 30s of revert"},
      {"reads.success >= 99% for 5s", "", "expected `within`", ""},
      {"reads.success >= 99% for 50s within 30s of revert", "for 50s within 30s of revert",
       "cannot hold for 50s within 30s", ""},
      {"reads.success >= 99% within 0s of revert", "within 0s of revert", "is zero", ""},
      {"reads.success >= 99% for 0s within 9s of revert", "0s", "above zero", ""},
      {"reads.success >= 99% during fault from 100h", "100h", "longer than a day", ""},
      {"p99(reads.latency) < 2 * baseline(p99(reads.latency)) during baseline",
       "baseline(p99(reads.latency))", "asked in the baseline itself", ""},
      {"lost(writes) == 0 within 30s of revert", "lost(writes)", "only after the read-back",
       "at end"},
      {"time(stuck.value > 1) < 5s within 30s of revert", "time(stuck.value > 1)",
       "the length of the window", "for 10s within"},
      {"max(p99(reads.latency) each 5s) < 1s within 30s of revert",
       "max(p99(reads.latency) each 5s)", "do not fit into 1s", "`for`"},
  });
}

TEST(PredictionError, ClausesOfSteadyStateAndAbortRules) {
  expect_refused(
      {
          {"reads.success >= 99% during fault", "during fault", "no clause", "leave"},
          {"p99(reads.latency) < baseline(p99(reads.latency))", "baseline(p99(reads.latency))",
           "asked in the baseline itself", ""},
          {"lost(writes) == 0", "lost(writes)", "only after the read-back", "hypothesis"},
      },
      ClauseRule::kSteadyState);
  expect_refused(
      {
          {"reads.success < 90% during fault", "during fault", "asked all the time", "over 2s"},
          {"reads.success < 90% over 50ms", "over 50ms", "multiple of 100ms", ""},
          {"lost(writes) > 0", "lost(writes)", "only after the read-back", "hypothesis"},
          {"time(stuck.value > 1) > 5s", "time(stuck.value > 1)", "the length of the window",
           "over 10s"},
          {"max(p99(reads.latency) each 5s) > 1s", "max(p99(reads.latency) each 5s)",
           "do not fit into 1s", "`over`"},
      },
      ClauseRule::kAbortRule);
}

TEST(PredictionError, SeveralMistakesAreSaidAtOnceInOrder) {
  const auto parsed =
      parse("p99(read.latency) < 2 * baseline(p98(reads.latncy)) + 3sek during outgae");
  EXPECT_FALSE(parsed.prediction);
  ASSERT_EQ(parsed.errors.size(), 4u) << messages(parsed.errors);
  EXPECT_NE(parsed.errors[0].message.find("`read`"), std::string::npos);
  EXPECT_NE(parsed.errors[1].message.find("`latncy`"), std::string::npos);
  EXPECT_NE(parsed.errors[2].message.find("`sek`"), std::string::npos);
  EXPECT_NE(parsed.errors[3].message.find("`outgae`"), std::string::npos);
}

TEST(PredictionError, TheClauseIsCheckedBehindABrokenExpression) {
  const auto parsed = parse("p99(reads.latency < 3s during outgae");
  ASSERT_EQ(parsed.errors.size(), 2u) << messages(parsed.errors);
  EXPECT_NE(parsed.errors[1].message.find("`outgae`"), std::string::npos);
}

TEST(PredictionError, LimitsOfLengthAndDepth) {
  const auto nested = [](int depth) {
    return std::string(depth, '(') + "stuck.value" + std::string(depth, ')') + " < 3 at end";
  };
  EXPECT_TRUE(parse(nested(60)).prediction);
  const auto deep = parse(nested(1000));
  ASSERT_EQ(deep.errors.size(), 1u);
  EXPECT_NE(deep.errors[0].message.find("nested deeper than 64"), std::string::npos);

  std::string sum = "stuck.value";
  for (int i = 0; i < 200; ++i) sum += " + 1";
  EXPECT_FALSE(parse(sum + " < 3 at end").prediction);

  std::string nots = "share(";
  for (int i = 0; i < 500; ++i) nots += "not ";
  EXPECT_FALSE(parse(nots + "reads.success) > 1% at end").prediction);
  std::string minuses(2000, '-');
  EXPECT_FALSE(parse(minuses + "1 < stuck.value at end").prediction);

  const auto lengthy = parse("stuck.value < 3 at end" + std::string(5000, ' '));
  ASSERT_EQ(lengthy.errors.size(), 1u);
  EXPECT_NE(lengthy.errors[0].message.find("longer than 4096 bytes"), std::string::npos);

  // A canonical text that would be too long is refused, so that what is accepted can be read again.
  std::string wide = "count(reads where ";
  while (wide.size() < 4060) wide += "reads.status==200 or ";
  wide += "reads.faulted)>3 at end";
  ASSERT_LE(wide.size(), 4096u);
  EXPECT_FALSE(parse(wide).prediction);
}

TEST(PredictionError, OddTexts) {
  for (std::string_view text :
       {std::string_view(""), std::string_view("   \n"), std::string_view("\xff\xfe"),
        std::string_view("\0x", 2), std::string_view("p99("), std::string_view("("),
        std::string_view("\""), std::string_view("-"), std::string_view("share(not"),
        std::string_view("reads."), std::string_view("p99."), std::string_view("at end"),
        std::string_view("during"), std::string_view("1e999 < 3"),
        std::string_view("1 < 99999999999:99999999999"), std::string_view("1 < 1:2:3")}) {
    for (ClauseRule rule :
         {ClauseRule::kSteadyState, ClauseRule::kHypothesis, ClauseRule::kAbortRule}) {
      const auto parsed = parse(text, rule);
      EXPECT_FALSE(parsed.prediction) << text;
      EXPECT_FALSE(parsed.errors.empty()) << text;
      for (const auto& error : parsed.errors) {
        EXPECT_GE(error.span.begin, 0);
        EXPECT_LE(error.span.begin, error.span.end);
        EXPECT_LE(error.span.end, static_cast<int>(text.size()));
        EXPECT_EQ(base::printable(error.message), error.message) << "must not drive a terminal";
      }
    }
  }
}

TEST(PredictionError, Expect) {
  const auto expect_refused_condition = [](const char* text, const char* message,
                                           const char* hint) {
    const auto parsed = parse_condition(text);
    EXPECT_FALSE(parsed.condition);
    ASSERT_EQ(parsed.errors.size(), 1u) << text << messages(parsed.errors);
    EXPECT_NE(parsed.errors[0].message.find(message), std::string::npos) << messages(parsed.errors);
    EXPECT_NE(parsed.errors[0].hint.find(hint), std::string::npos) << messages(parsed.errors);
  };
  expect_refused_condition("reads.status == 200", "fields are bare", "`status`");
  expect_refused_condition("success", "not a field of the answer", "status");
  expect_refused_condition("status == 2xx status == 3", "expected `and`", "");
  expect_refused_condition("status = 200", "`=`", "`==`");
  expect_refused_condition("", "empty", "");
}

}  // namespace
}  // namespace squall::model
