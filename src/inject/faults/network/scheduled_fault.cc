#include "inject/faults/network/scheduled_fault.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;

constexpr Duration kReadyLimit = std::chrono::seconds(5);
// It reports five times a second.
constexpr Duration kSilenceLimit = std::chrono::milliseconds(1500);
constexpr Duration kLook = std::chrono::milliseconds(500);
// Then what is held is dropped with the table.
constexpr Duration kDrainLimit = std::chrono::milliseconds(200);
constexpr Duration kShortLook = std::chrono::milliseconds(5);
constexpr Duration kGoneLimit = std::chrono::seconds(2);
// Room for twice what 100,000 packets/s hold; what comes beyond it passes at once.
constexpr double kPacketsPerSecond = 100'000;
constexpr double kLeastPackets = 1024;
constexpr double kMostPackets = 65'536;

std::uint64_t queue_limit(const std::vector<PacketProfile>& profiles) {
  Duration longest{};
  for (const PacketProfile& profile : profiles)
    longest = std::max(longest, profile.longest_delay());
  return static_cast<std::uint64_t>(
      std::clamp(2 * kPacketsPerSecond * base::to_seconds(longest), kLeastPackets, kMostPackets));
}

}  // namespace

struct ScheduledFault::Report {
  ProgramOutcome outcome;
  std::string state;
  Json json;
  std::uint64_t count(const char* name) const { return unsigned_field(json, name); }
  Duration duration(const char* name) const { return Duration{integer_field(json, name)}; }
  bool ended() const { return outcome.exit_status.has_value() || outcome.error.has_value(); }
};

ScheduledFault::ScheduledFault(std::string what, std::vector<PacketRule> rules,
                               std::vector<PacketProfile> profiles, std::uint64_t seed,
                               std::string effect, FaultContext& context)
    : what_(std::move(what)),
      rules_(std::move(rules)),
      profiles_(std::move(profiles)),
      seed_(seed),
      effect_(std::move(effect)),
      context_(context),
      name_("squall_" + context.lease().text()) {}

ScheduledFault::~ScheduledFault() {
  if (worker_) context_.programs().end(*worker_);
}

ScheduledFault::Report ScheduledFault::read_report() {
  Report report;
  report.outcome = context_.programs().outcome(*worker_);
  if (report.outcome.report != last_report_) {
    last_report_ = report.outcome.report;
    heard_ = base::BootClock::now();
  }
  if (!last_report_.empty()) {
    if (auto json = base::parse_json(last_report_); json.ok()) report.json = std::move(*json);
  }
  report.state = text_field(report.json, "state");
  return report;
}

std::optional<base::Error> ScheduledFault::trouble(const Report& report) {
  if (report.state == "failed") {
    return base::Error{.code = static_cast<base::ErrorCode>(integer_field(report.json, "code")),
                       .message = text_field(report.json, "error"),
                       .hint = text_field(report.json, "hint")};
  }
  if (report.outcome.error) return report.outcome.error;
  if (report.outcome.exit_status) {
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = fmt::format("the packet scheduler ended with status {}; packets "
                                              "pass without it",
                                              *report.outcome.exit_status)};
  }
  const Duration silent = base::BootClock::now() - heard_;
  const bool starting = report.state.empty();
  if (silent > (starting ? kReadyLimit : kSilenceLimit)) {
    return base::Error{.code = base::ErrorCode::kTimeout,
                       .message = fmt::format("the packet scheduler has said nothing for {}",
                                              base::humanize(silent)),
                       .hint = "was it stopped, or is the machine overloaded?"};
  }
  return std::nullopt;
}

Step ScheduledFault::arm() {
  if (!worker_) {
    // Nothing to undo from a journal, but a replay must know which table to look for.
    if (auto noted = context_.note({{"table", name_}}); !noted.ok())
      return Step::failed(noted.error());
    Json profiles = Json::array();
    for (const PacketProfile& profile : profiles_) profiles.push_back(to_json(profile));
    const Json configuration = {
        {"profiles", profiles}, {"seed", seed_}, {"limit", queue_limit(profiles_)}};
    ProgramRequest request;
    request.purpose = ProgramRequest::Purpose::kWorker;
    request.argv = {"packet_scheduler", configuration.dump()};
    worker_ = context_.programs().start(request);
    asked_ = heard_ = base::BootClock::now();
  }
  const Report report = read_report();
  if (auto error = trouble(report)) return Step::failed(std::move(*error));
  if (report.state.empty()) return Step::wait_for({context_.programs().fd()}, kLook);
  if (auto put = put_table(report); !put.ok()) return Step::failed(std::move(put).error());
  const auto there = table_->there();
  if (!there.ok()) return Step::failed(there.error());
  if (!*there)
    return Step::failed(base::Error{.message = fmt::format("table {} did not appear", name_)});
  const pid_t process = report.outcome.started ? report.outcome.started->pid : 0;
  return Step::done(fmt::format("table inet {} hands {} to process {}", name_, what_, process),
                    Json{{"table", name_},
                         {"rules", rules_.size()},
                         {"queue", report.count("first_queue")},
                         {"worker", process}}
                        .dump());
}

