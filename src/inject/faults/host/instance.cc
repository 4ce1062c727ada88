#include "inject/faults/host/instance.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kLook = std::chrono::milliseconds(200);
constexpr base::Duration kProgramLook = std::chrono::milliseconds(50);
constexpr base::Duration kMonitorLimit = std::chrono::seconds(5);
constexpr base::Duration kConnectLimit = std::chrono::seconds(1);

std::string own_boot_id() {
  const auto text = base::read_pseudo_file("/proc/sys/kernel/random/boot_id");
  return text.ok() ? std::string(base::trim(*text)) : std::string{};
}

// A program of the fault that runs, or has run.
class ProgramRun {
 public:
  bool begun() const { return id_.has_value(); }
  void forget() { id_.reset(); }
  std::optional<ProgramOutcome> advance(FaultContext& context, const InstancePlan& plan,
                                        const std::vector<std::string>& argv) {
    if (!id_) {
      id_ = context.programs().start({.purpose = ProgramRequest::Purpose::kCommand,
                                      .argv = argv,
                                      .directory = plan.directory,
                                      .limit = plan.timeout,
                                      .account = {}});
    }
    ProgramOutcome outcome = context.programs().outcome(*id_);
    if (!outcome.error && !outcome.exit_status) return std::nullopt;
    return outcome;
  }

 private:
  std::optional<std::uint64_t> id_;
};

Step waiting(FaultContext& context) {
  return Step::wait_for({context.programs().fd()}, kProgramLook);
}

base::Error failure(const std::vector<std::string>& argv, const ProgramOutcome& outcome) {
  base::Error error{.message = fmt::format("`{}` failed", base::join(argv, " ")),
                    .hint = "run it by hand in the folder of the map"};
  if (outcome.error) error = *outcome.error;
  if (outcome.exit_status)
    error.message = fmt::format("`{}` ended with {}", base::join(argv, " "), *outcome.exit_status);
  const std::string said = base::printable(base::trim(outcome.output));
  if (!said.empty()) error.message += ": " + said.substr(said.size() > 200 ? said.size() - 200 : 0);
  return error;
}

struct Life {
  bool alive = false;
  std::string boot_id;
  std::string text;  // by what we know
};

// Does the instance live? Asks all that the plan names; alive when all say so.
class LifeLook {
 public:
  LifeLook(const InstancePlan& plan, FaultContext& context) : plan_(plan), context_(context) {}

  // Absent while an answer is missing.
  std::optional<Life> look(Step& wait) {
    if (!plan_.alive_address.empty() && !connected_) {
      connected_ = try_connect(wait);
      if (!connected_) return std::nullopt;
    }
    if (!plan_.alive_argv.empty() && !program_) {
      program_ = alive_.advance(context_, plan_, plan_.alive_argv);
      wait = waiting(context_);
      if (!program_) return std::nullopt;
    }
    if (!plan_.boot_id_argv.empty() && !boot_id_) {
      boot_id_ = boot_.advance(context_, plan_, plan_.boot_id_argv);
      wait = waiting(context_);
      if (!boot_id_) return std::nullopt;
    }
    Life life = conclude();
    connected_.reset();
    program_.reset();
    boot_id_.reset();
    alive_.forget();
    boot_.forget();
    return life;
  }

 private:
  Life conclude() const {
    Life life{.alive = true, .boot_id = {}, .text = {}};
    std::vector<std::string> texts;
    if (connected_) {
      life.alive = *connected_;
      texts.push_back(fmt::format("{}:{} {} connections", plan_.alive_address, plan_.alive_port,
                                  *connected_ ? "takes" : "takes no"));
    }
    if (program_) {
      const bool well = program_->exit_status == 0;
      life.alive = life.alive && well;
      texts.push_back(fmt::format("`{}` {}", base::join(plan_.alive_argv, " "),
                                  well ? "ended with 0" : "failed"));
    }
    if (boot_id_) {
      const bool well = boot_id_->exit_status == 0;
      life.alive = life.alive && well;
      if (well) life.boot_id = base::printable(base::trim(boot_id_->output.substr(0, 100)));
      texts.push_back(well ? "its boot id is " + life.boot_id : "its boot id cannot be read");
    }
    life.text = base::enumerate(texts);
    return life;
  }

