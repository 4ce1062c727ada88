// process.pause: stops members of a service, each with everything that descends from it, and lets
// them run on. By the cgroup v2 freezer where the target's group holds nothing else, so that also
// children born meanwhile stand still; else by SIGSTOP through pidfds. Every process is journaled
// before it is stopped. The revert continues only what this fault stopped.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/cgroup.h"
#include "inject/fault.h"
#include "inject/faults/process/targets.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;

constexpr std::string_view kFreezer = "cgroup v2 freezer";
constexpr std::string_view kStopSignal = "SIGSTOP";
constexpr std::array<std::string_view, 2> kMechanisms{kFreezer, kStopSignal};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_KILL"};
constexpr std::array<ParameterDescriptor, 4> kParameters{{
    service_parameter("The service of which members are paused."),
    member_parameter("The member to pause, by name or role; without it, `count` decides."),
    count_parameter("How many members are paused."),
    kRandomParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "process.pause",
    .summary = "Pauses members of a service, with all their child processes.",
    .effect =
        "The process stands still: connections stay open, nothing is answered, and the kernel "
        "goes on accepting and acknowledging for it until its buffers are full.",
    .revert = "It runs on where it stood. What somebody else had stopped before stays stopped.",
    .proof =
        "Effect: /proc/PID/stat shows T for every process of the tree, or cgroup.events shows "
        "frozen 1. Revert: it shows neither.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- process.pause: { service: db, member: primary }\n"
        "  name: hang\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

std::string processes(std::size_t count) {
  return base::counted(count, "process", "processes");
}

// A stop takes effect within some milliseconds; no descriptor tells when.
constexpr base::Duration kLook = std::chrono::milliseconds(1);
constexpr base::Duration kStopLimit = std::chrono::seconds(10);

struct Stopped {
  base::PidFd process;
  bool main = false;  // a bound target, not one of its descendants
  bool told_dead = false;
};

class SignalPause final : public Fault {
 public:
  SignalPause(std::vector<Target> targets, FaultContext& context)
      : targets_(std::move(targets)), context_(context) {}

  Step arm() override {
    auto opened = open_targets(targets_);
    if (!opened.ok()) return Step::failed(std::move(opened).error());
    for (const Target& target : targets_) {
      if (process_state(target.identity).value_or('T') != 'T') continue;
      return Step::failed(base::Error{
          .code = base::ErrorCode::kConflict,
          .message = fmt::format("{} is stopped already, by somebody else", target.description),
          .hint = fmt::format("look why; `kill -CONT {}` lets it run", target.identity.pid)});
    }
    since_ = base::BootClock::now();
    auto stopped = stop_new();
    if (!stopped.ok()) return Step::failed(std::move(stopped).error());
    return Step::done(fmt::format("sent SIGSTOP to {}: {} and what descends from it",
                                  processes(stopped_.size()), describe_targets(targets_)));
  }

  // Until a look at the tree shows nothing that runs: a process may have had a child while it was
  // being stopped.
  Step effective() override {
    auto fresh = stop_new();
    if (!fresh.ok()) return Step::failed(std::move(fresh).error());
    std::size_t running = 0;
    for (const Stopped& entry : stopped_) {
      const char state = process_state(entry.process.identity()).value_or('X');
      if (state != 'T' && state != 't' && state != 'Z' && state != 'X') ++running;
    }
    const base::Instant now = base::BootClock::now();
    if (*fresh == 0 && running == 0) {
      return Step::done(fmt::format("{} in state T after {}: {} and what descends from it",
                                    processes(stopped_.size()), base::humanize(now - since_),
                                    describe_targets(targets_)),
                        states_proof());
    }
    if (now - since_ < kStopLimit) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kTimeout,
        .message = fmt::format("{} not stopped {} after SIGSTOP", processes(running),
                               base::humanize(kStopLimit)),
        .hint = "one hangs in the kernel (state D), or forks faster than it can be stopped"});
  }

  Step hold() override {
    std::vector<int> alive;
    std::vector<std::string> died;
    for (Stopped& entry : stopped_) {
      if (!entry.process.ended()) {
        alive.push_back(entry.process.get());
      } else if (!std::exchange(entry.told_dead, true)) {
        died.push_back(fmt::format("process {}{}", entry.process.identity().pid,
                                   entry.main ? " (a target)" : ""));
      }
    }
    if (alive.empty() && died.empty()) return Step::done({});
    Step step = Step::wait_for(std::move(alive));
    if (!died.empty()) {
      step.text = base::enumerate(died) + " died while paused";
      step.again = kLook;
    }
    return step;
  }

  Step revert() override {
    continued_ = 0;
    died_ = 0;
    others_.clear();
    if (auto opened = recalled_.open_into(there_); !opened.ok())
      return Step::failed(std::move(opened).error());
    for (base::PidFd& process : std::exchange(there_, {})) add(std::move(process));
    // Children first: when a parent wakes up, its children run already.
    for (auto entry = stopped_.rbegin(); entry != stopped_.rend(); ++entry) {
      const auto state = look_at_state(entry->process.identity());
      if (!state.ok()) return Step::failed(state.error());
      if (*state == 'Z' || *state == 'X') {
        ++died_;
        continue;
      }
      if (*state != 'T' && *state != 't') others_.push_back(entry->process.identity().pid);
      // Also to one that runs: our SIGSTOP may still be on its way to it, and SIGCONT takes it
      // back.
      auto sent = entry->process.signal(SIGCONT);
      if (!sent.ok() && sent.error().code != base::ErrorCode::kNotFound)
        return Step::failed(std::move(sent).error());
      ++continued_;
    }
    return Step::done(summary());
  }

  Step verify() override {
    std::vector<std::string> still;
    for (const Stopped& entry : stopped_) {
      const auto state = look_at_state(entry.process.identity());
      if (!state.ok()) return Step::failed(state.error());
      if (*state == 'T') still.push_back(fmt::format("{}", entry.process.identity().pid));
    }
    if (still.empty()) return Step::done(summary() + "; none is in state T", states_proof());
    const base::Instant now = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = now;
    if (now - *verifying_since_ < std::chrono::milliseconds(200)) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = fmt::format("{} still stopped after SIGCONT: process {}", still.size(),
                               base::enumerate(still)),
        .hint = "somebody else stops it, too; find out who, then: kill -CONT " + still.front()});
  }

  void recall(const Json& found) override {
    for (const Json& item : field(found, "stopping")) {
      recalled_.add(identity_of(item));
      ++recalled_count_;
    }
  }

 private:
  // Journals and stops what runs in the trees and is not yet in hand; how many that were.
  base::Result<std::size_t> stop_new() {
    SQUALL_ASSIGN(const std::vector<ProcessEntry> table, read_process_table());
    std::vector<base::PidFd> fresh;
    Json list = Json::array();
    for (const Target& target : targets_) {
      for (const ProcessEntry& entry : tree_of(table, target.identity)) {
        if (known_.contains({entry.identity.pid, entry.identity.start_time})) continue;
        // Zombies need no stop. What was stopped before belongs to somebody else.
        if (entry.state == 'Z' || entry.state == 'X' || entry.state == 'T') continue;
        SQUALL_TRY(check_not_ourselves(entry.identity.pid));
        SQUALL_TRY(permitted(entry.identity));
        SQUALL_ASSIGN(auto process, open_if_there(entry.identity));
        if (!process) continue;  // ended since the table was read
        list.push_back(to_json(entry.identity));
        fresh.push_back(std::move(*process));
      }
    }
    if (fresh.empty()) return std::size_t{0};
    SQUALL_TRY(context_.note({{"stopping", list}}));
    const std::size_t count = fresh.size();
    for (base::PidFd& process : fresh) {
      auto sent = process.signal(SIGSTOP);
      const bool gone = !sent.ok() && sent.error().code == base::ErrorCode::kNotFound;
      if (!gone) add(std::move(process));
      if (!sent.ok() && !gone) {
        base::Error error = std::move(sent).error();
        if (error.code == base::ErrorCode::kPermission)
          error.hint = "CAP_KILL is needed: run as root with it";
        return error;
      }
    }
    return count;
  }

  // One that ended since the table was read is nobody's any more.
  base::Status permitted(const base::ProcessIdentity& process) {
    auto checked = context_.check_process(process);
    if (!checked.ok() && checked.error().code == base::ErrorCode::kNotFound) return {};
    return checked;
  }

  void add(base::PidFd process) {
    known_.emplace(process.identity().pid, process.identity().start_time);
    const bool main = std::any_of(targets_.begin(), targets_.end(), [&](const Target& target) {
      return target.identity == process.identity();
    });
    stopped_.push_back({.process = std::move(process), .main = main});
  }

  std::string summary() const {
    std::string text = "sent SIGCONT to " + processes(continued_);
    if (died_ > 0) text += fmt::format("; {} died while paused", died_);
    if (recalled_count_ > stopped_.size())
      text += fmt::format("; {} had ended already", recalled_count_ - stopped_.size());
    if (!others_.empty())
      text +=
          fmt::format("; {} ran already: somebody else had continued it, or it was never stopped",
                      others_.size());
    return text;
  }

  std::string states_proof() const {
    Json states = Json::object();
    for (const Stopped& entry : stopped_) {
      const char state = process_state(entry.process.identity()).value_or('X');
      states[fmt::format("{}", entry.process.identity().pid)] = std::string(1, state);
    }
    return Json{{"states", states}}.dump();
  }

  std::vector<Target> targets_;
  FaultContext& context_;
  std::vector<Stopped> stopped_;
  std::set<std::pair<pid_t, std::uint64_t>> known_;
  base::Instant since_;
  std::optional<base::Instant> verifying_since_;
  std::vector<pid_t> others_;
  std::size_t continued_ = 0;
  std::size_t died_ = 0;
  RecalledProcesses recalled_;
  std::vector<base::PidFd> there_;  // of them, not taken up yet
  std::size_t recalled_count_ = 0;
};

