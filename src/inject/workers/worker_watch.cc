#include "inject/workers/worker_watch.h"

#include <fmt/format.h>

#include <utility>

#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;

constexpr Duration kReadyLimit = std::chrono::seconds(10);

}  // namespace

std::uint64_t WorkerReport::count(const char* name) const {
  return unsigned_field(*json, name);
}

Duration WorkerReport::duration(const char* name) const {
  return Duration{std::int64_t{integer_field(*json, name)}};
}

WorkerWatch::WorkerWatch(WorkerWatch&& other) noexcept
    : programs_(other.programs_),
      what_(std::move(other.what_)),
      silence_limit_(other.silence_limit_),
      id_(std::exchange(other.id_, std::nullopt)),
      last_(std::move(other.last_)),
      heard_(other.heard_) {}

WorkerWatch::~WorkerWatch() {
  end();
}

void WorkerWatch::start(const std::string& name, const Json& configuration) {
  ProgramRequest request;
  request.purpose = ProgramRequest::Purpose::kWorker;
  request.argv = {name, configuration.dump()};
  id_ = programs_.start(request);
  heard_ = base::BootClock::now();
}

void WorkerWatch::tell(const std::string& text) {
  if (id_) programs_.tell(*id_, text);
}

void WorkerWatch::end() {
  if (id_) programs_.end(*id_);
}

WorkerReport WorkerWatch::look() {
  WorkerReport report;
  report.json = std::make_shared<const Json>();
  if (!id_) return report;
  const ProgramOutcome outcome = programs_.outcome(*id_);
  if (outcome.report != last_) {
    last_ = outcome.report;
    heard_ = base::BootClock::now();
  }
  Json json;
  if (!last_.empty()) {
    if (auto parsed = base::parse_json(last_); parsed.ok()) json = std::move(*parsed);
  }
  report.json = std::make_shared<const Json>(std::move(json));
  report.process = outcome.started;
  report.state = text_field(*report.json, "state");
  report.ended = outcome.exit_status.has_value() || outcome.error.has_value();
  const Duration silent = base::BootClock::now() - heard_;
  if (report.state == "failed") {
    const bool refused = text_field(*report.json, "reason") == "permission";
    report.trouble =
        base::Error{.code = refused ? base::ErrorCode::kPermission : base::ErrorCode::kUnsupported,
                    .message = text_field(*report.json, "error"),
                    .hint = text_field(*report.json, "hint")};
  } else if (outcome.error) {
    report.trouble = outcome.error;
  } else if (outcome.exit_status) {
    report.trouble =
        base::Error{.code = base::ErrorCode::kUnavailable,
                    .message = fmt::format("{} ended with status {}", what_, *outcome.exit_status)};
  } else if (silent > (report.state.empty() ? kReadyLimit : silence_limit_)) {
    report.trouble = base::Error{
        .code = base::ErrorCode::kTimeout,
        .message = fmt::format("{} has said nothing for {}", what_, base::humanize(silent)),
        .hint = "was it stopped, or is the machine overloaded?"};
  }
  return report;
}

}  // namespace squall::inject
