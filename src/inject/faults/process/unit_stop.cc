// process.unit_stop: stops a unit of systemd, as an administrator would, and starts it again.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "systemctl";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<ParameterDescriptor, 2> kParameters{{
    {.name = "unit",
     .type = ValueType::kText,
     .required = true,
     .minimum = 1,
     .maximum = 255,
     .summary = "The unit: `redis-server`, `backup.timer`, `worker@3.service`."},
    {.name = "timeout",
     .type = ValueType::kDuration,
     .default_text = "2min",
     .minimum = 1e9,
     .maximum = 6e11,
     .summary = "How long it may take to stop, and to start again."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "process.unit_stop",
    .summary = "Stops a unit of systemd.",
    .effect =
        "The unit is stopped as by an administrator: its `ExecStop` runs, its processes end, and "
        "its `Restart=` does not bring them back.",
    .revert =
        "It is started again, from the journal also after a crash or a reboot. Not when somebody "
        "else has started, masked or removed it meanwhile: then that is told and left.",
    .proof =
        "Effect: systemd shows the unit as inactive or failed. Revert: it shows the unit as "
        "active.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = {},
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- process.unit_stop: { unit: redis-server }\n"
        "  name: cache-down\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kLook = std::chrono::milliseconds(50);
// systemd may still get what a dead holder asked for.
constexpr base::Duration kReplayGrace = std::chrono::seconds(1);
constexpr base::Duration kSlowLook = std::chrono::seconds(1);
constexpr base::Duration kShowLimit = std::chrono::seconds(10);
constexpr std::string_view kProperties =
    "--property=Id,LoadState,ActiveState,InvocationID,MainPID,ControlGroup,CanStop,RequiredBy,"
    "BoundBy,ConsistsOf,TriggeredBy";

std::string systemctl() {
  for (const char* path : {"/usr/bin/systemctl", "/bin/systemctl"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return {};
}

std::vector<std::string> show_argv(const std::string& unit) {
  return {systemctl(), "show", "--no-pager", std::string(kProperties), "--", unit};
}

using Properties = std::map<std::string, std::string>;

// Lines "Key=value"; kUnavailable when systemd did not answer.
base::Result<Properties> read_properties(int exit_status, const std::string& output) {
  Properties properties;
  for (const std::string& line : base::split(output, '\n')) {
    const std::size_t at = line.find('=');
    if (at != std::string::npos) properties[line.substr(0, at)] = line.substr(at + 1);
  }
  if (exit_status == 0 && properties.contains("ActiveState") && properties.contains("LoadState"))
    return properties;
  return base::Error{.code = base::ErrorCode::kUnavailable,
                     .message = fmt::format("systemctl show ended with {}: {}", exit_status,
                                            base::printable(base::trim(output.substr(0, 300)))),
                     .hint = "is systemd well? try: systemctl is-system-running"};
}

bool stopped(const Properties& unit) {
  const std::string& state = unit.at("ActiveState");
  return state == "inactive" || state == "failed";
}

// One program that runs, or has run.
class Run {
 public:
  // The outcome once it has ended; starts it at the first call, and again after the next.
  std::optional<ProgramOutcome> advance(FaultContext& context, const std::vector<std::string>& argv,
                                        base::Duration limit) {
    if (!id_) {
      id_ = context.programs().start({.purpose = ProgramRequest::Purpose::kCommand,
                                      .argv = argv,
                                      .directory = "/",
                                      .limit = limit,
                                      .account = {}});
    }
    ProgramOutcome outcome = context.programs().outcome(*id_);
    if (!outcome.error && !outcome.exit_status) return std::nullopt;
    id_.reset();
    return outcome;
  }
  bool begun() const { return id_.has_value(); }

 private:
  std::optional<std::uint64_t> id_;
};

class UnitStop final : public Fault {
 public:
  UnitStop(const Json& details, FaultContext& context)
      : unit_(text_field(details, "unit")),
        invocation_(text_field(details, "invocation")),
        limit_(integer_field(details, "timeout_ns")),
        context_(context) {}

  Step arm() override {
    if (!noted_) {
      if (auto noted = context_.note({{"stopping", unit_}, {"invocation", invocation_}});
          !noted.ok())
        return Step::failed(std::move(noted).error());
      noted_ = true;
    }
    const auto outcome = change_.advance(context_, argv("stop"), limit_);
    if (!outcome) return waiting(kLook);
    if (auto noted = context_.note({{"answered", true}}); !noted.ok())
      return Step::failed(std::move(noted).error());
    if (outcome->exit_status != 0) return Step::failed(failure("stop", *outcome));
    return Step::done(fmt::format("systemctl stopped {}", unit_));
  }

  Step effective() override {
    Properties unit;
    if (Step looked = look(unit); looked.state != Step::State::kDone) return looked;
    if (!stopped(unit)) return Step::wait(kLook);
    return Step::done(fmt::format("systemd shows {} as {}", unit_, unit["ActiveState"]),
                      Json{{"state", unit["ActiveState"]}}.dump());
  }

  Step hold() override {
    if (base::BootClock::now() < next_look_) return Step::wait(kSlowLook);
    Properties unit;
    if (Step looked = look(unit); looked.state != Step::State::kDone) return looked;
    next_look_ = base::BootClock::now() + kSlowLook;
    if (stopped(unit)) return Step::wait(kSlowLook);
    return Step::broken(base::Error{
        .code = base::ErrorCode::kConflict,
        .message = fmt::format("somebody else started {} (it is {})", unit_, unit["ActiveState"]),
        .hint =
            "a socket, a timer or another unit may have asked for it: systemctl status " + unit_});
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was stopped");
    if (!told_.empty()) return Step::done(told_);
    if (!starting_) {
      // A stop under way ends first: systemd may not know of it yet, and shows the unit as active.
      if (change_.begun() && !change_.advance(context_, argv("stop"), limit_))
        return waiting(kLook);
      Properties unit;
      if (Step looked = look(unit); looked.state != Step::State::kDone) return looked;
      const std::string& state = unit["ActiveState"];
      if (state == "deactivating" || state == "activating" || state == "reloading")
        return Step::wait(kLook);
      const bool same = state == "active" && unit["InvocationID"] == invocation_;
      if (same && still_to_come()) return Step::wait(kLook);
      if (state == "active") {
        left_ = true;
        told_ = unit["InvocationID"] == invocation_
                    ? fmt::format("{} was not stopped", unit_)
                    : fmt::format("somebody else has started {} already", unit_);
        return Step::done(told_);
      }
      if (unit["LoadState"] != "loaded") {
        left_ = true;
        told_ = fmt::format("somebody else changed {} meanwhile: it is {}; it is left as it is",
                            unit_, unit["LoadState"]);
        return Step::done(told_);
      }
      starting_ = true;
    }
    const auto outcome = change_.advance(context_, argv("start"), limit_);
    if (!outcome) return waiting(kLook);
    starting_ = false;
    if (outcome->exit_status != 0) {
      base::Error error = failure("start", *outcome);
      error.code = base::ErrorCode::kRevertNotVerified;
      return Step::failed(std::move(error));
    }
    told_ = fmt::format("systemctl started {}", unit_);
    return Step::done(told_);
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was stopped");
    Properties unit;
    if (Step looked = look(unit); looked.state != Step::State::kDone) return looked;
    const std::string& state = unit["ActiveState"];
    if (left_ || state == "active") {
      return Step::done(
          fmt::format("systemd shows {} as {}{}", unit_, state, left_ ? "; " + told_ : ""),
          Json{{"state", state}}.dump());
    }
    if (state == "activating") return Step::wait(kLook);
    told_.clear();  // the next revert starts it again
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = fmt::format("{} was started and is {}", unit_, state),
        .hint =
            fmt::format("look why: systemctl status {0}; start it: systemctl start {0}", unit_)});
  }

  void recall(const Json& found) override {
    answered_ = answered_ || boolean_field(found, "answered");
    if (text_field(found, "stopping") != unit_) return;
    noted_ = true;
    recalled_at_ = base::BootClock::now();
  }

 private:
  // A replay does not know whether systemd had heard of the stop.
  bool still_to_come() const {
    return recalled_at_ && !answered_ && base::BootClock::now() - *recalled_at_ < kReplayGrace;
  }
  std::vector<std::string> argv(const std::string& verb) const {
    return {systemctl(), "--no-ask-password", "--no-pager", verb, "--", unit_};
  }
  Step waiting(base::Duration again) { return Step::wait_for({context_.programs().fd()}, again); }

  Step look(Properties& unit) {
    const auto outcome = show_.advance(context_, show_argv(unit_), kShowLimit);
    if (!outcome) return waiting(kLook);
    if (outcome->error) return Step::failed(*outcome->error);
    auto properties = read_properties(*outcome->exit_status, outcome->output);
    if (!properties.ok()) return Step::failed(std::move(properties).error());
    unit = std::move(*properties);
    return Step::done({});
  }

  base::Error failure(std::string_view verb, const ProgramOutcome& outcome) const {
    base::Error error{.code = base::ErrorCode::kUnavailable};
    if (outcome.error) error = *outcome.error;
    error.message =
        fmt::format("systemctl {} {}: {}", verb, unit_,
                    outcome.error ? outcome.error->message
                                  : fmt::format("ended with {}: {}", *outcome.exit_status,
                                                base::printable(base::trim(outcome.output))));
    error.hint = fmt::format("look why: systemctl status {}", unit_);
    return error;
  }

  std::string unit_;
  std::string invocation_;
  base::Duration limit_;
  FaultContext& context_;
  Run change_;
  Run show_;
  bool noted_ = false;
  bool starting_ = false;
  bool left_ = false;  // not ours to start
  bool answered_ = false;
  std::optional<base::Instant> recalled_at_;
  std::string told_;
  base::Instant next_look_;
};

void describe_unit_stop(const model::SystemMap&, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const std::string unit = fault.parameters.text("unit");
  planned.target = "systemd's unit " + unit;
  planned.processes_max = 0;
  planned.changes = {{.change = fmt::format("`systemctl stop {}` runs", unit),
                      .revert = fmt::format("`systemctl start {}` runs, unless somebody else "
                                            "changed it",
                                            unit),
                      .lifetime = LifetimeClass::kJournaled}};
}

// The unit's whole name. kBadFile when it is none, kBlocked when no fault may stop it.
base::Result<std::string> unit_name(std::string name) {
  const bool fits =
      !name.empty() && name.front() != '-' && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view(":-_.\\@").find(c) != std::string_view::npos;
      });
  if (fits && name.find('.') == std::string::npos) name += ".service";
  const bool kind = name.ends_with(".service") || name.ends_with(".socket") ||
                    name.ends_with(".timer") || name.ends_with(".path");
  if (!fits || !kind) {
    return base::Error{
        .code = base::ErrorCode::kBadFile,
        .message = fmt::format("`{}` is no unit that can be stopped", name),
        .hint = "name a service, socket, timer or path: `redis-server`, `backup.timer`"};
  }
  for (const std::string_view never :
       {"ssh.", "sshd.", "ssh@", "sshd@", "systemd-", "dbus", "squall-", "init.", "user@"}) {
    if (!name.starts_with(never)) continue;
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format("{} is never a target: without it nobody could undo "
                                              "the fault, or get in",
                                              name),
                       .hint = "aim at a unit of the system under test"};
  }
  return name;
}

