// What the processes of a service use. The services that a run watches anyway are recorded without
// this probe (`worker.memory`); it is for others, and for another pace.

#include <array>

#include "observe/common_parameters.h"
#include "observe/member_tracker.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using model::ValueType;

constexpr std::array<model::ParameterDescriptor, 3> kParameters = {{
    {.name = "service",
     .type = ValueType::kService,
     .required = true,
     .summary = "Whose processes."},
    every_parameter("1s"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 7> kSignals = {{
    {.field = "processes",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "How many processes it has, without their children."},
    {.field = "cpu",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "Processor cores in use, children included."},
    {.field = "memory",
     .type = model::SignalType::kGauge,
     .unit = "B",
     .summary = "Resident memory."},
    {.field = "descriptors",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "Open file descriptors."},
    {.field = "sockets", .type = model::SignalType::kGauge, .unit = "", .summary = "Open sockets."},
    {.field = "threads", .type = model::SignalType::kGauge, .unit = "", .summary = "Threads."},
    {.field = "restarts",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "Processes that were replaced since the run began."},
}};

class ProcessProbe final : public TickingProbe {
 public:
  ProcessProbe(const model::ProbeSpecification& specification, ProbeContext context,
               const model::Service& service)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"), std::chrono::seconds(2)),
        service_(service),
        tracker_(service) {}

  base::Status check() override {
    SQUALL_ASSIGN(const auto members, host::find_members(context().host, service_));
    if (!members.empty()) return {};
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = "no process of service " + service_.name + " is running",
                       .hint = "start it, or correct how the system map finds it"};
  }

  base::Status prepare() override {
    for (const model::SignalDescriptor& signal : kSignals) {
      SQUALL_ASSIGN(const evidence::SeriesId id, declare_gauge(signal.field, signal.unit));
      series_.push_back(id);
    }
    return {};
  }

 private:
  void tick(base::Instant) override {
    std::vector<MemberChange> changes;  // the watch over services tells them
    const WalkCache walk(context().host);
    if (base::Status looked = tracker_.look(walk, now(), changes); !looked.ok()) {
      note(looked.error().to_string());
      return;
    }
    const ServiceUsage usage = tracker_.sample(context().host, now(), changes);
    const std::array<double, 7> values = {usage.processes,   usage.cpu,     usage.memory,
                                          usage.descriptors, usage.sockets, usage.threads,
                                          usage.restarts};
    for (std::size_t i = 0; i < values.size(); ++i) add(series_[i], values[i]);
  }

  const model::Service& service_;
  MemberTracker tracker_;
  std::vector<evidence::SeriesId> series_;
};

}  // namespace

constexpr model::ProbeKindDescriptor kProcessProbe = {
    .name = "process",
    .summary = "Counts the processes of a service and measures what they use.",
    .parameters = kParameters,
    .signals = kSignals,
    .example = "pool: { process: { service: worker, every: 500ms } }"};

base::Result<std::unique_ptr<Probe>> make_process_probe(
    const model::ProbeSpecification& specification, ProbeContext context) {
  const std::string name = specification.parameters.text("service");
  const model::Service* service = context.map.service(name);
  if (service == nullptr || service->external) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "service " + name + " has no processes on this host",
                       .hint = "name a service that is not external"};
  }
  return std::unique_ptr<Probe>(
      std::make_unique<ProcessProbe>(specification, std::move(context), *service));
}

}  // namespace squall::observe
