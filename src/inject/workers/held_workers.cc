#include "inject/workers/held_workers.h"

#include <fmt/format.h>

#include <csignal>

#include "base/text.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kStarting = std::chrono::milliseconds(500);
constexpr base::Duration kShortLook = std::chrono::milliseconds(5);
constexpr int kKilled = 128 + SIGKILL;

}  // namespace

HeldWorkers::HeldWorkers(FaultContext& context, std::string what, base::Duration silence_limit,
                         base::Duration end_limit)
    : context_(context),
      what_(std::move(what)),
      silence_limit_(silence_limit),
      end_limit_(end_limit) {}

void HeldWorkers::start(const std::string& name, const Json& configuration) {
  workers_.emplace_back(context_.programs(), what_, silence_limit_);
  workers_.back().start(name, configuration);
}

Step HeldWorkers::await_ready() {
  if (!processes_.empty()) return Step::done({});
  std::vector<base::ProcessIdentity> processes;
  Json identities = Json::array();
  for (WorkerWatch& worker : workers_) {
    const WorkerReport report = worker.look();
    if (report.trouble) return Step::failed(*report.trouble);
    if (report.state.empty() || !report.process) return Step::wait_for({fd()}, kStarting);
    processes.push_back(*report.process);
    identities.push_back(to_json(*report.process));
  }
  if (auto noted = context_.note({{"workers", identities}}); !noted.ok())
    return Step::failed(std::move(noted).error());
  processes_ = std::move(processes);
  return Step::done({});
}

std::vector<WorkerReport> HeldWorkers::look() {
  std::vector<WorkerReport> reports;
  for (WorkerWatch& worker : workers_) {
    reports.push_back(worker.look());
    auto& trouble = reports.back().trouble;
    if (trouble && trouble->message.ends_with(fmt::format("status {}", kKilled)))
      trouble->hint = "somebody killed it, or the kernel did because memory ran out";
  }
  return reports;
}

std::optional<base::Error> HeldWorkers::trouble() {
  for (WorkerReport& report : look()) {
    if (report.trouble) return std::move(report.trouble);
  }
  return std::nullopt;
}

void HeldWorkers::tell(const std::string& text) {
  for (WorkerWatch& worker : workers_) worker.tell(text);
}

void HeldWorkers::end() {
  if (std::exchange(ended_, true)) return;
  for (WorkerWatch& worker : workers_) worker.end();
  if (!recalled_) return;
  for (const base::ProcessIdentity& process : processes_) {
    const auto pidfd = base::PidFd::open(process);
    if (pidfd.ok() && !pidfd->signal(SIGKILL).ok()) continue;  // it ended meanwhile
  }
}

Step HeldWorkers::await_gone() {
  const base::Instant now = base::BootClock::now();
  if (!gone_wait_since_) gone_wait_since_ = now;
  std::vector<std::string> left;
  for (const base::ProcessIdentity& process : processes_) {
    const auto pidfd = base::PidFd::open(process);
    if (pidfd.ok() && !pidfd->ended()) left.push_back(std::to_string(process.pid));
  }
  for (WorkerWatch& worker : workers_) {
    const bool ended = worker.look().ended;  // which also sends again what could not be sent
    if (processes_.empty() && !ended) left.push_back("one that is starting");
  }
  if (left.empty()) return Step::done("no worker is left");
  if (now - *gone_wait_since_ < end_limit_) return Step::wait(kShortLook);
  return Step::failed(base::Error{
      .code = base::ErrorCode::kRevertNotVerified,
      .message = fmt::format("{} does not end: process {}", what_, base::enumerate(left)),
      .hint = "it waits in the kernel (state D), mostly for a disk; when that answers, it ends "
              "by itself"});
}

void HeldWorkers::recall(const Json& found) {
  for (const Json& item : field(found, "workers")) {
    recalled_ = true;
    processes_.push_back(identity_of(item));
  }
}

}  // namespace squall::inject