base::Result<Properties> show_now(const std::string& unit) {
  SQUALL_ASSIGN(const base::CommandOutput shown,
                base::run_command({.argv = show_argv(unit)}, kShowLimit));
  return read_properties(shown.exit_status, shown.output + shown.error);
}

base::Status check_systemd() {
  std::error_code ignored;
  if (!systemctl().empty() && std::filesystem::is_directory("/run/systemd/system", ignored))
    return {};
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = "this host was not booted with systemd, so it has no units",
                     .hint = "stop processes instead: process.kill with `restore: start`"};
}

// Stopping it stops these, too, and to start it does not start them.
base::Status check_dependents(const std::string& unit, Properties& properties) {
  std::vector<std::string> along;
  for (const char* property : {"RequiredBy", "BoundBy", "ConsistsOf"}) {
    for (const std::string& other : base::split(properties[property], ' ')) {
      if (other.empty() || std::find(along.begin(), along.end(), other) != along.end()) continue;
      SQUALL_ASSIGN(const Properties state, show_now(other));
      if (!stopped(state)) along.push_back(other);
    }
  }
  if (along.empty()) return {};
  return base::Error{.code = base::ErrorCode::kBlocked,
                     .message = fmt::format("to stop {} would also stop what requires it: {}", unit,
                                            base::enumerate(along)),
                     .hint = "aim at that unit, or let it say `Wants=` instead of `Requires=`"};
}

