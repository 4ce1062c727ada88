// The JSON Schemas and the parser are two readers of the same files: whatever the parser accepts
// the schema accepts, and every structural mistake is refused by both. The files lie in
// tests/data/files; the first line of a bad one says what is wrong with it: `# structural` (keys,
// types, choices, units), `# semantic` (what names and values mean together) or `# syntax` (no YAML
// that we take).
#include "model/schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "base/files.h"
#include "model/yaml_document.h"
#include "unit/model/vocabulary_for_test.h"

namespace squall::model {
namespace {

using testing::orchestrator_map;
using testing::parse_good_map;
using testing::test_vocabulary;

class Validator {
 public:
  explicit Validator(const base::Json& schema) {
    valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
    parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(schema), schema_);
  }

  // The first complaint; empty when the document is accepted.
  std::string complaint(const base::Json& document) const {
    valijson::Validator validator;
    valijson::ValidationResults results;
    if (validator.validate(schema_, valijson::adapters::NlohmannJsonAdapter(document), &results)) {
      return {};
    }
    valijson::ValidationResults::Error error;
    results.popError(error);
    std::string place;
    for (const std::string& part : error.context) place += part;
    return place + ": " + error.description;
  }

 private:
  valijson::Schema schema_;
};

// To draft-07 3.0 is an integer; the validator goes by how the number is kept.
void keep_whole_numbers_as_integers(base::Json& value) {
  if (value.is_structured()) {
    for (base::Json& inner : value) keep_whole_numbers_as_integers(inner);
  } else if (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>()) {
    value = static_cast<std::int64_t>(value.get<double>());
  }
}

struct File {
  std::string name;
  std::string text;
  bool is_map = false;
  std::string fault;  // "structural", "semantic", "syntax", or empty
};

std::vector<File> files(const std::string& folder) {
  std::vector<File> result;
  const std::string root = std::string(SQUALL_SOURCE_DIR) + "/tests/data/files/" + folder;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (entry.path().extension() != ".yaml") continue;
    File file;
    file.name = folder + "/" + entry.path().filename().string();
    file.text = base::read_file(entry.path().string(), kFileSizeLimit).value();
    file.is_map = file.name.ends_with(".map.yaml");
    if (folder == "bad") {
      file.fault = file.text.substr(2, file.text.find('\n') - 2);
      EXPECT_TRUE(file.fault == "structural" || file.fault == "semantic" || file.fault == "syntax")
          << file.name;
    }
    result.push_back(std::move(file));
  }
  std::sort(result.begin(), result.end(),
            [](const File& a, const File& b) { return a.name < b.name; });
  EXPECT_FALSE(result.empty());
  return result;
}

// What the parser says about the file; experiments are read against orchestrator_map().
Diagnostics parser_verdict(const File& file) {
  Diagnostics diagnostics;
  if (file.is_map) {
    parse_system_map(file.text, "/srv/" + file.name, {}, test_vocabulary(), diagnostics);
  } else {
    SystemMap map = parse_good_map(orchestrator_map());
    parse_experiment(file.text, "/srv/" + file.name, map, test_vocabulary(), diagnostics);
  }
  return diagnostics;
}

base::Json document_of(const File& file) {
  Diagnostics diagnostics;
  YamlDocument document = YamlDocument::parse(file.text, file.name, diagnostics);
  EXPECT_NE(document.root(), nullptr) << diagnostics.render();
  if (document.root() == nullptr) return nullptr;
  base::Json json = to_json(*document.root());
  keep_whole_numbers_as_integers(json);
  return json;
}

class SchemaTest : public ::testing::Test {
 protected:
  const Validator& validator(const File& file) const {
    return file.is_map ? map_validator_ : experiment_validator_;
  }

 private:
  Validator map_validator_{system_map_schema(test_vocabulary())};
  Validator experiment_validator_{experiment_schema(test_vocabulary())};
};

TEST_F(SchemaTest, AcceptsWhateverTheParserAccepts) {
  for (const File& file : files("good")) {
    Diagnostics diagnostics = parser_verdict(file);
    EXPECT_FALSE(diagnostics.has_errors()) << diagnostics.render();
    EXPECT_EQ(validator(file).complaint(document_of(file)), "") << file.name;
  }
}

TEST_F(SchemaTest, RefusesEveryStructuralMistake) {
  for (const File& file : files("bad")) {
    Diagnostics diagnostics = parser_verdict(file);
    EXPECT_TRUE(diagnostics.has_errors()) << file.name;
    if (file.fault == "syntax") continue;
    std::string complaint = validator(file).complaint(document_of(file));
    if (file.fault == "structural") {
      EXPECT_NE(complaint, "") << file.name;
    } else {
      EXPECT_EQ(complaint, "") << file.name << " is structural";
    }
  }
}

