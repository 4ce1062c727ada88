#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <regex>

#include "base/files.h"
#include "base/text.h"
#include "report/report.h"
#include "support/synthetic_record.h"

namespace squall::report {
namespace {

std::size_t count(const std::string& text, std::string_view what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
    ++found;
  return found;
}

TEST(Html, TellsWhatAReaderComesFor) {
  const auto run = test::synthetic_run();
  const std::string page = render_html(run.view());
  // To look at it: SQUALL_REPORT_PATH=/tmp/report.html report_unit_tests --gtest_filter=Html.Tells*
  if (const char* path = std::getenv("SQUALL_REPORT_PATH")) {
    ASSERT_TRUE(base::write_file_atomically(path, page).ok());
  }
  for (const char* expected : {"worker-dies-mid-task",
                               "MIXED",
                               "One of three workers is killed",
                               "reads-stay-fast",
                               "violated",
                               "inconclusive",
                               "no data",
                               "held",
                               "process.kill",
                               "SIGKILL",
                               "wait until the supervisor has started it again",
                               "orchestrator-worker pid 4242",
                               "3 of 3 members of worker",
                               "It holds now.",
                               "6.1.0-28-amd64",
                               "squall run worker-dies.yaml",
                               "seed: 42",
                               "without our doing",
                               "212ms [185ms, 240ms]",
                               "Health of the load"})
    EXPECT_NE(page.find(expected), std::string::npos) << expected;
  // A graph for each prediction that has something to show, and the timeline.
  EXPECT_EQ(count(page, "role=\"img\""), 7u);
}

// Somebody who listens to the page moves through it by its headings.
TEST(Html, NoHeadingSkipsALevel) {
  const std::string page = render_html(test::synthetic_run().view());
  const std::regex heading("<h([1-6])");
  char level = '0';
  for (std::sregex_iterator at(page.begin(), page.end(), heading), end; at != end; ++at) {
    const char next = (*at)[1].str()[0];
    EXPECT_LE(next, level + 1) << page.substr(static_cast<std::size_t>(at->position()), 60);
    level = next;
  }
}

TEST(Html, LoadsNothingAndRunsNothing) {
  const std::string page = render_html(test::synthetic_run().view());
  EXPECT_NE(page.find("default-src &#39;none&#39;"), std::string::npos);
  for (const char* forbidden : {"<script", "http://", "https://", "src=", "url(", "@import",
                                "<link", "<iframe", "onload", "onclick"})
    EXPECT_EQ(page.find(forbidden), std::string::npos) << forbidden;
}

TEST(Html, EscapesWhateverARecordSays) {
  auto run = test::synthetic_run();
  const std::string evil = "<script>alert(1)</script>\"'&\x01\xff";
  evidence::Record::Content content;
  content.header = run.record.header();
  content.header.experiment_name = evil;
  content.header.environment = evil;
  content.header.experiment_text = evil;
  content.header.experiment_file = evil;
  content.events = run.record.events();
  content.events.push_back({test::moment(20), evil, evil, evil, evil});
  content.events.push_back({test::moment(20), "fault.arming", evil, evil, evil});
  content.series = run.record.series();
  for (auto& series : content.series) series.declaration.source = evil;
  for (const char* name : {"plan", "binding", "environment", "proofs", "preflight"})
    content.documents[name] =
        base::Json::array(
            {{{"name", "<script>"}, {"reason", "<script>"}, {"<script>", evil.substr(0, 20)}}})
            .dump();
  run.record = evidence::Record::make(std::move(content));
  for (auto& result : run.judgement.predictions) {
    result.text += evil;
    result.reason = evil;
    result.method = evil;
    result.explanation = {evil, evil, evil, {{evil, evil, evil, {}}}};
  }
  run.judgement.notes = {evil};
  run.judgement.outcome_reason = evil;
  run.plan.scenario = evil;
  run.plan.faults[0].changes[0].change = evil;
  run.plan.abort_when = {evil};
  run.binding.faults[0].targets[0].description = evil;
  const std::string page = render_html(run.view());
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find('\x01'), std::string::npos);
  EXPECT_TRUE(base::is_valid_utf8(page));
}

TEST(Html, EveryTagIsClosedAndEveryIdUnique) {
  const std::string page = render_html(test::synthetic_run().view());
  const std::regex tag(R"(<(/?)([a-zA-Z0-9]+)([^>]*?)(/?)>)");
  std::vector<std::string> open;
  const std::size_t body = page.find("<body");
  for (std::sregex_iterator it(page.begin() + static_cast<std::ptrdiff_t>(body), page.end(), tag),
       end;
       it != end; ++it) {
    const std::smatch& match = *it;
    if (!match[4].str().empty()) continue;
    if (match[1].str().empty()) {
      open.push_back(match[2]);
    } else {
      if (match[2] == "html") break;
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), match[2].str());
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
  const std::regex id(R"re( id="([^"]*)")re");
  std::map<std::string, int> ids;
  for (std::sregex_iterator it(page.begin(), page.end(), id), end; it != end; ++it) ++ids[(*it)[1]];
  for (const auto& [name, times] : ids) EXPECT_EQ(times, 1) << name;
  // What points to an id points to one that is there.
  const std::regex reference(R"re((?:aria-labelledby|href)="#?([^"]*)")re");
  for (std::sregex_iterator it(page.begin(), page.end(), reference), end; it != end; ++it) {
    std::string names = (*it)[1];
    for (std::size_t at = 0; at < names.size();) {
      const std::size_t space = std::min(names.find(' ', at), names.size());
      EXPECT_EQ(ids.count(names.substr(at, space - at)), 1u) << names;
      at = space + 1;
    }
  }
}

TEST(Html, GraphsMarkFaultThresholdViolationAndReturn) {
  const std::string page = render_html(test::synthetic_run().view());
  // What is violated comes first.
  const std::size_t begin = page.find("id=\"prediction-1\"");
  const std::string card = page.substr(begin, page.find("id=\"prediction-2\"") - begin);
  for (const char* expected :
       {"class=\"fault\"", "class=\"limit\"", "class=\"interval\"", "fault: outage", "baseline",
        "recovery", "first violated 15.9s", "back 21.1s", "threshold &lt; 41ms", "<title>", "<desc",
        "in windows of 1s"})
    EXPECT_NE(card.find(expected), std::string::npos) << expected;
}

TEST(Html, WithoutExperimentAndPlanItIsStillAReport) {
  const auto run = test::synthetic_run();
  const std::string page = render_html({.record = run.record, .judgement = run.judgement});
  EXPECT_NE(page.find("reads-stay-fast"), std::string::npos);
  EXPECT_EQ(count(page, "role=\"img\""), 1u);  // the timeline
}

TEST(Html, AnAlarmStandsFirst) {
  auto run = test::synthetic_run();
  run.judgement.reverts_verified = false;
  const std::string page = render_html(run.view());
  const std::size_t alarm = page.find("role=\"alert\"");
  ASSERT_NE(alarm, std::string::npos);
  EXPECT_LT(alarm, page.find("<main"));
  EXPECT_NE(page.find("squall cleanup"), std::string::npos);
}

TEST(Html, AnEmptyRecordGivesAPage) {
  const evidence::Record record = evidence::Record::make({});
  judge::Judgement judgement;
  judgement.outcome_reason = "the warden did not start";
  const std::string page = render_html({.record = record, .judgement = judgement});
  EXPECT_NE(page.find("ERRORED"), std::string::npos);
  EXPECT_NE(page.find("the warden did not start"), std::string::npos);
}

}  // namespace
}  // namespace squall::report
