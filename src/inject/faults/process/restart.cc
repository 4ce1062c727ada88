// process.restart: stops members of a service (a polite signal, then SIGKILL after `grace`) and
// starts them again at once. The lease only watches over it: if anything goes wrong in between, the
// revert starts what is not running.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>

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

constexpr std::array<std::string_view, 2> kRestoreChoices{"start", "await"};
constexpr std::array<ParameterDescriptor, 8> kParameters{{
    service_parameter("The service of which members are restarted."),
    member_parameter("The member to restart, by name or role; without it, `count` decides."),
    count_parameter("How many members are restarted."),
    kRandomParameter,
    {.name = "signal",
     .type = ValueType::kSignal,
     .default_text = "SIGTERM",
     .summary = "The signal that asks the process to end."},
    {.name = "grace",
     .type = ValueType::kDuration,
     .default_text = "10s",
     .minimum = 0,
     .maximum = 6e11,
     .summary = "How long it may take to end; after that it is killed with SIGKILL."},
    restore_parameter(
        "start",
        "Who starts it again: `start` runs the map's start command, `await` waits for its "
        "supervisor.",
        kRestoreChoices),
    limit_parameter("How long the new process may take to appear."),
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "process.restart",
    .summary = "Stops members of a service and starts them again at once.",
    .effect =
        "The process is asked to end, ends (by SIGKILL when it does not), and is started "
        "again; in between nobody serves.",
    .revert = "A member that does not run again is started.",
    .proof =
        "Effect: the kernel reports the end of the very process that was bound (pidfd). "
        "Revert: a new process of the service, by pid.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kSignalMechanisms,
    .capabilities = kSignalCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- process.restart: { service: api, signal: SIGTERM, grace: 10s }\n"
        "  name: rollout\n"
        "  at: 5s\n"
        "  for: 15s\n",
};

class RestartFault final : public Fault {
 public:
  RestartFault(std::vector<Target> targets, int signal, base::Duration grace, Revival::Plan plan,
               FaultContext& context)
      : targets_(std::move(targets)),
        signal_(signal),
        grace_(grace),
        revival_(std::move(plan), context),
        context_(context) {}

  Step arm() override {
    auto opened = open_targets(targets_);
    if (!opened.ok()) return Step::failed(std::move(opened).error());
    Json list = Json::array();
    for (const Target& target : targets_) list.push_back(to_json(target));
    if (auto noted = context_.note({{"restarting", list}}); !noted.ok())
      return Step::failed(noted.error());
    processes_ = std::move(*opened);
    signalled_ = true;
    sent_at_ = base::BootClock::now();
    if (auto sent = signal_all(signal_); !sent.ok()) return Step::failed(std::move(sent).error());
    return Step::done(
        fmt::format("sent SIG{} to {}", ::sigabbrev_np(signal_), describe_targets(targets_)));
  }

  Step effective() override {
    if (Step waiting = wait_for_end(); waiting.state != Step::State::kDone) return waiting;
    const base::Duration took = base::BootClock::now() - sent_at_;
    return Step::done(fmt::format("{} ended after {}{}", describe_targets(targets_),
                                  base::humanize(took), killed_ ? " (by SIGKILL)" : ""),
                      Json{{"ended", targets_.size()}, {"took_ns", took.count()}}.dump());
  }

  Step hold() override {
    if (!begun_) {
      begun_ = true;
      Step begun = revival_.begin(targets_);
      if (begun.state == Step::State::kFailed) return begun;
      Step notice = Step::wait(std::chrono::milliseconds(1));
      notice.text = begun.text;
      return notice;
    }
    Step back = revival_.await(targets_);
    if (back.state != Step::State::kDone || told_) return back;
    told_ = true;
    Step notice = Step::wait(std::chrono::milliseconds(1));
    notice.text = fmt::format("{}, {} after the signal", back.text,
                              base::humanize(base::BootClock::now() - sent_at_));
    return notice;
  }

  Step revert() override {
    if (!signalled_) return Step::done("nothing was stopped");
    if (replayed_) {
      if (auto opened = recalled_.open_into(processes_); !opened.ok())
        return Step::failed(std::move(opened).error());
      // The dead holder may have died before it could send it.
      if (auto sent = signal_all(signal_); !sent.ok()) return Step::failed(std::move(sent).error());
      replayed_ = false;
    }
    // It was asked to end, so it is ended before it is started: never two of them.
    if (Step waiting = wait_for_end(); waiting.state != Step::State::kDone) return waiting;
    return revival_.begin(targets_);
  }

  Step verify() override {
    return signalled_ ? revival_.await(targets_) : Step::done("nothing was stopped");
  }

  void recall(const Json& found) override {
    if (!found.contains("restarting")) return;
    signalled_ = true;
    sent_at_ = base::BootClock::now();
    for (const Target& target : targets_) recalled_.add(target.identity);
    replayed_ = true;
  }

 private:
  base::Status signal_all(int number) {
    base::Status result;
    for (const base::PidFd& process : processes_) {
      auto sent = process.signal(number);
      if (!sent.ok() && sent.error().code != base::ErrorCode::kNotFound) result = std::move(sent);
    }
    return result;
  }

  Step wait_for_end() {
    std::vector<int> alive;
    for (const base::PidFd& process : processes_) {
      if (!process.ended()) alive.push_back(process.get());
    }
    if (alive.empty()) return Step::done({});
    const base::Instant now = base::BootClock::now();
    if (now - sent_at_ >= grace_ && !killed_) {
      killed_ = true;
      if (auto sent = signal_all(SIGKILL); !sent.ok()) return Step::failed(std::move(sent).error());
    }
    return Step::wait_for(std::move(alive), killed_ ? base::Duration{} : sent_at_ + grace_ - now);
  }

  std::vector<Target> targets_;
  int signal_;
  base::Duration grace_;
  Revival revival_;
  FaultContext& context_;
  std::vector<base::PidFd> processes_;
  RecalledProcesses recalled_;
  bool replayed_ = false;  // and its signal is still to be sent
  base::Instant sent_at_;
  bool signalled_ = false;
  bool killed_ = false;
  bool begun_ = false;
  bool told_ = false;
};

void describe_restart(const model::SystemMap&, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  planned.changes = {
      {.change = fmt::format("{} is sent to {}, SIGKILL after {}", parameters.text("signal"),
                             planned.target, base::format_duration(parameters.duration("grace"))),
       .revert = parameters.text("restore") == "start"
                     ? "the member is started again at once with the map's `start`"
                     : "its supervisor starts it again; that is awaited",
       .lifetime = LifetimeClass::kOneWay}};
}

base::Result<model::FaultBinding> bind_restart(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  const auto& named = members.service->members;
  const bool startable =
      !members.service->start.empty() ||
      std::all_of(members.chosen.begin(), members.chosen.end(), [&](const host::Member& member) {
        return std::any_of(named.begin(), named.end(), [&](const model::MemberSelector& m) {
          return m.name == member.name && !m.start.empty();
        });
      });
  if (parameters.text("restore") == "start" && !startable) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("to restart {} Squall must know how it is started",
                                              members.service->name),
                       .hint =
                           "give the service a `start:` in the map, or say `restore: await` "
                           "when a supervisor starts it"};
  }
  const Json extra = {
      {"signal", signal_number(parameters.text("signal"))},
      {"grace_ns", parameters.duration("grace").count()},
      {"restore", parameters.text("restore")},
      {"limit_ns", parameters.duration("limit").count()},
      {"resources",
       Json::array({fmt::format("service/{}/{}", request.map.directory, members.service->name)})}};
  return process_binding(request, members, std::string(kPidfdSignal), LifetimeClass::kOneWay,
                         extra);
}