base::Status check_not_ours(const std::string& unit, Properties& properties) {
  if (const long pid = std::strtol(properties["MainPID"].c_str(), nullptr, 10); pid > 0)
    SQUALL_TRY(check_not_ourselves(static_cast<pid_t>(pid)));
  const std::string& group = properties["ControlGroup"];
  const auto own = base::read_pseudo_file("/proc/self/cgroup");
  if (group.size() < 2 || !own.ok() || (*own + "\n").find(":" + group + "\n") == std::string::npos)
    return {};
  return base::Error{.code = base::ErrorCode::kBlocked,
                     .message = fmt::format("{} is the unit in which Squall itself runs", unit),
                     .hint = "start Squall from somewhere else"};
}

base::Result<model::FaultBinding> bind_unit_stop(const BindRequest& request) {
  SQUALL_ASSIGN(const std::string asked, unit_name(request.fault.parameters.text("unit")));
  SQUALL_TRY(check_systemd());
  SQUALL_ASSIGN(Properties properties, show_now(asked));
  // An alias stands for another unit, which may be one of those that are never a target.
  SQUALL_ASSIGN(const std::string unit,
                unit_name(properties["Id"].empty() ? asked : properties["Id"]));
  if (properties["LoadState"] != "loaded" || properties["ActiveState"] != "active") {
    return base::Error{
        .code = base::ErrorCode::kNotFound,
        .message = fmt::format("systemd has {} as {} and {}: it can only be stopped "
                               "when it is active",
                               unit, properties["LoadState"], properties["ActiveState"]),
        .hint = "look at it: systemctl status " + unit};
  }
  if (properties["CanStop"] == "no") {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} refuses to be stopped (RefuseManualStop)", unit),
                       .hint = "aim at its processes: process.kill"};
  }
  SQUALL_TRY(check_not_ours(unit, properties));
  SQUALL_TRY(check_dependents(unit, properties));
  const std::string& triggers = properties["TriggeredBy"];
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kJournaled);
  binding.targets = {
      {.service = {},
       .member = {},
       .process = {},
       .description = fmt::format(
           "unit {}{}", unit, triggers.empty() ? "" : ", which may be started by " + triggers)}};
  binding.details =
      model::Parameters{Json{{"unit", unit},
                             {"invocation", properties["InvocationID"]},
                             {"timeout_ns", request.fault.parameters.duration("timeout").count()},
                             {"resources", Json::array({"unit/" + unit})}}};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_unit_stop(const model::FaultBinding& binding,
                                                      FaultContext& context) {
  const Json& details = binding.details.json();
  const auto unit = unit_name(text_field(details, "unit"));
  if (!unit.ok() || integer_field(details, "timeout_ns") <= 0)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no unit that may be stopped"};
  return std::unique_ptr<Fault>{std::make_unique<UnitStop>(details, context)};
}