TEST(BadFiles, EveryMistakeHasAPlaceAndMostARemedy) {
  int without_hint = 0;
  for (const File& file : files("bad")) {
    const Diagnostics verdict = parser_verdict(file);
    for (const Diagnostic& diagnostic : verdict.all()) {
      EXPECT_GT(diagnostic.location.line, 0) << file.name << ": " << diagnostic.message;
      EXPECT_GT(diagnostic.location.column, 0) << file.name << ": " << diagnostic.message;
      EXPECT_FALSE(diagnostic.excerpt.empty()) << file.name << ": " << diagnostic.message;
      if (diagnostic.hint.empty()) ++without_hint;
    }
  }
  EXPECT_LE(without_hint, 8);
}

// The fixed keys stand in the parser's code and in the schema's: the parser, asked for a key that
// nothing resembles, lists the ones that it knows.
std::set<std::string> keys_known_to_the_parser(const File& file) {
  std::set<std::string> result;
  const Diagnostics verdict = parser_verdict(file);
  for (const Diagnostic& diagnostic : verdict.all()) {
    constexpr std::string_view kKnown = "known here: ";
    std::size_t at = diagnostic.hint.find(kKnown);
    if (at == std::string::npos) continue;
    std::string word;
    for (char c : diagnostic.hint.substr(at + kKnown.size()) + " ") {
      if (c != ' ' && c != ',') {
        word += c;
      } else if (!word.empty() && word != "and") {
        result.insert(std::move(word));
        word.clear();
      } else {
        word.clear();
      }
    }
  }
  return result;
}

std::set<std::string> keys_of(const base::Json& schema) {
  std::set<std::string> result;
  for (const auto& [key, value] : schema.at("properties").items()) result.insert(key);
  return result;
}

TEST(Schema, HasTheFixedKeysOfTheParser) {
  const base::Json map = system_map_schema(test_vocabulary());
  const base::Json experiment = experiment_schema(test_vocabulary());
  const auto& service = map["properties"]["services"]["additionalProperties"];
  const std::string head = "system: s\nservices: { a: {} }\n";
  auto map_file = [](std::string text) { return File{"x", std::move(text), true, {}}; };
  auto experiment_file = [](std::string text) { return File{"x", std::move(text), false, {}}; };
  EXPECT_EQ(keys_known_to_the_parser(map_file("zzzzzzzzzz: 1\n" + head)), keys_of(map));
  EXPECT_EQ(keys_known_to_the_parser(map_file("system: s\nservices: { a: { zzzzzzzzzzzz: 1 } }\n")),
            keys_of(service));
  EXPECT_EQ(keys_known_to_the_parser(
                map_file("system: s\nservices: { a: { process: { zzzzzzzzzzzzzz: 1 } } }\n")),
            keys_of(service["properties"]["process"]));
  EXPECT_EQ(keys_known_to_the_parser(
                map_file("system: s\nservices: { a: { container: { zzzzzzzzzzzz: 1 } } }\n")),
            keys_of(service["properties"]["container"]));
  EXPECT_EQ(keys_known_to_the_parser(map_file(head + "limits: { zzzzzzzzzzzzzzzz: 1 }\n")),
            keys_of(map["properties"]["limits"]));
  EXPECT_EQ(keys_known_to_the_parser(map_file(head + "environments: { d: { zzzzzzzzzz: 1 } }\n")),
            keys_of(map["properties"]["environments"]["additionalProperties"]["anyOf"][0]));
  EXPECT_EQ(keys_known_to_the_parser(experiment_file("zzzzzzzzzzzzzz: 1\n")), keys_of(experiment));
  const base::Json& properties = experiment["properties"];
  for (const char* key : {"blast_radius", "phases", "load_limits"}) {
    EXPECT_EQ(
        keys_known_to_the_parser(experiment_file(std::string(key) + ": { zzzzzzzzzzzzzzzz: 1 }\n")),
        [&] {
          auto known = keys_of(experiment);
          known = keys_of(properties[key]);
          return known;
        }())
        << key;
  }
}

TEST(Schema, IsDraft07AndDescribesItsKeys) {
  const base::Json map = system_map_schema(test_vocabulary());
  EXPECT_EQ(map["$schema"], "http://json-schema.org/draft-07/schema#");
  const base::Json& http =
      map["properties"]["probes"]["additionalProperties"]["properties"]["http"];
  EXPECT_EQ(http["required"], base::Json::parse(R"(["url"])"));
  EXPECT_EQ(http["properties"]["method"]["enum"].size(), 4u);
  EXPECT_EQ(http["properties"]["timeout"]["description"],
            "How long an answer is waited for. Default: 5s");
}

}  // namespace
}  // namespace squall::model
