// process.pause: members of a service stand still, each with everything that descends from it, and
// run on afterwards. By the freezer of a cgroup that holds nothing else, by SIGSTOP, or by a tracer
// (standstill.h). A member that is restarted meanwhile is paused, too (successors.h). The revert
// continues only what this fault stopped.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "inject/fault.h"
#include "inject/faults/process/standstill.h"
#include "inject/faults/process/successors.h"
#include "inject/faults/process/targets.h"
#include "inject/faults/syscall/interception_fault.h"
#include "inject/json_fields.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 4> kMechanisms{kFreezer2, kFreezer1, kTracerStop,
                                                      kStopSignal};
constexpr std::array<std::string_view, 4> kMechanismChoices{"auto", "freezer", "ptrace", "signal"};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_KILL"};
constexpr std::array<ParameterDescriptor, 6> kParameters{{
    service_parameter("The service of which members are paused."),
    member_parameter("The member to pause, by name or role; without it, `count` decides."),
    count_parameter("How many members are paused."),
    kRandomParameter,
    kJoinsParameter,
    {.name = "mechanism",
     .type = ValueType::kChoice,
     .default_text = "auto",
     .summary = "`freezer` (the target's cgroup, if it holds nothing else; that of cgroup v1 also "
                "holds back SIGKILL), `signal` (SIGSTOP, which its parent is told of and anybody's "
                "SIGCONT ends), or `ptrace` (kernel-held: ends with Squall, whatever happens; no "
                "other tracer may be there). `auto`: a v2 freezer, else a signal.",
     .choices = kMechanismChoices},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "process.pause",
    .summary = "Pauses members of a service, with all their child processes.",
    .effect =
        "The process stands still: connections stay open, nothing is answered, and the kernel "
        "goes on accepting and acknowledging for it until its buffers are full.",
    .revert = "It runs on where it stood. What somebody else had stopped before stays stopped.",
    .proof =
        "Effect: /proc/PID/stat shows T (ptrace: t) for every process of the tree, or the freezer "
        "shows frozen. Revert: it shows neither.",
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

std::string mechanism_of(const model::Parameters& parameters) {
  return parameters.optional_text("mechanism").value_or("auto");
}

// By the binding's mechanism; and by signals those who come up later out of its reach.
class PauseFault final : public Fault {
 public:
  PauseFault(std::unique_ptr<Standstill> first, std::unique_ptr<Standstill> later,
             Successors::Plan plan, FaultContext& context)
      : first_(std::move(first)),
        later_(std::move(later)),
        successors_(std::move(plan), "died while paused", context) {}

  Step arm() override {
    if (!successors_.open_already()) {
      if (auto opened = successors_.open(); !opened.ok())
        return Step::failed(std::move(opened).error());
    }
    return first_->arm();
  }
  Step effective() override { return first_->effective(); }

  Step hold() override {
    Step step = either(successors_.hold([this](const Target& fresh) { return join(fresh); }),
                       first_->hold());
    return later_joined_ ? either(std::move(step), later_->hold()) : step;
  }

  Step revert() override { return with_later(first_->revert(), &Fault::revert); }
  Step verify() override { return with_later(first_->verify(), &Fault::verify); }
  void recall(const Json& found) override {
    first_->recall(found);
    if (later_ == nullptr || !found.contains("stopping")) return;
    later_joined_ = true;
    later_->recall(found);
  }

 private:
  Step join(const Target& fresh) {
    if (joining_later_ != fresh.identity) {
      Step step = first_->join(fresh);
      const bool out_of_reach =
          step.state == Step::State::kFailed && step.error.code == base::ErrorCode::kUnsupported;
      if (!out_of_reach || later_ == nullptr) return step;
      joining_later_ = fresh.identity;
      later_joined_ = true;
    }
    return later_->join(fresh);
  }

  Step with_later(Step first, Step (Fault::*step)()) {
    if (!later_joined_ || first.state != Step::State::kDone) return first;
    Step later = (*later_.*step)();
    if (later.state == Step::State::kDone) later.text = first.text + "; then: " + later.text;
    return later;
  }

  std::unique_ptr<Standstill> first_;
  std::unique_ptr<Standstill> later_;  // may be null
  Successors successors_;
  base::ProcessIdentity joining_later_;
  bool later_joined_ = false;
};

std::string means_text(std::string_view mechanism) {
  if (mechanism == "freezer") return "frozen by its cgroup";
  if (mechanism == "ptrace") return "traced and stopped";
  if (mechanism == "signal") return "SIGSTOP";
  return "frozen or SIGSTOP";
}

void describe_pause(const model::SystemMap&, const model::FaultSpecification& fault,
                    model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  const bool traced = mechanism_of(parameters) == "ptrace";
  planned.changes = {
      {.change = fmt::format("{}{} stands still with all its child processes ({})", planned.target,
                             joining_text(parameters), means_text(mechanism_of(parameters))),
       .revert = traced ? "the tracer is ended; the kernel lets the threads go when it dies"
                        : "what was stopped is let run on (thawed or SIGCONT); journaled before "
                          "it is stopped",
       .lifetime = traced ? LifetimeClass::kKernelHeld : LifetimeClass::kJournaled}};
}

// The group that holds the targets' trees and nothing else.
base::Result<Freezer> own_freezer(const ChosenMembers& members, bool v2) {
  std::optional<Freezer> freezer;
  std::vector<base::ProcessIdentity> roots;
  for (const host::Member& member : members.chosen) {
    roots.push_back(member.process.identity);
    SQUALL_ASSIGN(Freezer own, freezer_of(member.process.identity.pid, v2));
    if (freezer && freezer->folder != own.folder) {
      return base::Error{.code = base::ErrorCode::kUnsupported,
                         .message = "the targets are in several cgroups",
                         .hint = "pause them by several faults"};
    }
    freezer = std::move(own);
  }
  SQUALL_TRY(check_folder_holds_only(freezer->folder, roots));
  return *freezer;
}

std::string lock_of(const Freezer& freezer, const std::string& group) {
  return fmt::format("cgroup{}{}", freezer.v2 ? "" : "/freezer", group);
}

base::Result<model::FaultBinding> bind_frozen(const BindRequest& request,
                                              const ChosenMembers& members, const Freezer& freezer,
                                              bool later_by_signal) {
  SQUALL_ASSIGN(const std::string mount, freezer_mount(freezer.v2));
  const std::string group = freezer.folder.substr(mount.size());
  return process_binding(request, members, std::string(freezer.v2 ? kFreezer2 : kFreezer1),
                         LifetimeClass::kJournaled,
                         {{"cgroup", group},
                          {"later_by_signal", later_by_signal},
                          {"joins", joins(request.fault.parameters)},
                          {"resources", Json::array({lock_of(freezer, group)})}});
}

base::Result<model::FaultBinding> bind_pause(const BindRequest& request) {
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  const std::string mechanism = mechanism_of(request.fault.parameters);
  const Json joining = {{"joins", joins(request.fault.parameters)}};
  if (mechanism == "ptrace") {
    SQUALL_TRY(check_all_traceable(members, {}));
    return process_binding(request, members, std::string(kTracerStop), LifetimeClass::kKernelHeld,
                           joining);
  }
  if (mechanism != "signal") {
    const auto v2 = own_freezer(members, true);
    if (v2.ok()) return bind_frozen(request, members, *v2, mechanism == "auto");
    if (mechanism == "freezer") {
      const auto v1 = own_freezer(members, false);
      if (v1.ok()) return bind_frozen(request, members, *v1, false);
      return base::Error{.code = base::ErrorCode::kUnsupported,
                         .message = fmt::format("no freezer holds the targets and nobody else: "
                                                "v2: {}; v1: {}",
                                                v2.error().message, v1.error().message),
                         .hint =
                             "start the service in a cgroup of its own (a systemd unit, a "
                             "container), or say `mechanism: auto`"};
    }
  }
  return process_binding(request, members, std::string(kStopSignal), LifetimeClass::kJournaled,
                         joining);
}

base::Result<Freezer> bound_freezer(const model::FaultBinding& binding) {
  const bool v2 = binding.mechanism == kFreezer2;
  const std::string group = text_field(binding.details.json(), "cgroup");
  const bool named =
      group.size() > 1 && group.front() == '/' && (group + "/").find("/../") == std::string::npos;
  if ((!v2 && binding.mechanism != kFreezer1) || !named || binding.targets.empty()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no mechanism of process.pause"};
  }
  SQUALL_ASSIGN(const std::string mount, freezer_mount(v2));
  return Freezer{.folder = mount + group, .v2 = v2};
}

base::Result<std::unique_ptr<Fault>> create_pause(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  SQUALL_ASSIGN(Successors::Plan plan, Successors::plan_of(binding));
  std::unique_ptr<Standstill> first;
  std::unique_ptr<Standstill> later;
  if (binding.mechanism == kStopSignal) {
    first = stand_still_by_signal(targets_of(binding), context);
  } else if (binding.mechanism == kTracerStop) {
    first = stand_still_by_tracer(targets_of(binding), context);
  } else {
    SQUALL_ASSIGN(Freezer freezer, bound_freezer(binding));
    first = stand_still_by_freezer(targets_of(binding), std::move(freezer), context);
    if (boolean_field(binding.details.json(), "later_by_signal"))
      later = stand_still_by_signal({}, context);
  }
  return std::unique_ptr<Fault>{
      std::make_unique<PauseFault>(std::move(first), std::move(later), std::move(plan), context)};
}

base::Result<Reach> reach_pause(const model::FaultBinding& binding) {
  SQUALL_ASSIGN(Reach reach, reach_processes(binding));
  if (binding.mechanism == kStopSignal || binding.mechanism == kTracerStop) return reach;
  SQUALL_ASSIGN(const Freezer freezer, bound_freezer(binding));
  const std::string group = text_field(binding.details.json(), "cgroup");
  SQUALL_TRY(check_locks(binding, {lock_of(freezer, group)}));
  reach.cgroups.push_back(freezer.folder);
  return reach;
}

base::Result<std::string> rehearse_freezer(model::FaultBinding binding, FaultContext& context) {
  const base::ProcessIdentity& scratch = binding.targets.front().process;
  SQUALL_ASSIGN(const ScratchFreezer group, ScratchFreezer::create(binding.mechanism == kFreezer2));
  SQUALL_TRY(group.add(scratch.pid));
  Json details = binding.details.json();
  details["cgroup"] = group.name();
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
        const bool freezes = binding.mechanism == kFreezer2 || binding.mechanism == kFreezer1;
        if (freezes) return rehearse_freezer(scratch, context);
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
