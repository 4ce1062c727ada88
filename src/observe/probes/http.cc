// Load over HTTP/1.1 with fixed sending times, and what came of every request.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "observe/common_parameters.h"
#include "observe/http_client.h"
#include "observe/load_generator.h"
#include "observe/probes/kinds.h"
#include "observe/read_back.h"
#include "observe/response_content.h"
#include "observe/sample_sink.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using evidence::WriteFate;
using model::ParameterDescriptor;
using model::ValueType;

constexpr base::Duration kCheckLimit = std::chrono::seconds(3);

constexpr std::array<ParameterDescriptor, 3> kTlsParameters = {{
    {.name = "ca_file",
     .type = ValueType::kPath,
     .summary = "Certificates to trust, as a PEM file; without it the system's."},
    {.name = "verify",
     .type = ValueType::kBoolean,
     .default_text = "true",
     .summary = "Whether the server's certificate and name are checked."},
    {.name = "server_name",
     .type = ValueType::kText,
     .summary = "The name that the certificate must have; default: the host of the URL."},
}};

constexpr std::array<ParameterDescriptor, 3> kReadBackParameters = {{
    {.name = "url",
     .type = ValueType::kUrl,
     .required = true,
     .summary = "Where one write is asked for; {sequence} is replaced."},
    {.name = "expect",
     .type = ValueType::kObject,
     .summary = "The answer that says it is there; 404 and 410 say that it is not.",
     .children = kExpectParameters},
    {.name = "count",
     .type = ValueType::kText,
     .summary = "JSON path of the number of copies, or of a list of them; without it an expected "
                "answer is one copy."},
}};

constexpr std::array<ParameterDescriptor, 14> kParameters = {{
    {.name = "url",
     .type = ValueType::kUrl,
     .required = true,
     .summary = "Where to ask. In writes {sequence} is replaced."},
    {.name = "method",
     .type = ValueType::kText,
     .default_text = "GET",
     .minimum = 1,
     .maximum = 20,
     .summary = "The HTTP method."},
    {.name = "headers", .type = ValueType::kTextMap, .summary = "Headers to send."},
    {.name = "headers_file",
     .type = ValueType::kPath,
     .summary = "A file of `Name: value` lines, for secrets."},
    {.name = "body",
     .type = ValueType::kAny,
     .summary = "What to send: a text as it stands, anything else as JSON. {sequence} is "
                "replaced."},
    {.name = "rate",
     .type = ValueType::kLoad,
     .default_text = "10/s",
     .maximum = 100'000,
     .summary = "How many requests, and how they are spread: 200/s, { poisson: 200/s }, { ramp: "
                "{ from: 10/s, to: 200/s, over: 30s } }, { step: [ { rate: 10/s, for: 5s } ] }."},
    timeout_parameter("2s"),
    {.name = "in_flight",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 20'000,
     .summary = "At most so many requests without an answer; beyond it requests are dropped and "
                "counted. Default: what the rate needs when nothing answers."},
    {.name = "expect",
     .type = ValueType::kObject,
     .summary = "What a good answer looks like.",
     .children = kExpectParameters},
    {.name = "tls",
     .type = ValueType::kObject,
     .summary = "For https.",
     .children = kTlsParameters},
    {.name = "sequence",
     .type = ValueType::kText,
     .summary = "JSON path of the body's field that carries a unique number: $.client_ref. Makes "
                "lost() and duplicated() known."},
    {.name = "read_back",
     .type = ValueType::kObject,
     .summary = "How to find a write again at the end.",
     .children = kReadBackParameters},
    {.name = "response_limit",
     .type = ValueType::kSize,
     .default_text = "8MiB",
     .minimum = 1,
     .maximum = 1024.0 * 1024 * 1024,
     .summary = "Larger answers are bad bodies."},
    kAlwaysParameter,
}};

constexpr std::array<model::SignalDescriptor, 2> kSignals = {{kLatencySignal, kSuccessSignal}};

class HttpProbe final : public Probe, private LoadSink {
 public:
  HttpProbe(const model::ProbeSpecification& specification, ProbeContext context)
      : name_(specification.name),
        parameters_(specification.parameters),
        context_(std::move(context)),
        sink_(context_.recorder),
        series_(sink_, context_.slices) {}

  // Everything that can be wrong without asking the target.
  base::Status set_up();
  base::Status check() override;
  base::Status prepare() override;
  void run(base::Instant first_tick, std::stop_token stop) override;
  base::Status finish() override;
  base::Duration patience() const override {
    return parameters_.duration("timeout") + std::chrono::seconds(2);
  }
  void abandon() override { sink_.close(); }
  std::optional<LoadHealth> load_health() const override;

 private:
  base::Status set_up_request();
  base::Status set_up_read_back();
  bool writes() const { return !sequence_prefix_.empty(); }
  void completed(const Exchange& exchange) override;
  void dropped(base::Instant intended) override;
  void breathe() override;
  void record_fate(const Exchange& exchange, Outcome outcome);

