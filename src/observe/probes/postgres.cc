// The answer of a query as a number, and how PostgreSQL answers at all.

#include <fmt/format.h>

#include <array>

#include "base/files.h"
#include "base/text.h"
#include "observe/common_parameters.h"
#include "observe/number_text.h"
#include "observe/postgres_client.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using model::ValueType;

constexpr std::array<model::ParameterDescriptor, 6> kParameters = {{
    {.name = "dsn",
     .type = ValueType::kText,
     .minimum = 1,
     .maximum = 4096,
     .summary = "Connection string without password: host=127.0.0.1 dbname=app user=probe."},
    {.name = "dsn_file",
     .type = ValueType::kPath,
     .summary = "A file that holds the connection string; the place for a password."},
    {.name = "query",
     .type = ValueType::kQuery,
     .required = true,
     .summary =
         "Asked in a read-only transaction; the first column of the first row is the value."},
    every_parameter("1s"),
    timeout_parameter("2s"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 3> kSignals = {{
    {.field = "value",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "The query's answer; true is 1 and false is 0."},
    kLatencySignal,
    kSuccessSignal,
}};

class PostgresProbe final : public TickingProbe {
 public:
  PostgresProbe(const model::ProbeSpecification& specification, ProbeContext context)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"),
                     specification.parameters.duration("timeout")),
        parameters_(specification.parameters),
        query_(parameters_.text("query")),
        series_(sink(), this->context().slices) {}

  base::Status set_up() {
    const auto file = parameters_.optional_text("dsn_file");
    auto dsn = parameters_.optional_text("dsn");
    if (file.has_value() == dsn.has_value()) {
      return base::Error{.code = base::ErrorCode::kBadFile,
                         .message = "exactly one of `dsn` and `dsn_file` is needed",
                         .hint = "dsn_file: db.dsn, a file that only you can read"};
    }
    if (file) dsn_file_ = *file;
    if (dsn) {
      SQUALL_ASSIGN(client_, PostgresClient::create(std::move(*dsn)));
    }
    return {};
  }

  base::Status check() override {
    SQUALL_TRY(open());
    const auto answer = client_->ask(query_, base::BootClock::now() + std::chrono::seconds(3));
    if (!answer.ok()) return answer.error();
    if (answer->is_null || value_of_text(answer->value)) return {};
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "the query's first column is not a number",
                       .hint = "let the query return one number, such as select count(*) from ..."};
  }

  base::Status prepare() override {
    SQUALL_TRY(open());
    SQUALL_ASSIGN(value_, declare_gauge("value"));
    return series_.declare(name());
  }

 private:
  // The file is read late: it may be written by whatever starts the system.
  base::Status open() {
    if (client_ != nullptr) return {};
    SQUALL_ASSIGN(const std::string text, base::read_file(dsn_file_, 16 * 1024));
    SQUALL_ASSIGN(client_, PostgresClient::create(std::string(base::trim(text))));
    return {};
  }

  Outcome outcome_of(const base::Error& error) const {
    if (error.code == base::ErrorCode::kTimeout) return Outcome::kTimeout;
    if (error.code == base::ErrorCode::kBadFile) return Outcome::kStatus;
    return client_->failed_connecting() ? Outcome::kConnect : Outcome::kReset;
  }

  void tick(base::Instant intended) override {
    evidence::RequestSample sample{.intended = intended, .sent = now()};
    const auto answer = client_->ask(query_, intended + limit());
    sample.done = now();
    if (!answer.ok()) {
      sample.outcome = outcome_of(answer.error());
      note(answer.error().to_string());
    } else if (answer->has_row && !answer->is_null) {
      if (const auto value = value_of_text(answer->value)) {
        add(value_, *value);
      } else {
        sample.outcome = Outcome::kBadBody;
        note("the query's first column is not a number");
      }
    }
    series_.add(sample);
  }

  model::Parameters parameters_;
  std::string query_;
  std::string dsn_file_;
  RequestSeries series_;
  evidence::SeriesId value_ = 0;
  std::unique_ptr<PostgresClient> client_;
};

}  // namespace

constexpr model::ProbeKindDescriptor kPostgresProbe = {
    .name = "postgres",
    .summary = "Asks PostgreSQL a query and keeps the answer as a number.",
    .parameters = kParameters,
    .signals = kSignals,
    .example =
        "stuck: { postgres: { dsn_file: db.dsn, query: \"select count(*) from stuck_tasks\", "
        "every: 500ms } }"};

base::Result<std::unique_ptr<Probe>> make_postgres_probe(
    const model::ProbeSpecification& specification, ProbeContext context) {
  auto probe = std::make_unique<PostgresProbe>(specification, std::move(context));
  SQUALL_TRY(probe->set_up());
  return std::unique_ptr<Probe>(std::move(probe));
}

}  // namespace squall::observe