// One v2 group that holds the targets and what descends from them, and nothing else.
class FreezerPause final : public Fault {
 public:
  FreezerPause(std::vector<Target> targets, std::string group, FaultContext& context)
      : targets_(std::move(targets)), group_(std::move(group)), context_(context) {}

  Step arm() override {
    auto opened = open_targets(targets_);
    if (!opened.ok()) return Step::failed(std::move(opened).error());
    processes_ = std::move(*opened);
    for (const Target& target : targets_) {
      if (auto only = check_holds_only(group_, target.identity); !only.ok())
        return Step::failed(std::move(only).error());
    }
    const auto before = read_freeze(group_);
    if (!before.ok()) return Step::failed(before.error());
    if (before->asked) {
      return Step::failed(base::Error{.code = base::ErrorCode::kConflict,
                                      .message = fmt::format("{} is frozen already, by somebody "
                                                             "else",
                                                             group_),
                                      .hint = "look who did it, then thaw it"});
    }
    if (auto noted = context_.note({{"freezing", group_}, {"before", 0}}); !noted.ok())
      return Step::failed(noted.error());
    noted_ = true;
    since_ = base::BootClock::now();
    if (auto written = write_freeze(group_, true); !written.ok())
      return Step::failed(std::move(written).error());
    return Step::done(fmt::format("wrote 1 to {}/cgroup.freeze", group_));
  }