base::Status ScheduledFault::put_table(const Report& report) {
  std::vector<PacketRule> rules = rules_;
  for (PacketRule& rule : rules) {
    if (rule.action == PacketRule::Action::kQueue)
      rule.queue = static_cast<std::uint16_t>(rule.queue + report.count("first_queue"));
  }
  SQUALL_ASSIGN(NftTable table, NftTable::create(name_, rules));
  table_ = std::move(table);
  return {};
}

Step ScheduledFault::effective() {
  const Report report = read_report();
  if (auto error = trouble(report)) return Step::broken(std::move(*error));
  if (report.count(effect_.c_str()) == 0) return Step::wait_for({context_.programs().fd()}, kLook);
  return proof(report, fmt::format("the first of {} are through the scheduler", what_));
}

Step ScheduledFault::hold() {
  const Report report = read_report();
  if (auto error = trouble(report)) return Step::broken(std::move(*error));
  return Step::wait_for({context_.programs().fd()}, kLook);
}

Step ScheduledFault::proof(const Report& report, const std::string& text) const {
  std::vector<std::string> parts;
  if (const auto delayed = report.count("delayed"); delayed > 0) {
    parts.push_back(fmt::format("{} delayed, half of them by {} or more",
                                base::humanize_count(delayed),
                                base::humanize(report.duration("delay_p50_ns"))));
    parts.push_back(fmt::format("late by {} (p50), {} (p99)",
                                base::humanize(report.duration("late_p50_ns")),
                                base::humanize(report.duration("late_p99_ns"))));
  }
  for (const char* name : {"dropped", "duplicated", "corrupted", "overtaken"}) {
    if (const auto count = report.count(name); count > 0)
      parts.push_back(fmt::format("{} {}", base::humanize_count(count), name));
  }
  if (const auto received = report.count("received"); met_ > received)
    parts.push_back(fmt::format("{} passed untouched, for too many waited", met_ - received));
  return Step::done(fmt::format("{}{}{}", text, parts.empty() ? "" : ": ", fmt::join(parts, "; ")),
                    report.json.is_object() ? report.json.dump() : "{}");
}

Step ScheduledFault::revert() {
  if (!worker_) return Step::done("there was no table of ours");
  if (removed_) return Step::done(reverted_text_);
  Programs& programs = context_.programs();
  if (!draining_ && table_) {
    if (const auto packets = table_->packets(); packets.ok()) met_ = *packets;
    // First no new packet is queued; then what is held passes; then the table may go, for the
    // kernel drops what is queued when a hook goes.
    if (table_->clear_rules().ok()) programs.tell(*worker_, "drain");
    asked_ = base::BootClock::now();
    draining_ = true;
  }
  const Report report = read_report();
  const bool waiting = draining_ && !report.ended() && report.state != "drained";
  if (waiting && base::BootClock::now() - asked_ < kDrainLimit)
    return Step::wait_for({programs.fd()}, kShortLook);
  if (table_) {
    if (auto removed = table_->remove(); !removed.ok()) {
      table_.reset();  // closing the socket removes it too, a little later
      draining_ = true;
      return Step::failed(std::move(removed).error());
    }
  }
  programs.end(*worker_);
  removed_ = true;
  Step step = proof(report, fmt::format("table inet {} is deleted", name_));
  if (waiting && report.count("held") > 0)
    step.text += fmt::format("; {} held packets were dropped", report.count("held"));
  reverted_text_ = step.text;
  return step;
}

Step ScheduledFault::verify() {
  const base::Instant now = base::BootClock::now();
  if (!gone_wait_since_) gone_wait_since_ = now;
  const bool overdue = now - *gone_wait_since_ > kGoneLimit;
  const auto there = table_ ? table_->there() : NftTable::exists(name_);
  if (!there.ok()) return Step::failed(there.error());
  if (*there && !overdue) return Step::wait(kShortLook);
  if (*there) {
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message =
            fmt::format("table inet {} is still there: some process keeps its socket open", name_),
        .hint = fmt::format("find it: nft list table inet {} names the owner's process", name_)});
  }
  const bool worker_runs = worker_ && !read_report().ended();
  if (worker_runs && !overdue) return Step::wait_for({context_.programs().fd()}, kShortLook);
  if (worker_runs) {
    return Step::failed(base::Error{.code = base::ErrorCode::kRevertNotVerified,
                                    .message = "the packet scheduler does not end",
                                    .hint = "no packet reaches it any more; look what blocks it"});
  }
  return Step::done(fmt::format("there is no table {} any more, and no packet scheduler", name_),
                    Json{{"table", name_}, {"exists", false}}.dump());
}

void ScheduledFault::recall(const Json& found) {
  if (const std::string name = text_field(found, "table"); !name.empty()) name_ = name;
}

}  // namespace squall::inject