  std::optional<bool> try_connect(Step& wait) {
    if (!socket_) {
      sockaddr_in four{};
      sockaddr_in6 six{};
      const bool is_six = ::inet_pton(AF_INET6, plan_.alive_address.c_str(), &six.sin6_addr) == 1;
      ::inet_pton(AF_INET, plan_.alive_address.c_str(), &four.sin_addr);
      four.sin_family = AF_INET;
      six.sin6_family = AF_INET6;
      four.sin_port = six.sin6_port = htons(plan_.alive_port);
      socket_.reset(
          ::socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      const auto* name = is_six ? reinterpret_cast<const sockaddr*>(&six)
                                : reinterpret_cast<const sockaddr*>(&four);
      since_ = base::BootClock::now();
      if (::connect(socket_.get(), name, is_six ? sizeof six : sizeof four) != 0 &&
          errno != EINPROGRESS)
        return finish(false);
    }
    pollfd request{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&request, 1, 0) > 0) {
      int fault = 0;
      socklen_t size = sizeof fault;
      ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &fault, &size);
      return finish(fault == 0);
    }
    if (base::BootClock::now() - since_ > kConnectLimit) return finish(false);
    wait = Step::wait(std::chrono::milliseconds(10));
    return std::nullopt;
  }
  std::optional<bool> finish(bool connected) {
    socket_.reset();
    return connected;
  }

  const InstancePlan& plan_;
  FaultContext& context_;
  base::UniqueFd socket_;
  base::Instant since_;
  std::optional<bool> connected_;
  ProgramRun alive_;
  ProgramRun boot_;
  std::optional<ProgramOutcome> program_;
  std::optional<ProgramOutcome> boot_id_;
};

class InstanceFault final : public Fault {
 public:
  InstanceFault(InstancePlan plan, FaultContext& context)
      : plan_(std::move(plan)), life_(plan_, context), context_(context) {}

  Step arm() override {
    if (!noted_) {
      Step wait = Step::wait(kLook);
      const auto life = life_.look(wait);
      if (!life) return wait;
      if (auto ready = check_ready(*life); !ready.ok())
        return Step::failed(std::move(ready).error());
      if (pauses()) {
        const auto status = ask("query-status");
        if (!status) return monitor_wait();
        if (!status->ok()) return Step::failed(status->error());
        if ((*status)->status != "running") {
          return Step::failed(base::Error{
              .code = base::ErrorCode::kConflict,
              .message = fmt::format("the instance of {} is {} already, by somebody else",
                                     plan_.service, base::printable((*status)->status)),
              .hint = "look why; the monitor's `cont` lets it run"});
        }
      }
      if (auto noted = context_.note({{"taking_down", true}, {"boot_id", life->boot_id}});
          !noted.ok())
        return Step::failed(noted.error());
      noted_ = true;
      before_ = life->boot_id;
      since_ = base::BootClock::now();
    }
    return act();
  }

  Step effective() override {
    if (plan_.monitor.empty()) return await_absence();
    if (plan_.down_command == "system_reset") {
      return Step::done(fmt::format("QEMU reported {} for `system_reset`", plan_.down_event),
                        Json{{"event", plan_.down_event}}.dump());
    }
    const auto status = ask("query-status");
    if (!status) return monitor_wait();
    if (plan_.down_command == "quit") {
      if (status->ok()) return Step::wait(kLook);
      return Step::done(fmt::format("QEMU ended, {}", status->error().message),
                        Json{{"monitor", "gone"}}.dump());
    }
    if (!status->ok()) return Step::failed(status->error());
    if ((*status)->status != "paused") return Step::wait(kLook);
    return Step::done("QEMU says that the instance is paused", Json{{"status", "paused"}}.dump());
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was done to the instance");
    // What is under way ends first: else it might take down what was just brought back.
    if (down_.begun() && !down_.advance(context_, plan_, plan_.down)) return waiting(context_);
    if (pauses()) return resume();
    if (plan_.up.empty()) return Step::done("a reboot is not undone; the instance must come back");
    if (!plan_.monitor.empty() && !up_.begun()) {
      const auto status = ask("query-status");
      if (!status) return monitor_wait();
      if (status->ok())
        return Step::done(
            "the instance runs: somebody else started it, or it "
            "never ended");
    }
    // Also where it seems to live: told to go down a moment ago, it may answer for a while.
    const auto outcome = up_.advance(context_, plan_, plan_.up);
    if (!outcome) return waiting(context_);
    up_.forget();
    if (outcome->exit_status != 0) {
      base::Error error = failure(plan_.up, *outcome);
      error.code = base::ErrorCode::kRevertNotVerified;
      return Step::failed(std::move(error));
    }
    return Step::done(fmt::format("`{}` ended with 0", base::join(plan_.up, " ")));
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was done to the instance");
    const base::Instant now = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = now;
    std::string words;
    if (!plan_.monitor.empty()) {
      if (!running_) {
        const auto status = ask("query-status");
        if (!status) return monitor_wait();
        if (!status->ok() || (*status)->status != "running")
          return not_back(now, status->ok()
                                   ? fmt::format("QEMU says {}", base::printable((*status)->status))
                                   : status->error().message);
        running_ = true;
      }
      words = "QEMU says that the instance runs";
    }
    Step wait = Step::wait(kLook);
    const auto life = life_.look(wait);
    if (!life) return wait;
    if (!life->alive) return not_back(now, life->text);
    if (!life->text.empty()) words += (words.empty() ? "" : "; ") + life->text;
    if (!before_.empty() && life->boot_id == before_)
      words += " as before: it was not booted anew";
    else if (!before_.empty())
      words += fmt::format(", and was {} before: it was booted anew", before_);
    return Step::done("the instance lives: " + words,
                      Json{{"boot_id_before", before_}, {"boot_id", life->boot_id}}.dump());
  }

