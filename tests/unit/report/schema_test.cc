#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "base/files.h"
#include "report/report.h"
#include "support/golden.h"
#include "support/synthetic_record.h"

namespace squall::report {
namespace {

using valijson::adapters::NlohmannJsonAdapter;

// What is wrong with the report by the shipped schema; empty: nothing.
std::string violations(const base::Json& report) {
  const auto text =
      base::read_file(std::string(SQUALL_SOURCE_DIR) + "/schema/report.schema.json", 1u << 20);
  if (!text.ok()) return text.error().to_string();
  const base::Json json = base::Json::parse(*text);
  valijson::Schema schema;
  valijson::SchemaParser(valijson::SchemaParser::kDraft7)
      .populateSchema(NlohmannJsonAdapter(json), schema);
  valijson::ValidationResults results;
  valijson::Validator().validate(schema, NlohmannJsonAdapter(report), &results);
  std::string found;
  for (const auto& error : results) {
    for (const std::string& part : error.context) found += part;
    found += ": " + error.description + "\n";
  }
  return found;
}

TEST(JsonReport, MeetsTheShippedSchema) {
  const auto run = test::synthetic_run();
  base::Json report = render_json(run.view());
  EXPECT_EQ(violations(report), "");
  report.erase("plan");  // theirs to change
  report.erase("binding");
  test::expect_golden(report.dump(2) + "\n", "report.json");
}

TEST(JsonReport, MeetsTheSchemaWhateverIsMissing) {
  const evidence::Record record = evidence::Record::make({});
  const judge::Judgement judgement;
  EXPECT_EQ(violations(render_json({.record = record, .judgement = judgement})), "");
  auto run = test::synthetic_run();
  for (auto& result : run.judgement.predictions) {
    result.observed = std::numeric_limits<double>::quiet_NaN();
    result.interval_low.reset();
    result.first_violation.reset();
  }
  EXPECT_EQ(violations(render_json(run.view())), "");
}

TEST(JsonReport, TheSchemaRefusesWhatIsWrong) {
  const auto run = test::synthetic_run();
  base::Json report = render_json(run.view());
  report["verdict"] = "great";
  EXPECT_NE(violations(report), "");
  report = render_json(run.view());
  report["predictions"][0].erase("observed");
  EXPECT_NE(violations(report), "");
}

TEST(JsonReport, BytesThatAreNotTextDoNotBreakIt) {
  auto run = test::synthetic_run();
  for (auto& result : run.judgement.predictions) {
    result.reason = "\xff\xfe";
    result.explanation.text = "\xc3";
  }
  run.judgement.notes = {"\xff"};
  EXPECT_FALSE(render_json(run.view()).dump().empty());  // dump() throws on invalid UTF-8
}

}  // namespace
}  // namespace squall::report
