#include <gtest/gtest.h>

#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <sstream>

#include "base/text.h"
#include "report/difference.h"
#include "report/report.h"
#include "support/golden.h"
#include "support/synthetic_record.h"

namespace squall::report {
namespace {

using boost::property_tree::ptree;

ptree parsed(const std::string& xml) {
  ptree tree;
  std::istringstream in(xml);
  boost::property_tree::read_xml(in, tree);
  return tree.get_child("testsuites.testsuite");
}

int cases_with(const ptree& suite, const char* child) {
  int found = 0;
  for (const auto& [name, node] : suite)
    if (name == "testcase" && node.count(child) > 0) ++found;
  return found;
}

int cases(const ptree& suite) {
  return static_cast<int>(suite.count("testcase"));
}

TEST(Terminal, LooksAsAgreed) {
  const auto run = test::synthetic_run();
  test::expect_golden(render_terminal(run.view(), {.width = 100}), "report_terminal.txt");
  test::expect_golden(render_terminal(run.view(), {.width = 60, .unicode = false}),
                      "report_terminal_ascii.txt");
  test::expect_golden(render_terminal(run.view(), {.colour = true}), "report_terminal_colour.txt");
}

TEST(Terminal, UntrustedTextCannotDriveIt) {
  auto run = test::synthetic_run();
  run.judgement.notes = {"\x1b[2Jcleared\x07"};
  run.judgement.predictions[0].reason = "\x1b]0;title\x07";
  const std::string text = render_terminal(run.view());
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
}

TEST(Terminal, AsciiIsAscii) {
  auto run = test::synthetic_run();
  run.judgement.notes = {"grüße ✔"};
  for (const char c : render_terminal(run.view(), {.unicode = false})) ASSERT_GE(c, 0);
}

TEST(Explanation, ShowsTheTree) {
  const auto run = test::synthetic_run();
  test::expect_golden(render_explanation(run.view(), "reads-stay-fast"), "explanation.txt");
  EXPECT_EQ(render_explanation(run.view(), "unknown"), "");
  EXPECT_EQ(render_explanation_json(run.view(), "up").size(), 2u);
}

TEST(Junit, HasACaseForEachPrediction) {
  const auto run = test::synthetic_run();
  const std::string xml = render_junit(run.view());
  test::expect_golden(xml, "report_junit.xml");
  const ptree suite = parsed(xml);
  EXPECT_EQ(cases(suite), 8);
  EXPECT_EQ(cases_with(suite, "failure"), 2);
  EXPECT_EQ(cases_with(suite, "skipped"), 2);
  EXPECT_EQ(cases_with(suite, "error"), 0);
  EXPECT_EQ(suite.get<int>("<xmlattr>.failures"), 2);
}

TEST(Junit, StrictFailsWhatIsUndecided) {
  const auto run = test::synthetic_run();
  const ptree suite = parsed(render_junit(run.view(), Strictness::kStrict));
  EXPECT_EQ(cases_with(suite, "failure"), 4);
  EXPECT_EQ(cases_with(suite, "skipped"), 0);
}

TEST(Junit, ABlockedRunIsAnErrorOfEveryPrediction) {
  auto run = test::synthetic_run();
  run.judgement.predictions.clear();
  run.judgement.outcome = model::Outcome::kBlocked;
  run.judgement.outcome_reason = "the kill switch is on";
  run.plan.predictions = {{"a", "x < 1 during fault", false, ""}, {"b", "y < 1", true, ""}};
  const ptree suite = parsed(render_junit(run.view()));
  EXPECT_EQ(cases(suite), 3);
  EXPECT_EQ(cases_with(suite, "error"), 3);
}

TEST(Junit, AnAbortedRunKeepsItsVerdictsAndIsAnError) {
  auto run = test::synthetic_run();
  run.judgement.outcome = model::Outcome::kAborted;
  const ptree suite = parsed(render_junit(run.view()));
  EXPECT_EQ(cases_with(suite, "error"), 3);  // the run, and two that it left undecided
  EXPECT_EQ(cases_with(suite, "failure"), 2);
}

TEST(Junit, ARevertThatWasNotVerifiedIsAnError) {
  auto run = test::synthetic_run();
  run.judgement.reverts_verified = false;
  EXPECT_GE(cases_with(parsed(render_junit(run.view())), "error"), 1);
}

TEST(Junit, StaysWellFormedWhateverTheTextIs) {
  auto run = test::synthetic_run();
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  all += "]]>\xEF\xBF\xBE\xEF\xBF\xBF";
  for (auto& result : run.judgement.predictions) {
    result.reason = all;
    result.text = all;
  }
  const std::string xml = render_junit(run.view());
  EXPECT_EQ(cases(parsed(xml)), 8);
  EXPECT_EQ(base::valid_utf8(xml), xml);
  for (const char c : xml) {
    const auto byte = static_cast<unsigned char>(c);
    ASSERT_TRUE(byte >= 0x20 || c == '\n' || c == '\t');
  }
  EXPECT_EQ(xml.find("\xEF\xBF\xBE"), std::string::npos);
}

TEST(Markdown, LooksAsAgreed) {
  test::expect_golden(render_markdown(test::synthetic_run().view()), "report_markdown.md");
}

TEST(Markdown, NeitherTablesNorMarkupCanBeBroken) {
  auto run = test::synthetic_run();
  for (auto& result : run.judgement.predictions) {
    result.name = "a|b\n|c";
    result.text = "x | `y` <img src=z>";
    result.reason = "<script> @everyone [link](javascript:x)";
  }
  const std::string text = render_markdown(run.view());
  EXPECT_EQ(text.find("<script>"), std::string::npos);
  EXPECT_EQ(text.find("@everyone"), std::string::npos);
  EXPECT_EQ(text.find("[link]("), std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| ✅") && !line.starts_with("| ❌")) continue;
    int bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i)
      if (line[i] == '|' && (i == 0 || line[i - 1] != '\\')) ++bars;
    EXPECT_EQ(bars, 6) << line;
  }
}

TEST(Markdown, FitsAComment) {
  auto run = test::synthetic_run();
  run.judgement.notes.assign(5000, "a note of some length that repeats itself");
  EXPECT_LT(render_markdown(run.view()).size(), 65'000u);
}

TEST(Difference, NamesWhatWasFixedAndWhatWasDiscovered) {
  const auto then = test::synthetic_run();
  auto now = test::synthetic_run();
  auto& results = now.judgement.predictions;
  results[0].verdict = model::Verdict::kViolated;  // held before
  results[1].verdict = model::Verdict::kHeld;      // violated before
  results[1].observed = 0.031;
  results[1].interval_low = 0.03;
  results[1].interval_high = 0.033;
  results[2].text = "stuck.value == 0 for 5s within 30s of revert";
  results.erase(results.begin() + 5);
  now.judgement.verdict = model::RunVerdict::kMixed;
  const RunDifference difference = compare(then.view(), now.view());
  EXPECT_EQ(difference.count(Change::kFixed), 1);
  EXPECT_EQ(difference.count(Change::kDiscovered), 1);
  EXPECT_EQ(difference.count(Change::kRemoved), 1);
  EXPECT_EQ(difference.count(Change::kSame), 5);
  test::expect_golden(render_difference_terminal(difference, {.width = 100}), "difference.txt");
  test::expect_golden(render_difference_json(difference).dump(2) + "\n", "difference.json");
}

}  // namespace
}  // namespace squall::report