  void recall(const Json& found) override {
    if (!boolean_field(found, "taking_down")) return;
    noted_ = true;
    before_ = text_field(found, "boot_id");
  }

 private:
  bool pauses() const { return plan_.down_command == "stop"; }

  base::Status check_ready(const Life& life) const {
    if (!life.boot_id.empty() && life.boot_id == own_boot_id()) {
      return base::Error{
          .code = base::ErrorCode::kBlocked,
          .message = fmt::format("the instance of {} is the machine that Squall runs "
                                 "on: it has the same boot id",
                                 plan_.service),
          .hint = "run Squall elsewhere"};
    }
    if (life.alive) return {};
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = "the instance does not live before the fault: " + life.text,
                       .hint = "start it, or correct what tells whether it lives"};
  }

  std::optional<QmpExchange::Outcome> ask(const std::string& command,
                                          const std::string& event = {}) {
    if (!monitor_) monitor_.emplace(plan_.monitor, command, event, kMonitorLimit);
    auto outcome = monitor_->advance();
    if (outcome) monitor_.reset();
    return outcome;
  }
  Step monitor_wait() const { return Step::wait_for({monitor_->fd()}, monitor_->again()); }

  Step act() {
    if (plan_.monitor.empty()) {
      const auto outcome = down_.advance(context_, plan_, plan_.down);
      if (!outcome) return waiting(context_);
      down_.forget();
      // Its own connection to the instance may well break: what counts is whether that is gone.
      std::string text = fmt::format("`{}` ended with {}", base::join(plan_.down, " "),
                                     outcome->exit_status.value_or(-1));
      if (outcome->exit_status == 0) return Step::done(std::move(text));
      return Step::failed(failure(plan_.down, *outcome));
    }
    const auto outcome = ask(plan_.down_command, plan_.down_event);
    if (!outcome) return monitor_wait();
    if (!outcome->ok()) return Step::failed(outcome->error());
    return Step::done(fmt::format("QEMU took the command `{}`", plan_.down_command));
  }

  Step await_absence() {
    Step wait = Step::wait(kLook);
    const auto life = life_.look(wait);
    if (!life) return wait;
    const base::Duration took = base::BootClock::now() - since_;
    const bool reborn = life->alive && !before_.empty() && life->boot_id != before_;
    if (life->alive && !reborn) return Step::wait(kLook);
    return Step::done(fmt::format("{} after the command {}", base::humanize(took),
                                  reborn ? "the instance has a new boot id" : life->text),
                      Json{{"boot_id", life->boot_id}, {"alive", life->alive}}.dump());
  }

  Step resume() {
    if (!resuming_) {
      const auto status = ask("query-status");
      if (!status) return monitor_wait();
      if (!status->ok()) return Step::failed(status->error());
      if ((*status)->status != "paused")
        return Step::done(
            fmt::format("the instance is {}: somebody else resumed it, or it was "
                        "never paused",
                        base::printable((*status)->status)));
      resuming_ = true;
    }
    const auto outcome = ask(plan_.up_command);
    if (!outcome) return monitor_wait();
    resuming_ = false;
    if (!outcome->ok()) return Step::failed(outcome->error());
    return Step::done("QEMU took the command `cont`");
  }

  Step not_back(base::Instant now, const std::string& why) {
    if (now - *verifying_since_ < plan_.limit) return Step::wait(kLook);
    verifying_since_.reset();
    std::string hint = "start it by hand";
    if (!plan_.up.empty()) hint += ": " + base::join(plan_.up, " ");
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = fmt::format("{} after the revert the instance of {} is not back: {}",
                                           base::humanize(plan_.limit), plan_.service, why),
                    .hint = hint});
  }

  InstancePlan plan_;
  LifeLook life_;
  FaultContext& context_;
  ProgramRun down_;
  ProgramRun up_;
  std::optional<QmpExchange> monitor_;
  std::string before_;  // boot id
  base::Instant since_;
  std::optional<base::Instant> verifying_since_;
  bool noted_ = false;
  bool resuming_ = false;
  bool running_ = false;
};

