#include "inject/faults/network/scheduled_fault.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;

// As long as a silent engine is waited for.
constexpr Duration kSilenceLimit = std::chrono::seconds(3);
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

ScheduledFault::QueueWorker packet_scheduler(const std::vector<PacketProfile>& profiles,
                                             std::uint64_t seed) {
  Json list = Json::array();
  for (const PacketProfile& profile : profiles) list.push_back(to_json(profile));
  return {.name = "packet_scheduler",
          .what = "the packet scheduler",
          .configuration = {{"profiles", list}, {"seed", seed}, {"limit", queue_limit(profiles)}}};
}

}  // namespace

ScheduledFault::ScheduledFault(std::string what, std::vector<PacketRule> rules,
                               std::vector<PacketProfile> profiles, std::uint64_t seed,
                               std::string effect, Marking marked, FaultContext& context,
                               std::optional<NetworkNamespace> place)
    : ScheduledFault(std::move(what), std::move(rules), packet_scheduler(profiles, seed),
                     std::move(effect), std::move(marked), context, std::move(place)) {}

ScheduledFault::ScheduledFault(std::string what, std::vector<PacketRule> rules, QueueWorker worker,
                               std::string effect, Marking marked, FaultContext& context,
                               std::optional<NetworkNamespace> place)
    : what_(std::move(what)),
      rules_(std::move(rules)),
      queue_worker_(std::move(worker)),
      effect_(std::move(effect)),
      context_(context),
      marks_(std::move(marked), context),
      name_("squall_" + context.lease().text()),
      place_(place),
      worker_(context.programs(), queue_worker_.what, kSilenceLimit) {
  if (place) queue_worker_.configuration["network_namespace"] = to_json(*place);
}

Step ScheduledFault::arm() {
  if (!worker_.started()) {
    // Nothing to undo from a journal, but a replay must know what to look for.
    Json found{{"table", name_}};
    if (auto loaded = marks_.load(found); !loaded.ok()) return Step::failed(loaded.error());
    if (auto noted = context_.note(found); !noted.ok()) return Step::failed(noted.error());
    worker_.start(queue_worker_.name, queue_worker_.configuration);
  }
  const WorkerReport report = worker_.look();
  if (report.trouble) return Step::failed(*report.trouble);
  if (report.state.empty()) return Step::wait_for({worker_.fd()}, kLook);
  if (auto attached = marks_.attach(); !attached.ok()) return Step::failed(attached.error());
  if (auto put = put_table(report); !put.ok()) return Step::failed(std::move(put).error());
  const auto there = table_->there();
  if (!there.ok()) return Step::failed(there.error());
  if (!*there)
    return Step::failed(base::Error{.message = fmt::format("table {} did not appear", name_)});
  const pid_t process = report.process ? report.process->pid : 0;
  const bool quick =
      !report.json->contains("real_time") || boolean_field(*report.json, "real_time");
  Json proof{{"table", name_},
             {"rules", rules_.size()},
             {"queue", report.count("first_queue")},
             {"worker", process}};
  marks_.add_proof(proof);
  return Step::done(
      fmt::format("table inet {} hands {} to process {}{}{}", name_, what_, process, marks_.text(),
                  quick ? "" : "; without CAP_SYS_NICE it may be some ms late on a busy machine"),
      proof.dump());
}

base::Status ScheduledFault::put_table(const WorkerReport& report) {
  std::vector<PacketRule> rules = rules_;
  for (PacketRule& rule : rules) {
    if (rule.action == PacketRule::Action::kQueue)
      rule.queue = static_cast<std::uint16_t>(rule.queue + report.count("first_queue"));
  }
  SQUALL_ASSIGN(NftTable table, place_.create(name_, rules));
  table_ = std::move(table);
  return {};
}

Step ScheduledFault::effective() {
  const WorkerReport report = worker_.look();
  if (report.trouble) return Step::broken(*report.trouble);
  if (report.count(effect_.c_str()) == 0) return Step::wait_for({worker_.fd()}, kLook);
  return proof(report, fmt::format("the first of {} are through {}", what_, queue_worker_.what));
}