  Step effective() override {
    const auto now = read_freeze(group_);
    if (!now.ok()) return Step::failed(now.error());
    const base::Duration took = base::BootClock::now() - since_;
    if (now->frozen) {
      return Step::done(fmt::format("{} is frozen after {}: {}", group_, base::humanize(took),
                                    describe_targets(targets_)),
                        Json{{"cgroup", group_}, {"frozen", 1}}.dump());
    }
    if (took < kStopLimit) return Step::wait(kLook);
    return Step::failed(base::Error{.code = base::ErrorCode::kTimeout,
                                    .message = fmt::format("{} does not freeze", group_),
                                    .hint = "a process in it hangs in the kernel (state D)"});
  }

  Step hold() override {
    std::vector<int> alive;
    std::vector<std::string> died;
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      if (!processes_[i].ended())
        alive.push_back(processes_[i].get());
      else if (told_dead_.insert(i).second)
        died.push_back(targets_[i].description);
    }
    if (alive.empty() && died.empty()) return Step::done({});
    Step step = Step::wait_for(std::move(alive));
    if (!died.empty()) {
      step.text = base::enumerate(died) + " died while paused";
      step.again = kLook;
    }
    return step;
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was frozen");
    const auto now = read_freeze(group_);
    if (!now.ok() && now.error().code == base::ErrorCode::kNotFound)
      return Step::done(group_ + " is gone, with all that was in it");
    if (!now.ok()) return Step::failed(now.error());
    if (!now->asked)
      return Step::done(group_ + " was not frozen: somebody else thawed it, or it never was");
    if (auto written = write_freeze(group_, false); !written.ok())
      return Step::failed(std::move(written).error());
    return Step::done(fmt::format("wrote 0 to {}/cgroup.freeze", group_));
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was frozen");
    const auto now = read_freeze(group_);
    if (!now.ok() && now.error().code == base::ErrorCode::kNotFound)
      return Step::done(group_ + " is gone, with all that was in it");
    if (!now.ok()) return Step::failed(now.error());
    if (!now->frozen)
      return Step::done(group_ + " is not frozen", Json{{"cgroup", group_}, {"frozen", 0}}.dump());
    const base::Instant moment = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = moment;
    if (moment - *verifying_since_ < std::chrono::milliseconds(200)) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = group_ + " is still frozen",
        .hint = "a group above it may be frozen by somebody else: see its cgroup.freeze"});
  }

  void recall(const Json& found) override {
    if (text_field(found, "freezing") == group_) noted_ = true;
  }

 private:
  std::vector<Target> targets_;
  std::string group_;
  FaultContext& context_;
  std::vector<base::PidFd> processes_;
  std::set<std::size_t> told_dead_;
  base::Instant since_;
  std::optional<base::Instant> verifying_since_;
  bool noted_ = false;
};

