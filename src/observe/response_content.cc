#include "observe/response_content.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "observe/sample_sink.h"

namespace squall::observe {
namespace {

constexpr std::string_view kExists = "exists";

std::string scalar_text(const base::Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

ResponseContent::ResponseContent(const HttpResponseParser& response) : response_(response) {}
ResponseContent::~ResponseContent() = default;

const base::Json* ResponseContent::find(const base::JsonPath& path) {
  if (!parsed_) {
    parsed_ = true;
    auto document = base::parse_json(response_.body());
    if (document.ok()) {
      document_ = std::make_unique<base::Json>(std::move(document).value());
    }
  }
  return document_ == nullptr ? nullptr : path.find(*document_);
}

std::optional<std::string> ResponseContent::json(std::string_view path) {
  const auto parsed = base::JsonPath::parse(path);
  if (!parsed.ok()) return std::nullopt;
  const base::Json* value = find(*parsed);
  if (value == nullptr || value->is_structured()) return std::nullopt;
  return scalar_text(*value);
}

struct Expectation::JsonExpectation {
  base::JsonPath path;
  base::Json value;
};

Expectation::Expectation() = default;
Expectation::~Expectation() = default;
Expectation::Expectation(Expectation&&) noexcept = default;
Expectation& Expectation::operator=(Expectation&&) noexcept = default;

base::Result<Expectation> Expectation::make(const model::Parameters& expect) {
  Expectation made;
  if (expect.has("status")) {
    made.statuses_ = expect.texts("status");
  } else {
    made.statuses_.emplace_back("2xx");
  }
  if (expect.has("header")) {
    for (const auto& [name, value] : expect.json().at("header").items()) {
      made.headers_.emplace_back(name, value.get<std::string>());
    }
  }
  made.body_contains_ = expect.optional_text("body").value_or("");
  if (expect.has("json")) {
    const base::Json& json = expect.json().at("json");
    if (!json.is_object()) {
      return base::Error{.code = base::ErrorCode::kBadFile,
                         .message = "`json` of `expect` is not a map",
                         .hint = "write json: { \"$.status\": ok }"};
    }
    for (const auto& [path, value] : json.items()) {
      SQUALL_ASSIGN(base::JsonPath parsed, base::JsonPath::parse(path));
      made.json_.push_back({.path = std::move(parsed), .value = value});
    }
  }
  if (const auto text = expect.optional_text("condition")) {
    model::ParsedCondition parsed = model::parse_condition(*text);
    if (parsed.condition == nullptr) {
      return base::Error{.code = base::ErrorCode::kBadFile,
                         .message = "`condition` of `expect`: " + parsed.errors.front().message,
                         .hint = parsed.errors.front().hint};
    }
    made.condition_ = parsed.condition;
  }
  return made;
}

bool Expectation::needs_body() const {
  return !body_contains_.empty() || !json_.empty() ||
         (condition_ != nullptr && reads_field(*condition_, "json"));
}

bool Expectation::accepts_status(int status) const {
  const std::array<char, 3> digits = {static_cast<char>('0' + status / 100),
                                      static_cast<char>('0' + status / 10 % 10),
                                      static_cast<char>('0' + status % 10)};
  return std::any_of(statuses_.begin(), statuses_.end(), [&digits](const std::string& wanted) {
    if (wanted.size() != 3 || wanted[0] != digits[0]) return false;
    return wanted.ends_with("xx") || (wanted[1] == digits[1] && wanted[2] == digits[2]);
  });
}

std::string Expectation::describe_status() const {
  return base::join(statuses_, " or ");
}

evidence::Outcome Expectation::judge(ResponseContent& content, base::Duration latency) const {
  if (!accepts_status(content.status())) return evidence::Outcome::kStatus;
  for (const auto& [name, wanted] : headers_) {
    const auto found = content.header(name);
    if (!found || (wanted != kExists && *found != wanted)) return evidence::Outcome::kBadBody;
  }
  if (!body_contains_.empty() && content.body().find(body_contains_) == std::string_view::npos) {
    return evidence::Outcome::kBadBody;
  }
  for (const JsonExpectation& wanted : json_) {
    const base::Json* found = content.find(wanted.path);
    if (found == nullptr || *found != wanted.value) return evidence::Outcome::kBadBody;
  }
  if (condition_ != nullptr) {
    model::RequestFields fields;
    fields.status = content.status();
    fields.latency_seconds = base::to_seconds(latency);
    fields.success = true;
    fields.outcome = "ok";
    fields.header = [&content](std::string_view name) { return content.header(name); };
    fields.json = [&content](std::string_view path) { return content.json(path); };
    if (!model::matches(*condition_, fields)) return evidence::Outcome::kBadBody;
  }
  return evidence::Outcome::kOk;
}

}  // namespace squall::observe