InstancePlan plan_from_json(const Json& json) {
  return {.service = text_field(json, "name"),
          .directory = text_field(json, "directory"),
          .monitor = text_field(json, "monitor"),
          .down = texts_field(json, "down"),
          .up = texts_field(json, "up"),
          .down_command = text_field(json, "down_command"),
          .down_event = text_field(json, "down_event"),
          .up_command = text_field(json, "up_command"),
          .alive_argv = texts_field(json, "alive_argv"),
          .boot_id_argv = texts_field(json, "boot_id_argv"),
          .alive_address = text_field(json, "alive_address"),
          .alive_port = static_cast<std::uint16_t>(unsigned_field(json, "alive_port")),
          .timeout = base::Duration{integer_field(json, "timeout_ns")},
          .limit = base::Duration{integer_field(json, "limit_ns")}};
}

std::vector<std::string> given(const model::Parameters& parameters, const char* name) {
  return parameters.has(name) ? parameters.texts(name) : std::vector<std::string>{};
}

// Programs that take down the machine on which they run.
bool is_own_end(const std::vector<std::string>& argv) {
  constexpr std::array<std::string_view, 7> kPrograms{"reboot", "poweroff", "halt", "shutdown",
                                                      "init",   "telinit",  "kexec"};
  constexpr std::array<std::string_view, 5> kVerbs{"reboot", "poweroff", "halt", "kexec",
                                                   "soft-reboot"};
  if (argv.empty()) return false;
  const std::string program = argv.front().substr(argv.front().rfind('/') + 1);
  if (std::find(kPrograms.begin(), kPrograms.end(), program) != kPrograms.end()) return true;
  if (program != "systemctl" && program != "loginctl") return false;
  const bool elsewhere = std::any_of(argv.begin(), argv.end(), [](const std::string& word) {
    return word == "-H" || word == "-M" || word.starts_with("--host") ||
           word.starts_with("--machine");
  });
  return !elsewhere && std::any_of(argv.begin(), argv.end(), [&](const std::string& word) {
    return std::find(kVerbs.begin(), kVerbs.end(), word) != kVerbs.end();
  });
}

}  // namespace

Json to_json(const InstancePlan& plan) {
  return {{"name", plan.service},
          {"directory", plan.directory},
          {"monitor", plan.monitor},
          {"down", plan.down},
          {"up", plan.up},
          {"down_command", plan.down_command},
          {"down_event", plan.down_event},
          {"up_command", plan.up_command},
          {"alive_argv", plan.alive_argv},
          {"boot_id_argv", plan.boot_id_argv},
          {"alive_address", plan.alive_address},
          {"alive_port", plan.alive_port},
          {"timeout_ns", plan.timeout.count()},
          {"limit_ns", plan.limit.count()}};
}

base::Result<InstancePlan> instance_plan(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  InstancePlan plan;
  plan.service = parameters.text("service");
  plan.directory = request.map.directory;
  plan.monitor = parameters.optional_text("qmp").value_or("");
  plan.alive_argv = given(parameters, "alive_argv");
  plan.boot_id_argv = given(parameters, "boot_id_argv");
  plan.timeout = parameters.duration("timeout");
  plan.limit = parameters.duration("limit");
  if (const auto text = parameters.optional_text("alive"); text && !text->empty()) {
    const auto address = model::parse_listen_address(*text);
    if (!address || address->port == 0) {
      return base::Error{
          .code = base::ErrorCode::kUsage,
          .message = fmt::format("`alive` is `{}`, which is no address with a port", *text),
          .hint = "write 192.0.2.7:22; names are not looked up"};
    }
    plan.alive_address = address->address;
    plan.alive_port = address->port;
  }
  if (plan.monitor.empty() && plan.alive_argv.empty() && plan.boot_id_argv.empty() &&
      plan.alive_address.empty()) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "nothing tells whether the instance lives",
                       .hint = "say `alive: ADDRESS:PORT`, `alive_argv` or `boot_id_argv`"};
  }
  return plan;
}