  std::string name_;
  model::Parameters parameters_;
  ProbeContext context_;
  SampleSink sink_;
  RequestSeries series_;
  Url url_;
  HttpHeaders headers_;
  std::string method_;
  Expectation expectation_;
  std::shared_ptr<TlsContext> tls_;
  std::unique_ptr<Resolver> resolver_;
  std::optional<HttpRequestTemplate> request_;
  std::string sequence_prefix_;
  std::vector<std::uint64_t> to_read_back_;
  std::optional<Expectation> read_back_expectation_;
  std::optional<base::JsonPath> read_back_count_;

  evidence::Histogram lag_;  // generator's thread
  std::uint64_t own_intended_ = 0;
  std::uint64_t own_dropped_ = 0;
  std::atomic<std::uint64_t> intended_{0};
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<std::int64_t> lag_p99_{0};
};

base::Status HttpProbe::set_up() {
  SQUALL_ASSIGN(url_, parse_url(parameters_.text("url")));
  method_ = parameters_.text("method");
  if (parameters_.has("headers")) {
    for (const auto& [name, value] : parameters_.json().at("headers").items()) {
      headers_.emplace_back(name, value.get<std::string>());
    }
  }
  if (const auto file = parameters_.optional_text("headers_file")) {
    SQUALL_ASSIGN(const HttpHeaders more, read_headers_file(*file));
    headers_.insert(headers_.end(), more.begin(), more.end());
  }
  SQUALL_ASSIGN(expectation_, Expectation::make(parameters_.object("expect")));
  if (url_.tls) {
    const model::Parameters tls = parameters_.object("tls");
    TlsOptions options;
    options.ca_file = tls.optional_text("ca_file").value_or("");
    options.server_name = tls.optional_text("server_name").value_or(url_.host);
    if (tls.has("verify") && !tls.boolean("verify")) options.verify = TlsOptions::Verify::kNone;
    SQUALL_ASSIGN(tls_, TlsContext::create(std::move(options)));
  }
  resolver_ = std::make_unique<Resolver>(url_.host, url_.port);
  SQUALL_TRY(set_up_request());
  return set_up_read_back();
}

base::Status HttpProbe::set_up_request() {
  RequestOptions options{.method = method_,
                         .url = url_,
                         .headers = headers_,
                         .body = {},
                         .content_type = {},
                         .sequence_prefix = {}};
  const bool has_body = parameters_.has("body");
  base::Json body = has_body ? parameters_.json().at("body") : base::Json();
  if (const auto path = parameters_.optional_text("sequence")) {
    sequence_prefix_ = fmt::format("{}-{}", context_.run, name_);
    options.sequence_prefix = sequence_prefix_;
    SQUALL_TRY(put_sequence_placeholder(body, *path));
  }
  if (body.is_string()) {
    options.body = body.get<std::string>();
    options.content_type = "text/plain; charset=utf-8";
  } else if (has_body) {
    options.body = body.dump();
    options.content_type = "application/json";
  }
  SQUALL_ASSIGN(request_, HttpRequestTemplate::make(options));
  return {};
}

base::Status HttpProbe::set_up_read_back() {
  if (!parameters_.has("read_back")) return {};
  const model::Parameters read_back = parameters_.object("read_back");
  if (!writes()) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "`read_back` needs `sequence`",
                       .hint =
                           "name the field of the body that carries the number: sequence: "
                           "$.client_ref"};
  }
  const std::string url = read_back.text("url");
  if (url.find(kSequencePlaceholder) == std::string::npos) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "the url of `read_back` has no {sequence} in it",
                       .hint = "such as http://127.0.0.1:8080/items?ref={sequence}"};
  }
  if (const auto parsed = parse_url(url); !parsed.ok()) return parsed.error();
  SQUALL_ASSIGN(read_back_expectation_, Expectation::make(read_back.object("expect")));
  if (const auto count = read_back.optional_text("count")) {
    SQUALL_ASSIGN(read_back_count_, base::JsonPath::parse(*count));
  }
  return {};
}

base::Status HttpProbe::check() {
  const base::Instant deadline = base::BootClock::now() + kCheckLimit;
  block_broken_pipe_signal();
  SQUALL_TRY(resolver_->resolve());
  HttpClient client(*resolver_, tls_, parameters_.size("response_limit"));
  if (method_ != "GET" && method_ != "HEAD") return client.connect(deadline);
  const auto kind =
      request_->head() ? HttpResponseParser::Request::kHead : HttpResponseParser::Request::kOther;
  const auto answer = client.ask(request_->render(0), kind, deadline);
  if (!answer.ok()) return answer.error();
  return {};
}

base::Status HttpProbe::prepare() {
  SQUALL_TRY(resolver_->resolve());
  return series_.declare(name_);
}