base::Result<std::unique_ptr<Fault>> create_restart(const model::FaultBinding& binding,
                                                    FaultContext& context) {
  SQUALL_ASSIGN(Revival::Plan plan, Revival::plan_of(binding));
  const auto signal = static_cast<int>(integer_field(binding.details.json(), "signal"));
  if (signal <= 0 || signal >= SIGRTMIN || ::sigabbrev_np(signal) == nullptr)
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the binding has no signal"};
  const base::Duration grace{integer_field(binding.details.json(), "grace_ns")};
  return std::unique_ptr<Fault>{
      std::make_unique<RestartFault>(targets_of(binding), signal, grace, std::move(plan), context)};
}

base::Result<std::string> rehearse_restart(const model::FaultBinding& binding,
                                           FaultContext& context) {
  return rehearse_on_scratch(binding, context,
                             [&](const model::FaultBinding& scratch) -> base::Result<std::string> {
                               SQUALL_ASSIGN(auto fault, create_restart(scratch, context));
                               return rehearse_life(*fault, "ended a scratch process by pidfd");
                             });
}

}  // namespace

extern const FaultKind kProcessRestart;
const FaultKind kProcessRestart{.descriptor = &kDescriptor,
                                .describe = describe_restart,
                                .bind = bind_restart,
                                .create = create_restart,
                                .rehearse = rehearse_restart,
                                .reach = reach_processes,
                                .restores = kRestoresService};

}  // namespace squall::inject