base::Status check_not_this_machine(const InstancePlan& plan) {
  const auto refused = [](const std::string& why) {
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = "this would take down the machine that Squall runs on: " + why,
                       .hint =
                           "name a program that acts on another one: [ssh, HOST, ...], a "
                           "cloud's command, virsh"};
  };
  if (is_own_end(plan.down)) return refused(fmt::format("`{}`", base::join(plan.down, " ")));
  if (plan.boot_id_argv.empty()) return {};
  base::SpawnOptions options;
  options.argv = plan.boot_id_argv;
  options.working_directory = plan.directory;
  const auto output = base::run_command(std::move(options), plan.timeout);
  if (!output.ok()) return output.error();
  const std::string boot_id(base::trim(output->output));
  if (output->exit_status != 0 || boot_id.empty()) {
    return base::Error{
        .code = base::ErrorCode::kNotFound,
        .message = fmt::format("`{}` prints no boot id", base::join(plan.boot_id_argv, " ")),
        .hint = "it must print the instance's /proc/sys/kernel/random/boot_id"};
  }
  if (boot_id == own_boot_id()) return refused("its boot id is ours");
  return {};
}

model::FaultBinding instance_binding(const BindRequest& request, const InstancePlan& plan,
                                     model::LifetimeClass lifetime) {
  model::FaultBinding binding =
      new_binding(request, plan.monitor.empty() ? kByCommand : kByMonitor, lifetime);
  const std::string by = plan.monitor.empty() ? fmt::format("`{}`", base::join(plan.down, " "))
                                              : "the monitor " + plan.monitor;
  binding.targets = {{.service = plan.service,
                      .member = {},
                      .process = {},
                      .description = fmt::format("the instance of {}, by {}", plan.service, by)}};
  const std::string key = plan.monitor.empty()
                              ? fmt::format("instance/{}/{}", plan.directory, plan.service)
                              : "instance/" + plan.monitor;
  binding.details =
      model::Parameters{Json{{"instance", to_json(plan)}, {"resources", Json::array({key})}}};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_instance(const model::FaultBinding& binding,
                                                     FaultContext& context) {
  InstancePlan plan = plan_from_json(field(binding.details.json(), "instance"));
  if ((plan.monitor.empty() && plan.down.empty()) || plan.timeout <= base::Duration::zero() ||
      plan.limit <= base::Duration::zero())
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not say how to reach its instance"};
  return std::unique_ptr<Fault>{std::make_unique<InstanceFault>(std::move(plan), context)};
}

// The programs have the caller's rights, so they reach nothing that he could not. A monitor obeys
// whoever gets at its socket, and root gets at each.
base::Result<Reach> reach_instance(const model::FaultBinding& binding) {
  const InstancePlan plan = plan_from_json(field(binding.details.json(), "instance"));
  if (plan.monitor.empty()) return Reach{};
  return base::Error{.code = base::ErrorCode::kPermission,
                     .message =
                         "`qmp` is for root only: who speaks to a machine's monitor can have "
                         "QEMU do anything",
                     .hint = "use programs, which run with your own rights: `off_argv`"};
}

base::Result<std::string> rehearse_instance(const model::FaultBinding& binding, FaultContext&) {
  const InstancePlan plan = plan_from_json(field(binding.details.json(), "instance"));
  if (plan.monitor.empty())
    return std::string{"its programs act on the real instance, so they were not run"};
  QmpExchange exchange{plan.monitor, "query-status", {}, kMonitorLimit};
  while (true) {
    if (auto outcome = exchange.advance()) {
      if (!outcome->ok()) return outcome->error();
      return fmt::format("the monitor answers: the instance is {}; nothing was done to it",
                         base::printable((*outcome)->status));
    }
    pollfd request{.fd = exchange.fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 100);
  }
}

}  // namespace squall::inject
