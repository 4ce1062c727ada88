// process.crash_loop: members of a service die again and again. Each incarnation that a supervisor
// brings up is killed `after` its start, until the fault ends. Every incarnation is journaled
// before it is killed, and only the very process that was found is signalled.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/process/revival.h"
#include "inject/faults/process/targets.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 2> kRestoreChoices{"await", "start"};
constexpr std::array<ParameterDescriptor, 8> kParameters{{
    service_parameter("The service of which members die again and again."),
    member_parameter("The member that dies, by name or role; without it, `count` decides."),
    count_parameter("How many members die."),
    kRandomParameter,
    {.name = "after",
     .type = ValueType::kDuration,
     .default_text = "1s",
     .minimum = 0,
     .maximum = 6e10,
     .summary = "How long each incarnation lives. A new one is noticed within 50 ms or so."},
    {.name = "most",
     .type = ValueType::kInteger,
     .default_text = "50",
     .minimum = 2,
     .maximum = 1000,
     .summary = "The most kills of one member; then it is left alone."},
    restore_parameter(
        "await",
        "Who brings the last one back: `await` waits for the supervisor, `start` runs the "
        "map's start command where nobody came back.",
        kRestoreChoices),
    limit_parameter(
        "How long the last replacement may take to appear; later the revert counts as not "
        "verified. Supervisors wait longer after each crash."),
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "process.crash_loop",
    .summary = "Kills members of a service again each time they come back.",
    .effect =
        "The member crashes (SIGKILL), its supervisor starts it, and it crashes again shortly "
        "after, as with a bad configuration or a poisoned request.",
    .revert = "The killing ends; `restore` says who brings the member back, and that is awaited.",
    .proof =
        "Effect: the kernel reports the end of the very processes (pidfd), each incarnation by "
        "pid. Revert: processes of the service that were not there before, and live.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kSignalMechanisms,
    .capabilities = kSignalCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- process.crash_loop: { service: worker, after: 500ms }\n"
        "  name: crashing\n"
        "  at: 5s\n"
        "  for: 30s\n",
};

// A look at all processes of the host takes some milliseconds; it is needed only while a member is
// missing.
constexpr base::Duration kLook = std::chrono::milliseconds(50);
constexpr base::Duration kKillGrace = std::chrono::milliseconds(200);
// Each crash is told at first, later only now and then.
constexpr std::size_t kToldEach = 5;
constexpr base::Duration kTellPause = std::chrono::seconds(10);

class CrashLoopFault final : public Fault {
 public:
  CrashLoopFault(std::vector<Target> targets, base::Duration after, int most, Revival::Plan plan,
                 FaultContext& context)
      : targets_(std::move(targets)),
        after_(after),
        most_(most),
        service_(plan.service),
        before_(plan.before),
        revival_(std::move(plan), context),
        context_(context) {
    for (const Target& target : targets_) slots_.push_back({.member = target.member});
  }

  Step arm() override {
    auto opened = open_targets(targets_);
    if (!opened.ok()) return Step::failed(std::move(opened).error());
    began_ = true;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      slots_[i].current = targets_[i];
      slots_[i].process = std::move((*opened)[i]);
      if (auto killed = kill(slots_[i]); !killed.ok())
        return Step::failed(std::move(killed).error());
    }
    return Step::done(fmt::format("sent SIGKILL to {}", describe_targets(targets_)), proof());
  }

  Step effective() override {
    std::vector<int> alive;
    for (const Slot& slot : slots_) {
      if (!slot.process.ended()) alive.push_back(slot.process.get());
    }
    if (!alive.empty()) return Step::wait_for(std::move(alive));
    return Step::done(fmt::format("{} ended; each new incarnation is killed {} after its start",
                                  describe_targets(targets_), base::format_duration(after_)),
                      proof());
  }

  Step hold() override {
    std::string news;
    const base::Instant now = base::BootClock::now();
    for (Slot& slot : slots_) {
      if (!slot.alive || slot.process.ended()) continue;
      if (started_at(slot.current.identity) + after_ > now) continue;
      if (auto killed = kill(slot); !killed.ok()) return Step::failed(std::move(killed).error());
      news = fmt::format("killed {}, crash {} of {}", slot.current.description, slot.kills,
                         slot.member);
    }
    if (missing()) {
      if (auto found = find_new(); !found.ok()) return Step::failed(std::move(found).error());
    }
    Step step = Step::wait_for({}, missing() ? kLook : std::chrono::seconds(1));
    const base::Instant later = base::BootClock::now();
    for (const Slot& slot : slots_) {
      // One that crashed by itself would be readable for ever.
      if (!slot.alive || slot.process.ended()) continue;
      step.descriptors.push_back(slot.process.get());  // it may also crash by itself
      const base::Duration left = started_at(slot.current.identity) + after_ - later;
      step.again = std::clamp(left, base::Duration{1'000'000}, step.again);
    }
    if (std::all_of(slots_.begin(), slots_.end(), [&](auto& slot) { return spent(slot); }))
      return Step::done({});
    if (!news.empty() && (kills_ <= kToldEach || later - told_at_ > kTellPause)) {
      told_at_ = later;
      step.text = news;
    }
    return step;
  }

  Step revert() override {
    if (!began_) return Step::done("nothing was killed");
    std::vector<int> dying;
    if (auto opened = recalled_.open_into(killed_); !opened.ok())
      return Step::failed(std::move(opened).error());
    for (const base::PidFd& process : killed_) {
      if (!process.ended()) dying.push_back(process.get());
    }
    // What dies still must not pass for the replacement.
    const base::Instant now = base::BootClock::now();
    if (!revert_since_) revert_since_ = now;
    if (!dying.empty() && now - *revert_since_ < kKillGrace)
      return Step::wait_for(std::move(dying), *revert_since_ + kKillGrace - now);
    const auto gone = lost();
    if (!gone.ok()) return Step::failed(gone.error());
    Step begun = revival_.begin(*gone);
    if (begun.state == Step::State::kDone)
      begun.text = fmt::format("no more kills after {}; {}", kills_, begun.text);
    return begun;
  }

  Step verify() override {
    if (!began_) return Step::done("nothing was killed");
    const auto gone = lost();
    return gone.ok() ? revival_.await(*gone) : Step::failed(gone.error());
  }

  void recall(const Json& found) override {
    for (const Json& item : field(found, "killing")) {
      const Target target = target_from_json(item);
      began_ = true;  // or about to: lost() looks who is still there
      ++kills_;
      recalled_.add(target.identity);
    }
  }

 private:
  struct Slot {
    std::string member;
    Target current = {};  // the incarnation in hand
    base::PidFd process = {};
    bool alive = false;  // in hand, and not killed yet
    int kills = 0;
  };

  bool spent(const Slot& slot) const { return slot.kills >= most_; }
  bool missing() const {
    return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      return (!slot.alive || slot.process.ended()) && !spent(slot);
    });
  }

  base::Status kill(Slot& slot) {
    SQUALL_ASSIGN(auto sent, note_and_signal(context_, {slot.current}, SIGKILL));
    slot.alive = false;
    if (sent.targets.empty()) return {};  // it ended by itself in this moment
    ++slot.kills;
    ++kills_;
    last_.push_back(slot.current.identity.pid);
    if (last_.size() > kToldEach) last_.erase(last_.begin());
    std::erase_if(killed_, [](const base::PidFd& process) { return process.ended(); });
    killed_.push_back(std::move(sent.processes.front()));
    return {};
  }

  // Takes up processes of the service that were not there before, each for a member that is
  // missing: of its name, where members have names of their own.
  base::Status find_new() {
    SQUALL_ASSIGN(const auto running, running_members(context_.host(), service_));
    const bool named = !service_.members.empty();
    for (const Target& target : running) {
      if (is_known(target)) continue;
      const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& each) {
        const bool free = (!each.alive || each.process.ended()) && !spent(each);
        return free && (!named || each.member == target.member);
      });
      if (slot == slots_.end()) continue;
      auto process = base::PidFd::open(target.identity);
      if (!process.ok()) continue;  // gone already
      slot->current = target;
      slot->process = std::move(*process);
      slot->alive = true;
    }
    return {};
  }

  bool is_known(const Target& target) const {
    const auto same = [&](const base::ProcessIdentity& identity) {
      return identity == target.identity;
    };
    return std::any_of(before_.begin(), before_.end(),
                       [&](const Target& each) { return same(each.identity); }) ||
           std::any_of(slots_.begin(), slots_.end(),
                       [&](const Slot& slot) { return same(slot.current.identity); }) ||
           std::any_of(killed_.begin(), killed_.end(),
                       [&](const base::PidFd& process) { return same(process.identity()); });
  }

  // The bound targets that are gone: each needs a replacement that lives.
  base::Result<std::vector<Target>> lost() const {
    std::vector<Target> gone;
    for (const Target& target : targets_) {
      SQUALL_ASSIGN(const auto process, open_if_there(target.identity));
      if (!process || process->ended()) gone.push_back(target);
    }
    return gone;
  }

  std::string proof() const { return Json{{"kills", kills_}, {"last_pids", last_}}.dump(); }

  std::vector<Target> targets_;
  base::Duration after_;
  int most_;
  model::Service service_;
  std::vector<Target> before_;
  Revival revival_;
  FaultContext& context_;
  std::vector<Slot> slots_;
  std::vector<base::PidFd> killed_;  // that may not have ended yet
  RecalledProcesses recalled_;
  std::vector<pid_t> last_;
  std::size_t kills_ = 0;
  base::Instant told_at_;
  std::optional<base::Instant> revert_since_;
  bool began_ = false;
};

