// resource.cpu_load: processes of ours use up processors of this host, as a noisy neighbour would.

#include <fmt/format.h>
#include <sched.h>

#include <array>
#include <csignal>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/json_fields.h"
#include "inject/workers/worker_watch.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kWorkersOfOurs = "worker processes";
constexpr std::array<std::string_view, 1> kMechanisms{kWorkersOfOurs};
constexpr std::array<ParameterDescriptor, 2> kParameters{{
    {.name = "processors",
     .type = ValueType::kInteger,
     .default_text = "1",
     .minimum = 1,
     .maximum = 256,
     .summary = "How many processors are loaded; not more than this host has."},
    {.name = "load",
     .type = ValueType::kShare,
     .default_text = "100%",
     .minimum = 0.01,
     .maximum = 1,
     .summary = "The share of each of them that is asked for."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.cpu_load",
    .summary = "Uses up processors of this host.",
    .effect =
        "Everything on this host gets a smaller share of the processors and waits longer for its "
        "turn. Each worker competes as one ordinary process does: a machine with idle processors "
        "hardly notices.",
    .revert = "The workers are ended. They die with the holder.",
    .proof = "Effect: the processor time that the kernel gave the workers. Revert: they are gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = {},
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.cpu_load: { processors: 2, load: 80% }\n"
        "  name: noisy-neighbour\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr Duration kMeasured = std::chrono::milliseconds(300);  // at least, before it is effective
// Generous: this fault itself makes everybody wait for a processor, and a silent worker does no
// harm.
constexpr Duration kSilenceLimit = std::chrono::seconds(30);
constexpr Duration kStarting = std::chrono::milliseconds(500);
// Not at each report: there may be hundreds of workers.
constexpr Duration kLook = std::chrono::milliseconds(250);
constexpr Duration kShortLook = std::chrono::milliseconds(5);
constexpr Duration kGoneLimit = std::chrono::seconds(2);

// Nanoseconds that the kernel let the process run.
Duration run_time(const base::ProcessIdentity& process) {
  const auto text = base::read_file(fmt::format("/proc/{}/schedstat", process.pid), 256);
  return Duration{text.ok() ? std::strtoll(text->c_str(), nullptr, 10) : 0LL};
}

class CpuLoad final : public Fault {
 public:
  CpuLoad(std::size_t processors, double load, FaultContext& context)
      : processors_(processors), load_(load), context_(context) {}

  Step arm() override {
    if (workers_.empty()) {
      if (auto noted = context_.note({{"processors", processors_}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      for (std::size_t i = 0; i < processors_; ++i) {
        workers_.emplace_back(context_.programs(), "a worker that uses up a processor",
                              kSilenceLimit);
        workers_.back().start("cpu_load", Json{{"share", load_}});
      }
    }
    Json pids = Json::array();
    std::vector<base::ProcessIdentity> processes;
    for (WorkerWatch& worker : workers_) {
      const WorkerReport report = worker.look();
      if (report.trouble) return Step::failed(*report.trouble);
      if (report.state.empty() || !report.process)
        return Step::wait_for({context_.programs().fd()}, kStarting);
      processes.push_back(*report.process);
      pids.push_back(report.process->pid);
    }
    processes_ = processes;
    Json identities = Json::array();
    for (const auto& process : processes_) identities.push_back(to_json(process));
    if (auto noted = context_.note({{"workers", identities}}); !noted.ok())
      return Step::failed(std::move(noted).error());
    armed_at_ = base::BootClock::now();
    time_at_arming_ = total_time();
    return Step::done(
        fmt::format("{} ask for {} of a processor each", count_text(), base::format_share(load_)),
        Json{{"workers", pids}}.dump());
  }

  Step effective() override {
    if (auto error = trouble()) return Step::broken(std::move(*error));
    if (base::BootClock::now() - armed_at_ < kMeasured || measured() <= 0)
      return Step::wait(kMeasured / 10);
    return proof("the kernel gave them");
  }

  Step hold() override {
    if (auto error = trouble()) return Step::broken(std::move(*error));
    return Step::wait(kLook);
  }

  Step revert() override {
    if (workers_.empty() && processes_.empty()) return Step::done("there was no worker of ours");
    if (ended_) return Step::done(reverted_text_);
    ended_ = true;
    Step step = proof("the workers are ended; the kernel had given them");
    if (workers_.empty()) {  // a replay: they died with their starter, or do so now
      for (const base::ProcessIdentity& process : processes_) {
        const auto pidfd = base::PidFd::open(process);
        if (pidfd.ok() && !pidfd->signal(SIGKILL).ok()) continue;
      }
      step = Step::done("the workers of the dead holder are ended");
    }
    for (WorkerWatch& worker : workers_) worker.end();
    reverted_text_ = step.text;
    return step;
  }

  Step verify() override {
    const base::Instant now = base::BootClock::now();
    if (!gone_wait_since_) gone_wait_since_ = now;
    std::vector<std::string> left;
    for (const base::ProcessIdentity& process : processes_) {
      const auto pidfd = base::PidFd::open(process);
      if (pidfd.ok() && !pidfd->ended()) left.push_back(std::to_string(process.pid));
    }
    for (WorkerWatch& worker : workers_) {
      if (processes_.empty() && !worker.look().ended) left.push_back("one that is starting");
    }
    if (left.empty()) return Step::done("no worker is left");
    if (now - *gone_wait_since_ < kGoneLimit) return Step::wait(kShortLook);
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = fmt::format("workers do not end: process {}", base::enumerate(left)),
                    .hint = "kill them; they hold nothing"});
  }

  void recall(const Json& found) override {
    for (const Json& item : field(found, "workers")) processes_.push_back(identity_of(item));
  }

 private:
  std::string count_text() const {
    return processors_ == 1 ? "1 worker" : fmt::format("{} workers", processors_);
  }
  std::optional<base::Error> trouble() {
    for (WorkerWatch& worker : workers_) {
      if (auto report = worker.look(); report.trouble) return report.trouble;
    }
    return std::nullopt;
  }
  Duration total_time() const {
    Duration total{};
    for (const auto& process : processes_) total += run_time(process);
    return total;
  }
  // Processors that they used since arming, on average.
  double measured() const {
    const Duration elapsed = base::BootClock::now() - armed_at_;
    return base::to_seconds(total_time() - time_at_arming_) / base::to_seconds(elapsed);
  }
  Step proof(std::string_view text) const {
    if (processes_.empty()) return Step::done("the workers are ended");
    const double share = measured();
    return Step::done(fmt::format("{} {:.2f} processors of the {:.2f} asked for, over {}", text,
                                  share, load_ * static_cast<double>(processors_),
                                  base::humanize(base::BootClock::now() - armed_at_)),
                      Json{{"processors_used", share},
                           {"processors_asked", load_ * static_cast<double>(processors_)}}
                          .dump());
  }

  std::size_t processors_;
  double load_;
  FaultContext& context_;
  std::vector<WorkerWatch> workers_;
  std::vector<base::ProcessIdentity> processes_;
  base::Instant armed_at_;
  Duration time_at_arming_{};
  bool ended_ = false;
  std::string reverted_text_;
  std::optional<base::Instant> gone_wait_since_;
};

void describe_cpu_load(const model::SystemMap&, const model::FaultSpecification& fault,
                       model::PlannedFault& planned) {
  const std::int64_t processors = fault.parameters.integer("processors");
  const std::string load = base::format_share(fault.parameters.number("load"));
  planned.target = processors == 1 ? std::string("a processor of this host")
                                   : fmt::format("{} processors of this host", processors);
  planned.processes_max = 0;
  planned.changes = {{.change = fmt::format("{} worker{} of Squall's use {} of a processor each",
                                            processors, processors == 1 ? "" : "s", load),
                      .revert = "the workers are ended; they die with the holder",
                      .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_cpu_load(const BindRequest& request) {
  const std::int64_t processors = request.fault.parameters.integer("processors");
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int here = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  if (processors > here) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} processors are to be loaded, and Squall may use "
                                              "{} here",
                                              processors, here),
                       .hint = fmt::format("let `processors` be at most {}", here)};
  }
  model::FaultBinding binding;
  binding.fault = request.fault.name;
  binding.kind = kDescriptor.name;
  binding.mechanism = kWorkersOfOurs;
  binding.lifetime = LifetimeClass::kKernelHeld;
  binding.targets.push_back(
      {.service = {},
       .member = {},
       .process = {},
       .description = fmt::format("{} of the {} processors of this host", processors, here)});
  binding.details = model::Parameters{Json{{"processors", processors},
                                           {"load", request.fault.parameters.number("load")},
                                           {"resources", Json::array({"host/cpu"})}}};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_cpu_load(const model::FaultBinding& binding,
                                                     FaultContext& context) {
  const std::int64_t processors = integer_field(binding.details.json(), "processors");
  const Json& load = field(binding.details.json(), "load");
  if (processors < 1 || processors > 256 || !load.is_number() || load.get<double>() <= 0 ||
      load.get<double>() > 1) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding holds a load that makes no sense"};
  }
  return std::unique_ptr<Fault>{
      std::make_unique<CpuLoad>(static_cast<std::size_t>(processors), load.get<double>(), context)};
}

// The whole host, which no target describes: a rule for the kind says it all.
base::Result<Reach> reach_processors(const model::FaultBinding&) {
  return Reach{};
}

// A tenth of one processor for a moment.
base::Result<std::string> rehearse_cpu_load(const model::FaultBinding&, FaultContext& context) {
  CpuLoad fault{1, 0.1, context};
  return rehearse_life(fault, "used a tenth of a processor");
}

}  // namespace

extern const FaultKind kResourceCpuLoad;
const FaultKind kResourceCpuLoad{.descriptor = &kDescriptor,
                                 .describe = describe_cpu_load,
                                 .bind = bind_cpu_load,
                                 .create = create_cpu_load,
                                 .rehearse = rehearse_cpu_load,
                                 .reach = reach_processors};

}  // namespace squall::inject
