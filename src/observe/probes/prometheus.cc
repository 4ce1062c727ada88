// The value of an instant query at a Prometheus server.

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "observe/common_parameters.h"
#include "observe/http_client.h"
#include "observe/http_request.h"
#include "observe/number_text.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using model::ValueType;

constexpr std::uint64_t kAnswerLimit = 1u << 20;

constexpr std::array<model::ParameterDescriptor, 7> kParameters = {{
    {.name = "url",
     .type = ValueType::kUrl,
     .required = true,
     .summary = "The server: http://127.0.0.1:9090."},
    {.name = "query",
     .type = ValueType::kQuery,
     .required = true,
     .summary = "A PromQL query that gives one number."},
    {.name = "headers_file",
     .type = ValueType::kPath,
     .summary = "A file of `Name: value` lines, for secrets."},
    {.name = "ca_file",
     .type = ValueType::kPath,
     .summary = "For https: certificates to trust, as a PEM file."},
    every_parameter("5s"),
    timeout_parameter("2s"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 3> kSignals = {{
    {.field = "value",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "The query's answer; no sample while it is empty."},
    kLatencySignal,
    kSuccessSignal,
}};

std::string percent_encoded(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      result += c;
    } else {
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return result;
}

struct Answer {
  Outcome outcome = Outcome::kOk;
  std::optional<double> value;
  std::string complaint;
};

Answer read_answer(const HttpResponseParser& response) {
  const auto document = base::parse_json(response.body());
  if (!document.ok() || !document->is_object() || !document->contains("status")) {
    return {.outcome = response.status() / 100 == 2 ? Outcome::kBadBody : Outcome::kStatus,
            .complaint = fmt::format("status {} and no answer of Prometheus", response.status())};
  }
  if ((*document)["status"] != "success") {
    const auto error = document->value("error", base::Json());
    return {.outcome = Outcome::kStatus,
            .complaint =
                error.is_string() ? base::printable(error.get<std::string>()) : "the query failed"};
  }
  const base::Json& data = document->value("data", base::Json::object());
  const std::string type =
      data.is_object() && data.contains("resultType") && data["resultType"].is_string()
          ? data["resultType"].get<std::string>()
          : "";
  const base::Json result = data.is_object() ? data.value("result", base::Json()) : base::Json();
  base::Json pair;
  if (type == "scalar") {
    pair = result;
  } else if (type == "vector" && result.is_array()) {
    if (result.empty()) return {};
    if (result.size() > 1) {
      return {.outcome = Outcome::kBadBody,
              .complaint = fmt::format("the query gives {} series; make it one with sum(), max() "
                                       "or a narrower selector",
                                       result.size())};
    }
    if (result[0].is_object()) pair = result[0].value("value", base::Json());
  }
  if (pair.is_array() && pair.size() == 2 && pair[1].is_string()) {
    const std::string text = pair[1].get<std::string>();
    if (text == "NaN") return {};
    if (const auto value = value_of_text(text)) return {.value = value};
  }
  return {.outcome = Outcome::kBadBody, .complaint = "the query does not give one number"};
}

class PrometheusProbe final : public TickingProbe {
 public:
  PrometheusProbe(const model::ProbeSpecification& specification, ProbeContext context)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"),
                     specification.parameters.duration("timeout")),
        series_(sink(), this->context().slices) {}

  base::Status set_up(const model::Parameters& parameters) {
    RequestOptions options{
        .url = {}, .headers = {}, .body = {}, .content_type = {}, .sequence_prefix = {}};
    SQUALL_ASSIGN(options.url, parse_url(parameters.text("url")));
    std::string& target = options.url.target;
    while (target.ends_with('/')) target.pop_back();
    target += "/api/v1/query?query=" + percent_encoded(parameters.text("query"));
    if (const auto file = parameters.optional_text("headers_file")) {
      SQUALL_ASSIGN(options.headers, read_headers_file(*file));
    }
    std::shared_ptr<TlsContext> tls;
    if (options.url.tls) {
      SQUALL_ASSIGN(tls,
                    TlsContext::create({.ca_file = parameters.optional_text("ca_file").value_or(""),
                                        .server_name = options.url.host}));
    }
    SQUALL_ASSIGN(request_, HttpRequestTemplate::make(options));
    resolver_ = std::make_unique<Resolver>(options.url.host, options.url.port);
    client_ = std::make_unique<HttpClient>(*resolver_, std::move(tls), kAnswerLimit);
    return {};
  }

  base::Status check() override {
    block_broken_pipe_signal();
    SQUALL_TRY(resolver_->resolve());
    const auto response = ask(base::BootClock::now() + std::chrono::seconds(3));
    if (!response.ok()) return response.error();
    const Answer answer = read_answer(**response);
    if (answer.outcome == Outcome::kOk) return {};
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = "Prometheus at " + resolver_->text() + ": " + answer.complaint,
                       .hint = "try the query in Prometheus' own page"};
  }

  base::Status prepare() override {
    SQUALL_TRY(resolver_->resolve());
    SQUALL_ASSIGN(value_, declare_gauge("value"));
    return series_.declare(name());
  }

 private:
  base::Result<const HttpResponseParser*> ask(base::Instant deadline) {
    return client_->ask(request_->render(0), HttpResponseParser::Request::kOther, deadline);
  }

  void tick(base::Instant intended) override {
    evidence::RequestSample sample{.intended = intended, .sent = now()};
    const auto response = ask(intended + limit());
    sample.done = now();
    if (!response.ok()) {
      const base::ErrorCode code = response.error().code;
      sample.outcome = code == base::ErrorCode::kTimeout   ? Outcome::kTimeout
                       : code == base::ErrorCode::kCorrupt ? Outcome::kProtocol
                                                           : Outcome::kConnect;
      resolver_->refresh();
      note(response.error().to_string());
    } else {
      const Answer answer = read_answer(**response);
      sample.status = (*response)->status();
      sample.outcome = answer.outcome;
      if (answer.value) add(value_, *answer.value);
      if (!answer.complaint.empty()) note(answer.complaint);
    }
    series_.add(sample);
  }

  std::unique_ptr<Resolver> resolver_;
  std::optional<HttpRequestTemplate> request_;
  std::unique_ptr<HttpClient> client_;
  RequestSeries series_;
  evidence::SeriesId value_ = 0;
};

}  // namespace

constexpr model::ProbeKindDescriptor kPrometheusProbe = {
    .name = "prometheus",
    .summary = "Asks a Prometheus server an instant query.",
    .parameters = kParameters,
    .signals = kSignals,
    .example =
        "errors: { prometheus: { url: \"http://127.0.0.1:9090\", "
        "query: \"sum(rate(http_errors_total[1m]))\" } }"};

base::Result<std::unique_ptr<Probe>> make_prometheus_probe(
    const model::ProbeSpecification& specification, ProbeContext context) {
  auto probe = std::make_unique<PrometheusProbe>(specification, std::move(context));
  SQUALL_TRY(probe->set_up(specification.parameters));
  return std::unique_ptr<Probe>(std::move(probe));
}

}  // namespace squall::observe
