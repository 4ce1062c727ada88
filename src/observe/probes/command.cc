// A program run again and again: its exit status, and the first number that it prints.

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "observe/common_parameters.h"
#include "observe/number_text.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using model::ValueType;

constexpr std::array<model::ParameterDescriptor, 4> kParameters = {{
    {.name = "argv",
     .type = ValueType::kArgv,
     .required = true,
     .summary = "The program and its arguments; no shell. Starts in the folder of the system map."},
    every_parameter("5s"),
    timeout_parameter("5s"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 4> kSignals = {{
    {.field = "exit_status",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "How it ended; 128 and the signal's number when killed."},
    {.field = "value",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "The first number of its standard output."},
    kLatencySignal,
    {.field = "success",
     .type = model::SignalType::kRequests,
     .unit = "%",
     .summary = "The share of runs that ended in time and with status 0."},
}};

class CommandProbe final : public TickingProbe {
 public:
  CommandProbe(const model::ProbeSpecification& specification, ProbeContext context)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"),
                     specification.parameters.duration("timeout")),
        argv_(specification.parameters.texts("argv")),
        series_(sink(), this->context().slices) {}

  // Running it may change something, so that a check only looks whether it could be run.
  base::Status check() override {
    const std::string& program = argv_.front();
    if (program.find('/') != std::string::npos) {
      const std::string path = program.front() == '/' || context().map.directory.empty()
                                   ? program
                                   : context().map.directory + "/" + program;
      if (access(path.c_str(), X_OK) == 0) return {};
    } else {
      const char* path = std::getenv("PATH");
      for (const std::string& folder : base::split(path == nullptr ? "/usr/bin:/bin" : path, ':')) {
        if (access(base::join_path(folder, program).c_str(), X_OK) == 0) return {};
      }
    }
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("the program {} cannot be run", program),
                       .hint = "check the path and that the file is executable"};
  }

  base::Status prepare() override {
    SQUALL_ASSIGN(exit_status_, declare_gauge("exit_status"));
    SQUALL_ASSIGN(value_, declare_gauge("value"));
    return series_.declare(name());
  }

 private:
  void tick(base::Instant intended) override {
    evidence::RequestSample sample{.intended = intended, .sent = now()};
    base::SpawnOptions options;
    options.argv = argv_;
    options.working_directory = context().map.directory;
    const auto output = base::run_command(std::move(options), limit());
    sample.done = now();
    if (!output.ok()) {
      const bool late = output.error().code == base::ErrorCode::kTimeout;
      sample.outcome = late ? Outcome::kTimeout : Outcome::kConnect;
      note(output.error().to_string());
    } else {
      add(exit_status_, output->exit_status);
      if (const auto value = first_number_in(output->output)) add(value_, *value);
      sample.status = output->exit_status;
      if (output->exit_status != 0) sample.outcome = Outcome::kStatus;
    }
    series_.add(sample);
  }

  std::vector<std::string> argv_;
  RequestSeries series_;
  evidence::SeriesId exit_status_ = 0;
  evidence::SeriesId value_ = 0;
};

}  // namespace

constexpr model::ProbeKindDescriptor kCommandProbe = {
    .name = "command",
    .summary = "Runs a program and keeps its exit status and the first number that it prints.",
    .parameters = kParameters,
    .signals = kSignals,
    .example = "queue-age: { command: { argv: [./bin/queue-age, --seconds], every: 2s } }"};

base::Result<std::unique_ptr<Probe>> make_command_probe(
    const model::ProbeSpecification& specification, ProbeContext context) {
  return std::unique_ptr<Probe>(std::make_unique<CommandProbe>(specification, std::move(context)));
}

}  // namespace squall::observe
