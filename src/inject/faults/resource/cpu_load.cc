// resource.cpu_load: processes of ours use up processors of this host, as a noisy neighbour would.

#include <fmt/format.h>
#include <sched.h>

#include <array>
#include <optional>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/json_fields.h"
#include "inject/workers/held_workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

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
    .mechanisms = kWorkerMechanisms,
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
// Not at each report: there may be hundreds of workers.
constexpr Duration kLook = std::chrono::milliseconds(250);
constexpr Duration kGoneLimit = std::chrono::seconds(2);

// Nanoseconds that the kernel let the process run.
Duration run_time(const base::ProcessIdentity& process) {
  const auto text = base::read_file(fmt::format("/proc/{}/schedstat", process.pid), 256);
  return Duration{text.ok() ? std::strtoll(text->c_str(), nullptr, 10) : 0LL};
}

class CpuLoad final : public Fault {
 public:
  CpuLoad(std::size_t processors, double load, FaultContext& context)
      : processors_(processors),
        load_(load),
        context_(context),
        workers_(context, "a worker that uses up a processor", kSilenceLimit, kGoneLimit) {}

  Step arm() override {
    if (workers_.empty()) {
      if (auto noted = context_.note({{"processors", processors_}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      for (std::size_t i = 0; i < processors_; ++i)
        workers_.start("cpu_load", Json{{"share", load_}});
    }
    if (Step ready = workers_.await_ready(); ready.state != Step::State::kDone) return ready;
    Json pids = Json::array();
    for (const auto& process : workers_.processes()) pids.push_back(process.pid);
    armed_at_ = base::BootClock::now();
    time_at_arming_ = total_time();
    return Step::done(fmt::format("{} ask for {} of a processor each",
                                  base::counted(processors_, "worker"), base::format_share(load_)),
                      Json{{"workers", pids}}.dump());
  }

  Step effective() override {
    if (auto error = workers_.trouble()) return Step::broken(std::move(*error));
    if (base::BootClock::now() - armed_at_ < kMeasured || measured() <= 0)
      return Step::wait(kMeasured / 10);
    return proof("the kernel gave them");
  }

  Step hold() override {
    if (auto error = workers_.trouble()) return Step::broken(std::move(*error));
    return Step::wait(kLook);
  }

  Step revert() override {
    if (workers_.empty() && !workers_.recalled()) return Step::done("there was no worker of ours");
    if (!reverted_) {
      // The kernel forgets their time with them.
      reverted_ = workers_.empty() ? Step::done("the workers of the dead holder are ended")
                                   : proof("the workers are ended; the kernel had given them");
    }
    workers_.end();
    return *reverted_;
  }

  Step verify() override { return workers_.await_gone(); }

  void recall(const Json& found) override { workers_.recall(found); }

 private:
  Duration total_time() const {
    Duration total{};
    for (const auto& process : workers_.processes()) total += run_time(process);
    return total;
  }
  // Processors that they used since arming, on average.
  double measured() const {
    const Duration elapsed = base::BootClock::now() - armed_at_;
    return base::to_seconds(total_time() - time_at_arming_) / base::to_seconds(elapsed);
  }
  Step proof(std::string_view text) const {
    if (workers_.processes().empty()) return Step::done("the workers are ended");
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
  HeldWorkers workers_;
  base::Instant armed_at_;
  Duration time_at_arming_{};
  std::optional<Step> reverted_;
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
  model::FaultBinding binding = new_binding(request, kWorkerProcesses, LifetimeClass::kKernelHeld);
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
