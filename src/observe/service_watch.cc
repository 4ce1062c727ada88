#include "observe/service_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "base/units.h"
#include "model/vocabulary.h"

namespace squall::observe {
namespace {

constexpr std::size_t kLoggedLineMax = 500;    // bytes that are recorded of a line
constexpr std::size_t kLogReadMax = 1u << 20;  // bytes of a file that are read in one round

struct Signal {
  std::string_view field;
  std::string_view unit;
  double ServiceUsage::*value;
};
// As model::service_signals() describes them.
constexpr std::array<Signal, 7> kSignals = {{
    {"processes", "", &ServiceUsage::processes},
    {"cpu", "", &ServiceUsage::cpu},
    {"memory", "B", &ServiceUsage::memory},
    {"descriptors", "", &ServiceUsage::descriptors},
    {"sockets", "", &ServiceUsage::sockets},
    {"threads", "", &ServiceUsage::threads},
    {"restarts", "", &ServiceUsage::restarts},
}};

std::string_view event_type(MemberChange::Kind kind) {
  switch (kind) {
    case MemberChange::Kind::kGone:
      return "member.gone";
    case MemberChange::Kind::kJoined:
      return "member.joined";
    case MemberChange::Kind::kRestarted:
      return "member.restarted";
  }
  return "note";
}

std::string sentence(const MemberChange& change, const std::string& service, bool expected) {
  const std::string_view whose = expected ? " (expected: a fault of this run)" : "";
  switch (change.kind) {
    case MemberChange::Kind::kGone:
      return fmt::format("{} of {}, pid {}, has ended{}", change.member, service, change.pid,
                         whose);
    case MemberChange::Kind::kJoined:
      return fmt::format("{} of {} has joined as pid {}{}", change.member, service, change.pid,
                         whose);
    case MemberChange::Kind::kRestarted:
      return fmt::format("{} of {} runs again: pid {} in place of {}{}", change.member, service,
                         change.pid, change.old_pid, whose);
  }
  return {};
}

}  // namespace

struct ServiceWatch::Watched {
  explicit Watched(const model::Service& watched_service)
      : service(watched_service), tracker(watched_service) {
    for (const std::string& path : service.logs) logs.emplace_back(path);
  }
  struct Log {
    explicit Log(const std::string& path) : tail(path) {}
    LogTail tail;
    LineBudget budget;
  };
  const model::Service& service;
  MemberTracker tracker;
  std::vector<Log> logs;
  std::vector<MemberChange> changes;
  std::array<evidence::SeriesId, kSignals.size()> series{};
  std::atomic<bool> expected{false};
  std::string last_trouble;
};

bool LineBudget::take(base::Instant now) {
  if (now - second_ >= std::chrono::seconds(1)) {
    second_ = now;
    this_second_ = 0;
  }
  if (this_second_ >= kLogLinesPerSecond || this_run_ >= kLogLinesPerRun) {
    ++suppressed_;
    return false;
  }
  ++this_second_;
  ++this_run_;
  return true;
}

ServiceWatch::ServiceWatch(std::vector<const model::Service*> services, const host::Host& host,
                           const base::Clock& clock, evidence::Recorder& recorder)
    : host_(host), clock_(clock), recorder_(recorder) {
  for (const model::Service* service : services) {
    watched_.push_back(std::make_unique<Watched>(*service));
  }
}

ServiceWatch::~ServiceWatch() = default;

base::Status ServiceWatch::declare() {
  for (auto& watched : watched_) {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      SQUALL_ASSIGN(
          watched->series[i],
          recorder_.declare({.name = fmt::format("{}.{}", watched->service.name, kSignals[i].field),
                             .kind = evidence::SeriesKind::kGauge,
                             .unit = std::string(kSignals[i].unit),
                             .source = watched->service.name}));
    }
    for (Watched::Log& log : watched->logs) log.tail.start();
  }
  return {};
}

void ServiceWatch::expect_changes(const std::string& service) {
  for (auto& watched : watched_) {
    if (watched->service.name == service) watched->expected.store(true);
  }
}

void ServiceWatch::look(base::Instant now) {
  const WalkCache walk(host_);
  bool incomplete = false;
  for (auto& watched : watched_) {
    const base::Status looked = watched->tracker.look(walk, now, watched->changes);
    std::string trouble = looked.ok() ? "" : looked.error().to_string();
    if (!trouble.empty() && trouble != watched->last_trouble) {
      recorder_.add(evidence::Event{.at = now,
                                    .type = "note",
                                    .subject = watched->service.name,
                                    .text = trouble,
                                    .details = {}});
    }
    watched->last_trouble = std::move(trouble);
    incomplete = incomplete || watched->tracker.incomplete();
  }
  const base::Duration cost = clock_.now() - now;
  const base::Duration interval = incomplete ? kWatchInterval : kLookInterval;
  next_look_ = now + std::max(interval, cost * kLookCostFactor);
}

void ServiceWatch::record(Watched& watched, base::Instant now) {
  if (!watched.tracker.looked()) return;  // not known is not zero
  const ServiceUsage usage = watched.tracker.sample(host_, now, watched.changes);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    recorder_.add(watched.series[i],
                  evidence::GaugeSample{.at = now, .value = usage.*kSignals[i].value});
  }
}

void ServiceWatch::tell(Watched& watched, base::Instant now) {
  const bool expected = watched.expected.load();
  for (const MemberChange& change : watched.changes) {
    base::Json details = {{"service", watched.service.name},
                          {"member", change.member},
                          {"pid", change.pid},
                          {"expected", expected}};
    if (change.old_pid != 0) details["old_pid"] = change.old_pid;
    recorder_.add(evidence::Event{.at = now,
                                  .type = std::string(event_type(change.kind)),
                                  .subject = watched.service.name,
                                  .text = sentence(change, watched.service.name, expected),
                                  .details = details.dump()});
  }
  watched.changes.clear();
}

void ServiceWatch::follow_logs(Watched& watched, base::Instant now) {
  for (Watched::Log& log : watched.logs) {
    log.tail.poll(kLogReadMax, [&](std::string_view line) {
      if (line.empty() || !log.budget.take(now)) return;
      std::string text = base::printable(line.substr(0, kLoggedLineMax));
      if (line.size() > kLoggedLineMax) text += " ...";
      const base::Json details = {{"service", watched.service.name}, {"file", log.tail.path()}};
      recorder_.add(evidence::Event{
          .at = now,
          .type = "log.line",
          .subject = watched.service.name,
          .text = std::move(text),
          .details = details.dump(-1, ' ', false, base::Json::error_handler_t::replace)});
    });
  }
}

void ServiceWatch::sample() {
  const base::Instant now = clock_.now();
  bool lost_one = false;
  for (auto& watched : watched_) {
    record(*watched, now);
    lost_one = lost_one || !watched->changes.empty();
  }
  if (lost_one || now >= next_look_) look(now);
  for (auto& watched : watched_) {
    tell(*watched, now);
    follow_logs(*watched, now);
  }
}

void ServiceWatch::finish() {
  for (auto& watched : watched_) {
    for (const Watched::Log& log : watched->logs) {
      if (log.budget.suppressed() == 0) continue;
      recorder_.add(evidence::Event{
          .at = clock_.now(),
          .type = "note",
          .subject = watched->service.name,
          .text = fmt::format("{} more lines of {} are not in this record: at most {} a second and "
                              "{} a run are kept",
                              base::humanize_count(log.budget.suppressed()), log.tail.path(),
                              kLogLinesPerSecond, kLogLinesPerRun),
          .details = {}});
    }
  }
}

}  // namespace squall::observe
