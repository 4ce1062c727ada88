#pragma once
// What is in a response, looked at only when somebody asks.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "evidence/sample.h"
#include "model/parameters.h"
#include "model/prediction_language.h"
#include "observe/http_response.h"

namespace squall::observe {

// A view of one response; must not outlive it. The body is parsed as JSON at the first question.
class ResponseContent {
 public:
  explicit ResponseContent(const HttpResponseParser& response);
  ~ResponseContent();
  int status() const { return response_.status(); }
  std::string_view body() const { return response_.body(); }
  std::optional<std::string> header(std::string_view name) const { return response_.header(name); }
  // Null when the body is not JSON or nothing is there.
  const base::Json* find(const base::JsonPath& path);
  // Scalars as text; absent for maps and lists.
  std::optional<std::string> json(std::string_view path);

 private:
  const HttpResponseParser& response_;
  std::unique_ptr<base::Json> document_;
  bool parsed_ = false;
};

// What a probe's `expect` (kExpectParameters) asks of a response.
class Expectation {
 public:
  static base::Result<Expectation> make(const model::Parameters& expect);
  Expectation();
  ~Expectation();
  Expectation(Expectation&&) noexcept;
  Expectation& operator=(Expectation&&) noexcept;

  bool needs_body() const;
  bool accepts_status(int status) const;
  // kOk, kStatus or kBadBody.
  evidence::Outcome judge(ResponseContent& content, base::Duration latency) const;
  std::string describe_status() const;  // "2xx or 304"

 private:
  struct JsonExpectation;
  std::vector<std::string> statuses_;
  std::vector<std::pair<std::string, std::string>> headers_;  // value "exists": any
  std::string body_contains_;
  std::vector<JsonExpectation> json_;
  model::ConditionPtr condition_;
};

}  // namespace squall::observe
