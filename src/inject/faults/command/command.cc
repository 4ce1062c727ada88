// command: a fault of the user's own, as three programs: make it, undo it, prove it. Argument
// arrays, never a shell. The undo is journaled before the fault is made, and must be right whenever
// it runs: after the fault, after half of it, without it, and twice.

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "command";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<ParameterDescriptor, 4> kParameters{{
    {.name = "argv",
     .type = ValueType::kArgv,
     .required = true,
     .minimum = 1,
     .summary = "The program that makes the fault, with its arguments; exit status 0 means it is "
                "made."},
    {.name = "revert_argv",
     .type = ValueType::kArgv,
     .required = true,
     .minimum = 1,
     .summary = "The program that undoes it; it must be right to run it twice, and also when the "
                "fault was made half or not at all."},
    {.name = "proof_argv",
     .type = ValueType::kArgv,
     .minimum = 1,
     .summary = "The program that exits with 0 while the fault is in force and with something else "
                "when it is not."},
    {.name = "timeout",
     .type = ValueType::kDuration,
     .default_text = "30s",
     .minimum = 1e6,
     .maximum = 6e11,
     .summary = "How long each program may run; then it is killed with its process group."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "command",
    .summary = "Runs a program of yours to make a fault, and another to undo it.",
    .effect =
        "Whatever `argv` does. A program that fails, is not found or takes too long means that "
        "the run errored; it is undone and nothing is judged.",
    .revert = "`revert_argv` runs, from the journal also after a crash or a reboot.",
    .proof =
        "Effect: `proof_argv` exits with 0; without it, the exit status 0 of `argv` is all there "
        "is. Revert: `revert_argv` exits with 0 and `proof_argv` with something else.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- command:\n"
        "    argv: [./feature-flag, set, checkout, off]\n"
        "    revert_argv: [./feature-flag, set, checkout, on]\n"
        "    proof_argv: [./feature-flag, is, checkout, off]\n"
        "  name: flag-off\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kLook = std::chrono::milliseconds(50);

// A program of the fault that runs, or has run.
class Run {
 public:
  explicit Run(std::vector<std::string> argv) : argv_(std::move(argv)) {}

  bool given() const { return !argv_.empty(); }
  std::string text() const { return base::join(argv_, " "); }
  void forget() { id_.reset(); }

  // The outcome once it has ended; starts it at the first call.
  std::optional<ProgramOutcome> advance(FaultContext& context, const std::string& directory,
                                        base::Duration limit) {
    if (!id_) {
      id_ = context.programs().start({.purpose = ProgramRequest::Purpose::kCommand,
                                      .argv = argv_,
                                      .directory = directory,
                                      .limit = limit,
                                      .account = {}});
    }
    ProgramOutcome outcome = context.programs().outcome(*id_);
    if (!outcome.error && !outcome.exit_status) return std::nullopt;
    return outcome;
  }

 private:
  std::vector<std::string> argv_;
  std::optional<std::uint64_t> id_;
};

base::Error failure(const Run& run, const ProgramOutcome& outcome, std::string_view what) {
  base::Error error{.code = base::ErrorCode::kInternal};
  if (outcome.error) {
    error = *outcome.error;
    error.message = fmt::format("{} `{}`: {}", what, run.text(), outcome.error->message);
  } else {
    error.message = fmt::format("{} `{}` ended with {}", what, run.text(), *outcome.exit_status);
    error.hint = "run it by hand in the folder of the map";
  }
  const std::string said = base::printable(base::trim(outcome.output));
  if (!said.empty()) error.message += ": " + said.substr(said.size() > 300 ? said.size() - 300 : 0);
  return error;
}

class CommandFault final : public Fault {
 public:
  CommandFault(const Json& details, FaultContext& context)
      : make_(texts_field(details, "argv")),
        undo_(texts_field(details, "revert_argv")),
        prove_(texts_field(details, "proof_argv")),
        directory_(text_field(details, "directory")),
        limit_(base::Duration{integer_field(details, "timeout_ns")}),
        context_(context) {}

  Step arm() override {
    if (!noted_) {
      if (auto noted = context_.note({{"running", make_.text()}}); !noted.ok())
        return Step::failed(noted.error());
      noted_ = true;
    }
    const auto outcome = make_.advance(context_, directory_, limit_);
    if (!outcome) return waiting();
    if (outcome->exit_status != 0) return Step::failed(failure(make_, *outcome, "the fault's"));
    return Step::done(fmt::format("`{}` ended with 0", make_.text()));
  }

  Step effective() override {
    if (!prove_.given()) {
      return Step::done(
          fmt::format("`{}` ended with 0; there is no proof_argv, so this is its own "
                      "word",
                      make_.text()));
    }
    const auto outcome = prove_.advance(context_, directory_, limit_);
    if (!outcome) return waiting();
    prove_.forget();
    if (outcome->exit_status == 0)
      return Step::done(fmt::format("the proof `{}` ended with 0", prove_.text()),
                        Json{{"exit_status", 0}}.dump());
    if (outcome->error) return Step::failed(failure(prove_, *outcome, "the proof"));
    return Step::wait(std::chrono::milliseconds(200));  // not yet: ask again
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was run");
    const auto outcome = undo_.advance(context_, directory_, limit_);
    if (!outcome) return waiting();
    undo_.forget();
    prove_.forget();
    if (outcome->exit_status == 0)
      return Step::done(fmt::format("`{}` ended with 0", undo_.text()));
    base::Error error = failure(undo_, *outcome, "the revert");
    error.code = base::ErrorCode::kRevertNotVerified;
    return Step::failed(std::move(error));
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was run");
    if (!prove_.given())
      return Step::done(
          fmt::format("`{}` ended with 0; there is no proof_argv, so this is its own "
                      "word",
                      undo_.text()));
    const auto outcome = prove_.advance(context_, directory_, limit_);
    if (!outcome) return waiting();
    prove_.forget();
    if (outcome->exit_status && *outcome->exit_status != 0) {
      return Step::done(
          fmt::format("the proof `{}` now ends with {}", prove_.text(), *outcome->exit_status),
          Json{{"exit_status", *outcome->exit_status}}.dump());
    }
    base::Error error{.code = base::ErrorCode::kRevertNotVerified,
                      .message = fmt::format("the proof `{}` says that the fault is still in force",
                                             prove_.text()),
                      .hint = fmt::format("run `{}` by hand in {}", undo_.text(), directory_)};
    if (outcome->error) error = failure(prove_, *outcome, "the proof");
    error.code = base::ErrorCode::kRevertNotVerified;
    return Step::failed(std::move(error));
  }

  void recall(const Json& found) override { noted_ = noted_ || found.contains("running"); }

 private:
  Step waiting() { return Step::wait_for({context_.programs().fd()}, kLook); }

  Run make_;
  Run undo_;
  Run prove_;
  std::string directory_;
  base::Duration limit_;
  FaultContext& context_;
  bool noted_ = false;
};

void describe_command(const model::SystemMap& map, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  planned.target = "whatever the command touches";
  planned.processes_max = 0;
  planned.changes = {
      {.change =
           fmt::format("`{}` runs in {}", base::join(parameters.texts("argv"), " "), map.directory),
       .revert = fmt::format("`{}` runs", base::join(parameters.texts("revert_argv"), " ")),
       .lifetime = LifetimeClass::kJournaled}};
}

// The file that argv[0] means, seen from `directory`; empty when there is none that we may run.
std::string program_path(const std::string& name, const std::string& directory) {
  const auto runnable = [](const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
           ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) {
    const std::string path = name.front() == '/' ? name : directory + "/" + name;
    return runnable(path) ? path : std::string{};
  }
  const char* path = std::getenv("PATH");
  for (const std::string& folder : base::split(path == nullptr ? "/usr/bin:/bin" : path, ':')) {
    if (runnable(folder + "/" + name)) return folder + "/" + name;
  }
  return {};
}

base::Status check_programs(const Json& details) {
  const std::string directory = text_field(details, "directory");
  for (const char* which : {"argv", "revert_argv", "proof_argv"}) {
    const std::vector<std::string> argv = texts_field(details, which);
    if (argv.empty() || !program_path(argv.front(), directory).empty()) continue;
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("`{}` of {} cannot be run", argv.front(), which),
                       .hint = fmt::format("it is looked up from {} or in PATH, and must be "
                                           "executable",
                                           directory)};
  }
  return {};
}

base::Result<model::FaultBinding> bind_command(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kJournaled);
  const Json details = {{"argv", parameters.texts("argv")},
                        {"revert_argv", parameters.texts("revert_argv")},
                        {"proof_argv", parameters.has("proof_argv") ? parameters.texts("proof_argv")
                                                                    : std::vector<std::string>{}},
                        {"timeout_ns", parameters.duration("timeout").count()},
                        {"directory", request.map.directory}};
  SQUALL_TRY(check_programs(details));
  binding.targets = {
      {.service = {},
       .member = {},
       .process = {},
       .description = "command `" + base::join(parameters.texts("argv"), " ") + "`"}};
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_command(const model::FaultBinding& binding,
                                                    FaultContext& context) {
  const Json& details = binding.details.json();
  if (texts_field(details, "argv").empty() || texts_field(details, "revert_argv").empty() ||
      integer_field(details, "timeout_ns") <= 0)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding has no command and revert"};
  return std::unique_ptr<Fault>{std::make_unique<CommandFault>(details, context)};
}

// Nothing that the caller could not reach himself: the programs have his rights.
base::Result<Reach> reach_command(const model::FaultBinding&) {
  return Reach{};
}

base::Result<std::string> rehearse_command(const model::FaultBinding& binding,
                                           FaultContext& context) {
  if (context.caller() != 0)
    return fmt::format(
        "the programs will run with the rights of user {}; they were not run, "
        "because they act on the real system",
        context.caller());
  SQUALL_TRY(check_programs(binding.details.json()));
  return std::string{
      "the programs exist and may be run; they were not run, because they act on the real system"};
}

}  // namespace

extern const FaultKind kCommand;
const FaultKind kCommand{.descriptor = &kDescriptor,
                         .describe = describe_command,
                         .bind = bind_command,
                         .create = create_command,
                         .rehearse = rehearse_command,
                         .reach = reach_command,
                         .restores = "what its programs have changed",
                         .survives_reboot = true};

}  // namespace squall::inject