void describe_pause(const model::SystemMap&, const model::FaultSpecification& fault,
                    model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  planned.changes = {
      {.change = fmt::format("{} stands still with all its child processes (frozen or SIGSTOP)",
                             planned.target),
       .revert =
           "what was stopped is let run on (thawed or SIGCONT); journaled before it is stopped",
       .lifetime = LifetimeClass::kJournaled}};
}

// The group of one single target, when it holds nothing but the target's tree; else empty.
std::string own_group(const ChosenMembers& members) {
  if (members.chosen.size() != 1) return {};
  const host::Process& process = members.chosen.front().process;
  const auto group = v2_group_of(process.identity.pid);
  if (!group.ok() || !check_holds_only(*group, process.identity).ok()) return {};
  return *group;
}

base::Result<model::FaultBinding> bind_pause(const BindRequest& request) {
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  const std::string group = own_group(members);
  Json extra = Json::object();
  if (!group.empty()) extra = {{"cgroup", group}, {"resources", Json::array({"cgroup" + group})}};
  return process_binding(request, members, std::string(group.empty() ? kStopSignal : kFreezer),
                         LifetimeClass::kJournaled, extra);
}

base::Result<std::unique_ptr<Fault>> create_pause(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  if (binding.mechanism == kStopSignal)
    return std::unique_ptr<Fault>{std::make_unique<SignalPause>(targets_of(binding), context)};
  const std::string group = text_field(binding.details.json(), "cgroup");
  const bool named =
      group.size() > 1 && group.front() == '/' && (group + "/").find("/../") == std::string::npos;
  if (binding.mechanism != kFreezer || !named || binding.targets.empty())
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no mechanism of process.pause"};
  return std::unique_ptr<Fault>{
      std::make_unique<FreezerPause>(targets_of(binding), group, context)};
}

base::Result<Reach> reach_pause(const model::FaultBinding& binding) {
  SQUALL_ASSIGN(Reach reach, reach_processes(binding));
  if (binding.mechanism == kStopSignal) return reach;
  SQUALL_ASSIGN(const std::string mount, v2_mount());
  const std::string group = text_field(binding.details.json(), "cgroup");
  SQUALL_TRY(check_locks(binding, {"cgroup" + group}));
  reach.cgroups.push_back(mount + group);
  return reach;
}

base::Result<std::string> rehearse_freezer(model::FaultBinding binding,
                                           const base::ProcessIdentity& scratch,
                                           FaultContext& context) {
  SQUALL_ASSIGN(const ScratchGroup group, ScratchGroup::create());
  SQUALL_TRY(group.add(scratch.pid));
  Json details = binding.details.json();
  details["cgroup"] = group.path();
  binding.details = model::Parameters{details};
  SQUALL_ASSIGN(auto fault, create_pause(binding, context));
  auto result = rehearse_life(*fault, "froze a scratch cgroup");
  if (auto left = group.remove_process(scratch.pid); !left.ok()) return std::move(left).error();
  return result;
}

base::Result<std::string> rehearse_pause(const model::FaultBinding& binding,
                                         FaultContext& context) {
  return rehearse_on_scratch(
      binding, context, [&](const model::FaultBinding& scratch) -> base::Result<std::string> {
        if (binding.mechanism == kFreezer)
          return rehearse_freezer(scratch, scratch.targets.front().process, context);
        SQUALL_ASSIGN(auto fault, create_pause(scratch, context));
        return rehearse_life(*fault, "stopped a scratch process");
      });
}

}  // namespace

extern const FaultKind kProcessPause;
const FaultKind kProcessPause{.descriptor = &kDescriptor,
                              .describe = describe_pause,
                              .bind = bind_pause,
                              .create = create_pause,
                              .rehearse = rehearse_pause,
                              .reach = reach_pause,
                              .restores = kRestoresRunning};

}  // namespace squall::inject