void describe_crash_loop(const model::SystemMap&, const model::FaultSpecification& fault,
                         model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  planned.target = describe_selection(parameters);
  planned.services = {parameters.text("service")};
  planned.processes_max = planned_count(parameters) * static_cast<int>(parameters.integer("most"));
  planned.changes = {
      {.change = fmt::format("SIGKILL is sent to {}, and to each new incarnation {} after its "
                             "start: {} kills at most",
                             planned.target, base::format_duration(parameters.duration("after")),
                             planned.processes_max),
       .revert = parameters.text("restore") == "start"
                     ? "no more kills; the member is started again with the map's `start`, unless "
                       "it came back by itself"
                     : "no more kills; its supervisor brings it back, and that is awaited",
       .lifetime = LifetimeClass::kOneWay}};
}

base::Result<model::FaultBinding> bind_crash_loop(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  if (parameters.text("restore") == "start") SQUALL_TRY(check_startable(members));
  const Json extra = {
      {"after_ns", parameters.duration("after").count()},
      {"most", parameters.integer("most")},
      {"restore", parameters.text("restore")},
      {"limit_ns", parameters.duration("limit").count()},
      {"resources",
       Json::array({fmt::format("service/{}/{}", request.map.directory, members.service->name)})}};
  return process_binding(request, members, std::string(kPidfdSignal), LifetimeClass::kOneWay,
                         extra);
}