// By the very name that systemctl is given; who names a unit in the policy has its dependents and
// its aliases in hand.
base::Result<Reach> reach_unit_stop(const model::FaultBinding& binding) {
  SQUALL_ASSIGN(std::string unit, unit_name(text_field(binding.details.json(), "unit")));
  if (unit != text_field(binding.details.json(), "unit"))
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not name its unit in full"};
  SQUALL_TRY(check_locks(binding, {"unit/" + unit}));
  return Reach{.units = {std::move(unit)}};
}

base::Result<std::string> rehearse_unit_stop(const model::FaultBinding& binding, FaultContext&) {
  SQUALL_TRY(check_systemd());
  return fmt::format(
      "systemctl answers about {}; it was not stopped, because there is no other "
      "unit to try it on",
      text_field(binding.details.json(), "unit"));
}

}  // namespace

extern const FaultKind kProcessUnitStop;
const FaultKind kProcessUnitStop{.descriptor = &kDescriptor,
                                 .describe = describe_unit_stop,
                                 .bind = bind_unit_stop,
                                 .create = create_unit_stop,
                                 .rehearse = rehearse_unit_stop,
                                 .reach = reach_unit_stop,
                                 .restores = kRestoresService,
                                 .survives_reboot = true};

}  // namespace squall::inject