Step ScheduledFault::hold() {
  const WorkerReport report = worker_.look();
  if (report.trouble) return Step::broken(*report.trouble);
  return either(either(Step::wait_for({worker_.fd()}, kLook), marks_.hold()), place_.hold());
}

Step ScheduledFault::proof(const WorkerReport& report, const std::string& text) const {
  std::vector<std::string> parts;
  if (const auto delayed = report.count("delayed"); delayed > 0) {
    parts.push_back(fmt::format("{} delayed, half of them by {} or more",
                                base::humanize_count(delayed),
                                base::humanize(report.duration("delay_p50_ns"))));
    parts.push_back(fmt::format("late by {} (p50), {} (p99)",
                                base::humanize(report.duration("late_p50_ns")),
                                base::humanize(report.duration("late_p99_ns"))));
  }
  for (const char* name : {"answered", "dropped", "duplicated", "corrupted", "overtaken"}) {
    if (const auto count = report.count(name); count > 0)
      parts.push_back(fmt::format("{} {}", base::humanize_count(count), name));
  }
  if (const auto received = report.count("received"); met_ > received)
    parts.push_back(fmt::format("{} passed untouched, for too many waited", met_ - received));
  return Step::done(fmt::format("{}{}{}", text, parts.empty() ? "" : ": ", fmt::join(parts, "; ")),
                    report.json->is_object() ? report.json->dump() : "{}");
}

Step ScheduledFault::revert() {
  if (!worker_.started()) {
    marks_.end();
    return Step::done("there was no table of ours");
  }
  if (removed_) return Step::done(reverted_text_);
  if (!draining_ && table_) {
    if (const auto packets = table_->packets(); packets.ok()) met_ = packets->matched;
    // First no new packet is queued; then what is held passes; then the table may go, for the
    // kernel drops what is queued when a hook goes.
    if (table_->clear_rules().ok()) worker_.tell("drain");
    drain_asked_ = base::BootClock::now();
    draining_ = true;
  }
  const WorkerReport report = worker_.look();
  const bool waiting = draining_ && !report.ended && report.state != "drained";
  if (waiting && base::BootClock::now() - drain_asked_ < kDrainLimit)
    return Step::wait_for({worker_.fd()}, kShortLook);
  if (table_) {
    if (auto removed = table_->remove(); !removed.ok()) {
      table_.reset();  // closing the socket removes it too, a little later
      draining_ = true;
      return Step::failed(std::move(removed).error());
    }
  }
  marks_.end();
  worker_.end();
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
  const auto there = table_ ? table_->there() : place_.exists(name_);
  if (!there.ok()) return Step::failed(there.error());
  const auto marking = marks_.any_left();
  if (!marking.ok()) return Step::failed(marking.error());
  if ((*there || *marking) && !overdue) return Step::wait(kShortLook);
  if (*there) {
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message =
            fmt::format("table inet {} is still there: some process keeps its socket open", name_),
        .hint = fmt::format("find it: nft list table inet {} names the owner's process", name_)});
  }
  if (*marking) return Step::failed(FaultMarks::left_behind());
  const bool worker_runs = worker_.started() && !worker_.look().ended;
  if (worker_runs && !overdue) return Step::wait_for({worker_.fd()}, kShortLook);
  if (worker_runs) {
    return Step::failed(base::Error{.code = base::ErrorCode::kRevertNotVerified,
                                    .message = fmt::format("{} does not end", queue_worker_.what),
                                    .hint = "no packet reaches it any more; look what blocks it"});
  }
  return Step::done(
      fmt::format("there is no table {} any more, and {} has ended", name_, queue_worker_.what),
      Json{{"table", name_}, {"exists", false}}.dump());
}

void ScheduledFault::recall(const Json& found) {
  if (const std::string name = text_field(found, "table"); !name.empty()) name_ = name;
  marks_.recall(found);
}

}  // namespace squall::inject