base::Result<std::unique_ptr<Fault>> create_crash_loop(const model::FaultBinding& binding,
                                                       FaultContext& context) {
  SQUALL_ASSIGN(Revival::Plan plan, Revival::plan_of(binding));
  const Json& details = binding.details.json();
  const std::int64_t after = integer_field(details, "after_ns");
  const std::int64_t most = integer_field(details, "most");
  if (after < 0 || most < 1 || most > 1000) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not say how often to kill"};
  }
  return std::unique_ptr<Fault>{
      std::make_unique<CrashLoopFault>(targets_of(binding), base::Duration{after},
                                       static_cast<int>(most), std::move(plan), context)};
}

base::Result<std::string> rehearse_crash_loop(const model::FaultBinding& binding,
                                              FaultContext& context) {
  return rehearse_on_scratch(binding, context,
                             [&](const model::FaultBinding& scratch) -> base::Result<std::string> {
                               SQUALL_ASSIGN(auto fault, create_crash_loop(scratch, context));
                               return rehearse_life(*fault, "killed a scratch process by pidfd");
                             });
}

}  // namespace

extern const FaultKind kProcessCrashLoop;
const FaultKind kProcessCrashLoop{.descriptor = &kDescriptor,
                                  .describe = describe_crash_loop,
                                  .bind = bind_crash_loop,
                                  .create = create_crash_loop,
                                  .rehearse = rehearse_crash_loop,
                                  .reach = reach_processes,
                                  .restores = kRestoresService};

}  // namespace squall::inject
