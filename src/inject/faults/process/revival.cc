#include "inject/faults/process/revival.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "base/units.h"
#include "inject/json_fields.h"
#include "inject/service_json.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kLook = std::chrono::milliseconds(20);  // between looks at the processes
// A server may not come up at once after it was killed (shared memory, ports still in use).
constexpr int kMostStarts = 5;
constexpr base::Duration kStartPause = std::chrono::milliseconds(500);

bool was_there(const std::vector<Target>& before, const base::ProcessIdentity& identity) {
  return std::any_of(before.begin(), before.end(),
                     [&](const Target& target) { return target.identity == identity; });
}

std::string describe(const std::vector<host::Member>& members) {
  std::vector<std::string> parts;
  for (const host::Member& member : members) parts.push_back(describe_member(member));
  return base::enumerate(parts);
}

}  // namespace

std::string_view to_string(Restore restore) {
  switch (restore) {
    case Restore::kStart:
      return "start";
    case Restore::kAwait:
      return "await";
    case Restore::kNone:
      return "none";
  }
  return "none";
}

std::optional<Restore> restore_from(std::string_view text) {
  for (const Restore restore : {Restore::kStart, Restore::kAwait, Restore::kNone}) {
    if (to_string(restore) == text) return restore;
  }
  return std::nullopt;
}

base::Result<Revival::Plan> Revival::plan_of(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  Plan plan;
  SQUALL_ASSIGN(plan.service, service_from_json(field(details, "service")));
  plan.directory = text_field(details, "directory");
  for (const Json& item : field(details, "members_before"))
    plan.before.push_back(target_from_json(item));
  const auto restore = restore_from(text_field(details, "restore"));
  plan.limit = base::Duration{integer_field(details, "limit_ns")};
  if (!restore || plan.limit <= base::Duration::zero()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not say how to restore its targets"};
  }
  plan.restore = *restore;
  return plan;
}

base::Result<Revival::Look> Revival::look(const std::vector<Target>& lost) {
  SQUALL_ASSIGN(const std::vector<host::Member> now,
                host::find_members(context_.host(), plan_.service));
  Look result;
  for (const host::Member& member : now) {
    if (!was_there(plan_.before, member.process.identity) && member.process.state != 'Z')
      result.fresh.push_back(member);
  }
  const bool named = !plan_.service.members.empty();
  std::size_t unnamed_used = 0;
  for (const Target& target : lost) {
    const bool back =
        named ? std::any_of(result.fresh.begin(), result.fresh.end(),
                            [&](const host::Member& m) { return m.name == target.member; })
              : unnamed_used++ < result.fresh.size();
    if (!back) result.missing.push_back(target);
  }
  for (const Target& target : plan_.before) {
    const bool here = std::any_of(now.begin(), now.end(), [&](const host::Member& m) {
      return m.process.identity == target.identity;
    });
    if (!here && !was_there(lost, target.identity)) result.gone_otherwise.push_back(target);
  }
  return result;
}

std::vector<std::string> Revival::start_argv(const std::string& member) const {
  std::vector<std::string> argv = plan_.service.start;
  for (const model::MemberSelector& selector : plan_.service.members) {
    if (selector.name == member && !selector.start.empty()) argv = selector.start;
  }
  for (std::string& word : argv) {
    for (std::size_t at = word.find("{member}"); at != std::string::npos;
         at = word.find("{member}", at + member.size()))
      word.replace(at, std::string_view("{member}").size(), member);
  }
  return argv;
}

base::Status Revival::start(const Target& target) {
  const auto found = std::find_if(attempts_.begin(), attempts_.end(), [&](const Attempt& attempt) {
    return attempt.member == target.member;
  });
  Attempt& attempt =
      found != attempts_.end() ? *found : attempts_.emplace_back(Attempt{.member = target.member});
  if (attempt.starts > 0) {
    const ProgramOutcome outcome = context_.programs().outcome(attempt.program);
    const bool failed = outcome.error || outcome.exit_status.value_or(0) != 0;
    if (!failed || attempt.starts >= kMostStarts) return {};  // it runs, or it is hopeless
    if (base::BootClock::now() - attempt.last < attempt.starts * kStartPause) return {};
  }
  const std::vector<std::string> argv = start_argv(target.member);
  if (argv.empty()) {
    return base::Error{.code = base::ErrorCode::kRevertNotVerified,
                       .message = fmt::format("the map has no `start` for {}", target.member),
                       .hint = "start it by hand"};
  }
  ++attempt.starts;
  attempt.last = base::BootClock::now();
  attempt.program = context_.programs().start({.purpose = ProgramRequest::Purpose::kService,
                                               .argv = argv,
                                               .directory = plan_.directory,
                                               .limit = {},
                                               .account = {},
                                               .environment = plan_.environment});
  return {};
}

