#include "unit/model/kinds_for_test.h"

namespace squall::model::testing {
namespace {

constexpr std::string_view kMethods[] = {"GET", "POST", "PUT", "DELETE"};
constexpr ParameterDescriptor kExpect[] = {
    {.name = "status", .type = ValueType::kStatus, .default_text = "2xx", .summary = "Statuses."},
    {.name = "when", .type = ValueType::kCondition, .summary = "A condition on the answer."},
};
constexpr ParameterDescriptor kTls[] = {
    {.name = "ca_file", .type = ValueType::kPath, .required = true, .summary = "Certificates."},
    {.name = "verify", .type = ValueType::kBoolean, .default_text = "true", .summary = "Verify."},
};
constexpr ParameterDescriptor kHttp[] = {
    {.name = "url", .type = ValueType::kUrl, .required = true, .summary = "What is asked."},
    {.name = "method",
     .type = ValueType::kChoice,
     .default_text = "GET",
     .summary = "The HTTP method.",
     .choices = kMethods},
    {.name = "rate",
     .type = ValueType::kLoad,
     .default_text = "10/s",
     .maximum = 100000,
     .summary = "Requests a second."},
    {.name = "timeout",
     .type = ValueType::kDuration,
     .default_text = "5s",
     .minimum = 1e6,
     .maximum = 60e9,
     .summary = "How long an answer is waited for."},
    {.name = "headers", .type = ValueType::kTextMap, .summary = "Headers."},
    {.name = "body", .type = ValueType::kAny, .summary = "The body, as JSON."},
    {.name = "sequence", .type = ValueType::kText, .summary = "Where the number is written."},
    {.name = "expect",
     .type = ValueType::kObject,
     .summary = "What is right.",
     .children = kExpect},
    {.name = "tls", .type = ValueType::kObject, .summary = "TLS.", .children = kTls},
};
constexpr SignalDescriptor kHttpSignals[] = {
    {"latency", SignalType::kRequests, "s", "Time to the answer."},
    {"success", SignalType::kRequests, "%", "Share of answers that are right."},
};
constexpr ParameterDescriptor kPostgres[] = {
    {.name = "dsn_file",
     .type = ValueType::kPath,
     .required = true,
     .summary = "Where to connect."},
    {.name = "query", .type = ValueType::kQuery, .required = true, .summary = "One number."},
    {.name = "every",
     .type = ValueType::kDuration,
     .default_text = "1s",
     .minimum = 1e8,
     .summary = "How often."},
};
constexpr SignalDescriptor kPostgresSignals[] = {
    {"value", SignalType::kGauge, "", "The number."},
};
constexpr ParameterDescriptor kLog[] = {
    {.name = "file", .type = ValueType::kPath, .required = true, .summary = "The file."},
    {.name = "contains",
     .type = ValueType::kText,
     .required = true,
     .minimum = 1,
     .summary = "A text."},
};
constexpr SignalDescriptor kLogSignals[] = {
    {"matches", SignalType::kCounter, "", "Lines that contain the text."},
};
constexpr ProbeKindDescriptor kHttpProbe{.name = "http",
                                         .summary = "Sends HTTP requests.",
                                         .generates_load = true,
                                         .parameters = kHttp,
                                         .signals = kHttpSignals,
                                         .example = ""};
constexpr ProbeKindDescriptor kPostgresProbe{.name = "postgres",
                                             .summary = "Asks for a number.",
                                             .parameters = kPostgres,
                                             .signals = kPostgresSignals,
                                             .example = ""};
constexpr ProbeKindDescriptor kLogProbe{.name = "log",
                                        .summary = "Counts lines.",
                                        .parameters = kLog,
                                        .signals = kLogSignals,
                                        .example = ""};

constexpr std::string_view kMechanisms[] = {"pidfd"};
constexpr std::string_view kCapabilities[] = {"CAP_KILL"};
constexpr std::string_view kRestores[] = {"start", "await", "none"};
constexpr ParameterDescriptor kKill[] = {
    {.name = "service", .type = ValueType::kService, .required = true, .summary = "Whose process."},
    {.name = "member", .type = ValueType::kMember, .summary = "Which member."},
    {.name = "count",
     .type = ValueType::kInteger,
     .default_text = "1",
     .minimum = 1,
     .maximum = 1000,
     .summary = "How many."},
    {.name = "signal", .type = ValueType::kSignal, .default_text = "SIGKILL", .summary = "Signal."},
    {.name = "restore",
     .type = ValueType::kChoice,
     .default_text = "await",
     .summary = "Who brings it back.",
     .choices = kRestores},
};
constexpr ParameterDescriptor kLatency[] = {
    {.name = "from", .type = ValueType::kService, .required = true, .summary = "Who asks."},
    {.name = "to", .type = ValueType::kService, .required = true, .summary = "Who answers."},
    {.name = "delay", .type = ValueType::kDuration, .required = true, .summary = "Delay."},
    {.name = "share",
     .type = ValueType::kShare,
     .default_text = "100%",
     .summary = "Of the packets."},
    {.name = "limit", .type = ValueType::kSize, .default_text = "1MiB", .summary = "Queue."},
    {.name = "factor", .type = ValueType::kNumber, .default_text = "1.0", .summary = "Factor."},
    {.name = "pace", .type = ValueType::kRate, .summary = "Pace."},
};
constexpr ParameterDescriptor kCommand[] = {
    {.name = "argv", .type = ValueType::kArgv, .required = true, .summary = "What breaks it."},
    {.name = "revert", .type = ValueType::kArgv, .required = true, .summary = "What mends it."},
    {.name = "proof", .type = ValueType::kArgv, .default_text = "[\"true\"]", .summary = "Proof."},
};
constexpr FaultKindDescriptor kKillFault{.name = "process.kill",
                                         .summary = "Kills processes.",
                                         .effect = "",
                                         .revert = "",
                                         .proof = "",
                                         .weakest = LifetimeClass::kOneWay,
                                         .mechanisms = kMechanisms,
                                         .capabilities = kCapabilities,
                                         .parameters = kKill,
                                         .example = ""};
constexpr FaultKindDescriptor kLatencyFault{.name = "network.latency",
                                            .summary = "Delays packets.",
                                            .effect = "",
                                            .revert = "",
                                            .proof = "",
                                            .weakest = LifetimeClass::kJournaled,
                                            .mechanisms = kMechanisms,
                                            .capabilities = kCapabilities,
                                            .parameters = kLatency,
                                            .example = ""};
constexpr FaultKindDescriptor kCommandFault{.name = "command",
                                            .summary = "Runs a program.",
                                            .effect = "",
                                            .revert = "",
                                            .proof = "",
                                            .weakest = LifetimeClass::kJournaled,
                                            .mechanisms = kMechanisms,
                                            .capabilities = kCapabilities,
                                            .parameters = kCommand,
                                            .example = ""};

constexpr const ProbeKindDescriptor* kProbes[] = {&kHttpProbe, &kPostgresProbe, &kLogProbe};
constexpr const FaultKindDescriptor* kFaults[] = {&kKillFault, &kLatencyFault, &kCommandFault};

}  // namespace

const Vocabulary& test_vocabulary() {
  static const Vocabulary kVocabulary{kFaults, kProbes};
  return kVocabulary;
}

std::string_view orchestrator_map() {
  return R"(system: orchestrator
services:
  users:    { external: true, depends_on: [api] }
  api:      { process: { exe: orchestrator-api }, start: [./up, api], )"
         R"(listens: 127.0.0.1:8080, depends_on: [db, queue], owner: payments, logs: [log/api.log] }
  worker:   { process: { exe: orchestrator-worker }, members: 3, start: [./up, worker, )"
         R"("{member}"], depends_on: [db, queue] }
  db:       { kind: postgres, listens: 127.0.0.1:5432, )"
         R"(members: { primary: { listens: 127.0.0.1:5432 }, standby: { role: replica, )"
         R"(listens: 127.0.0.1:5433 } } }
  queue:    { kind: redis, container: { label: app=queue } }
  mailer:   {}
probes:
  reads:  { http: { url: "http://127.0.0.1:8080/workflows/recent", rate: 200/s, timeout: 2s, )"
         R"(expect: { status: 2xx } }, from: users, to: api }
  writes: { http: { method: POST, url: "http://127.0.0.1:8080/workflows", body: { steps: [1, )"
         R"(2], name: x }, rate: 20/s, sequence: "$.client_ref" } }
  stuck:  { postgres: { dsn_file: db.dsn, query: "select count(*) from tasks where stuck", )"
         R"(every: 500ms } }
  errors: { log: { file: log/api.log, contains: ERROR } }
steady_state: { up: reads.success >= 99%, fast: p99(reads.latency) < 250ms, )"
         R"(none-stuck: stuck.value == 0 }
limits: { longest_fault: 5min, processes: 2 }
environments:
  dev:        { probes: { reads: { http: { rate: 20/s } } } }
  staging:    { production: true, services: { mailer: null }, )"
         R"(steady_state: { fast: p99(reads.latency) < 1s } }
  production: { services: { worker: { members: 12 } } }
)";
}

}  // namespace squall::model::testing