void HttpProbe::run(base::Instant first_tick, std::stop_token stop) {
  auto schedule = ArrivalSchedule::make(parameters_.object("rate"), context_.seed);
  if (!schedule.ok()) return;  // the parser knows the shapes
  const base::Duration timeout = parameters_.duration("timeout");
  const int wanted =
      static_cast<int>(parameters_.optional_integer("in_flight")
                           .value_or(natural_in_flight(schedule->peak_rate(), timeout)));
  const bool needs_body = expectation_.needs_body() || series_.needs_json();
  LoadOptions options{
      .clock = context_.clock,
      .resolver = *resolver_,
      .tls = tls_,
      .request = *request_,
      .schedule = std::move(schedule).value(),
      .start = first_tick,
      .timeout = timeout,
      .in_flight = connections_within_descriptor_limit(wanted),
      .body = needs_body ? HttpResponseParser::Body::kKeep : HttpResponseParser::Body::kCount,
      .response_limit = parameters_.size("response_limit")};
  auto generator = LoadGenerator::create(std::move(options), *this);
  if (!generator.ok()) {
    sink_.add(evidence::Event{.at = context_.clock.now(),
                              .type = "note",
                              .subject = name_,
                              .text = "no load: " + generator.error().to_string(),
                              .details = {}});
    return;
  }
  (*generator)->run(stop);
}

void HttpProbe::completed(const Exchange& exchange) {
  ++own_intended_;
  lag_.add(exchange.sent - exchange.intended);
  evidence::RequestSample sample{.intended = exchange.intended,
                                 .sent = exchange.sent,
                                 .done = exchange.done,
                                 .outcome = exchange.outcome};
  if (exchange.response == nullptr) {
    series_.add(sample);
  } else {
    ResponseContent content(*exchange.response);
    sample.status = content.status();
    sample.outcome = expectation_.judge(content, sample.done - sample.intended);
    if (!series_.sliced()) {
      series_.add(sample);
    } else {
      model::RequestFields fields;
      fields.header = [&content](std::string_view name) { return content.header(name); };
      fields.json = [&content](std::string_view path) { return content.json(path); };
      series_.add(sample, std::move(fields));
    }
  }
  if (writes()) record_fate(exchange, sample.outcome);
}

void HttpProbe::record_fate(const Exchange& exchange, Outcome outcome) {
  WriteFate fate = WriteFate::kUnknown;
  if (outcome == Outcome::kOk) fate = WriteFate::kAcknowledged;
  if (outcome == Outcome::kStatus || !exchange.took_bytes) fate = WriteFate::kRefused;
  sink_.add_write(series_.whole(),
                  {.sequence = exchange.sequence, .sent = exchange.sent, .fate = fate});
  if (fate != WriteFate::kRefused) to_read_back_.push_back(exchange.sequence);
}

void HttpProbe::dropped(base::Instant intended) {
  ++own_intended_;
  ++own_dropped_;
  series_.add_dropped(intended);
}

void HttpProbe::breathe() {
  intended_.store(own_intended_, std::memory_order_relaxed);
  dropped_.store(own_dropped_, std::memory_order_relaxed);
  lag_p99_.store(lag_.quantile(0.99).count(), std::memory_order_relaxed);
}

std::optional<LoadHealth> HttpProbe::load_health() const {
  return LoadHealth{.probe = name_,
                    .intended = intended_.load(std::memory_order_relaxed),
                    .dropped = dropped_.load(std::memory_order_relaxed),
                    .lag_p99 = base::Duration{lag_p99_.load(std::memory_order_relaxed)}};
}

base::Status HttpProbe::finish() {
  if (!read_back_expectation_ || to_read_back_.empty()) return {};
  std::sort(to_read_back_.begin(), to_read_back_.end());
  const ReadBackOptions options{.url = parameters_.object("read_back").text("url"),
                                .headers = headers_,
                                .tls = tls_,
                                .expectation = *read_back_expectation_,
                                .count = read_back_count_,
                                .sequence_prefix = sequence_prefix_,
                                .sequences = to_read_back_,
                                .timeout = parameters_.duration("timeout")};
  SQUALL_ASSIGN(const auto results, read_back(options));
  for (const evidence::ReadBack& result : results) sink_.add_read_back(series_.whole(), result);
  return {};
}

}  // namespace

constexpr model::ProbeKindDescriptor kHttpProbe = {
    .name = "http",
    .summary =
        "Asks an HTTP server at given times, whether or not it keeps up, and measures every "
        "answer.",
    .generates_load = true,
    .parameters = kParameters,
    .signals = kSignals,
    .example = R"(reads:
  http: { url: "http://127.0.0.1:8080/items", rate: 200/s, timeout: 2s, )"
               R"(expect: { status: 2xx } })"};

base::Result<std::unique_ptr<Probe>> make_http_probe(const model::ProbeSpecification& specification,
                                                     ProbeContext context) {
  auto probe = std::make_unique<HttpProbe>(specification, std::move(context));
  SQUALL_TRY(probe->set_up());
  return std::unique_ptr<Probe>(std::move(probe));
}

}  // namespace squall::observe