base::Status Revival::start_failed_again(const std::vector<Target>& missing) {
  for (const Target& target : missing) {
    const bool tried = std::any_of(attempts_.begin(), attempts_.end(), [&](const Attempt& attempt) {
      return attempt.member == target.member;
    });
    if (tried) SQUALL_TRY(start(target));
  }
  return {};
}

Step Revival::begin(const std::vector<Target>& lost) {
  if (plan_.restore == Restore::kNone || lost.empty()) return Step::done("nothing to restore");
  const auto now = look(lost);
  if (!now.ok()) return Step::failed(now.error());
  if (now->missing.empty()) return Step::done("back by itself: " + describe(now->fresh));
  if (plan_.restore == Restore::kAwait)
    return Step::done("waiting for its supervisor to replace " + describe_targets(now->missing));
  for (const Target& target : now->missing) {
    if (auto started = start(target); !started.ok()) return Step::failed(started.error());
  }
  return Step::done("started again: " + describe_targets(now->missing));
}

base::Result<std::string> Revival::replaced(const std::vector<Target>& lost) {
  SQUALL_ASSIGN(const Look now, look(lost));
  return now.missing.empty() ? describe(now.fresh) : std::string{};
}

Step Revival::await(const std::vector<Target>& lost) {
  if (plan_.restore == Restore::kNone)
    return Step::done("left down, as the plan says: " + describe_targets(lost));
  if (lost.empty()) return Step::done("all targets run");
  const auto now = look(lost);
  if (!now.ok()) return Step::failed(now.error());
  if (now->missing.empty() && !start_is_open()) {
    Json pids = Json::array();
    for (const host::Member& member : now->fresh)
      pids.push_back({{"member", member.name}, {"pid", member.process.identity.pid}});
    std::string text =
        fmt::format("{} runs in place of {}", describe(now->fresh), describe_targets(lost));
    if (!now->gone_otherwise.empty())
      text += "; not by us ended also " + describe_targets(now->gone_otherwise);
    return Step::done(text, Json{{"replacements", pids}}.dump());
  }
  if (auto started = start_failed_again(now->missing); !started.ok())
    return Step::failed(std::move(started).error());
  const base::Instant moment = base::BootClock::now();
  if (!waiting_since_) waiting_since_ = moment;
  if (moment - *waiting_since_ > plan_.limit) return Step::failed(not_back(*now));
  return Step::wait_for({context_.programs().fd()}, kLook);
}

// One that runs may still be ended by the starter, which does so with what it could not look at.
bool Revival::start_is_open() const {
  return std::any_of(attempts_.begin(), attempts_.end(), [&](const Attempt& attempt) {
    const ProgramOutcome outcome = context_.programs().outcome(attempt.program);
    return !outcome.started && !outcome.error && !outcome.exit_status;
  });
}

base::Error Revival::not_back(const Look& now) const {
  base::Error error{
      .code = base::ErrorCode::kRevertNotVerified,
      .message = fmt::format("{} after the revert there is no replacement for {}",
                             base::humanize(plan_.limit),
                             now.missing.empty() ? "a member: whether its start worked is not known"
                                                 : describe_targets(now.missing))};
  for (const Attempt& attempt : attempts_) {
    const ProgramOutcome outcome = context_.programs().outcome(attempt.program);
    if (outcome.error) error.message += "; " + outcome.error->to_string();
    if (outcome.exit_status)
      error.message += fmt::format("; its start command ended with {}", *outcome.exit_status);
  }
  const std::vector<std::string> argv =
      start_argv(now.missing.empty() ? std::string() : now.missing.front().member);
  error.hint = argv.empty() ? "start it by hand"
                            : fmt::format("start it by hand: cd {} && {}", plan_.directory,
                                          base::join(argv, " "));
  return error;
}

}  // namespace squall::inject
