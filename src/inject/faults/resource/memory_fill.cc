// resource.memory_fill: a process of ours holds memory that it really touched, on the host or
// inside the memory cgroup of a service. The memory is the kernel's to give back: it returns when
// that process ends, and it ends with the holder.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/process/targets.h"
#include "inject/faults/resource/cgroup_limit.h"
#include "inject/faults/resource/filesystem.h"
#include "inject/faults/resource/parameters.h"
#include "inject/json_fields.h"
#include "inject/registry.h"
#include "inject/workers/held_workers.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::uint64_t kMiB = 1024 * 1024;
constexpr std::uint64_t kLeastReserve = 64 * kMiB;
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_DAC_OVERRIDE"};
constexpr std::array<ParameterDescriptor, 5> kParameters{{
    {.name = "size",
     .type = ValueType::kSize,
     .minimum = 65536,
     .summary = "How much is held; either this or `share`."},
    {.name = "share",
     .type = ValueType::kShare,
     .minimum = 0.001,
     .maximum = 1,
     .summary =
         "The share of the memory that is available when the fault is bound: to the host, or "
         "to the cgroup of `service`."},
    {.name = "service",
     .type = ValueType::kService,
     .summary = "Hold it inside the memory cgroup of this service, so that it counts there."},
    {.name = "member",
     .type = ValueType::kMember,
     .summary = "The member whose cgroup is meant, where the members have one each."},
    {.name = "reserve",
     .type = ValueType::kSize,
     .default_text = "256MiB",
     .minimum = kLeastReserve,
     .summary = "What stays available to the host. More is never taken; when others have used up "
                "half of it meanwhile, all is given back and the fault ends."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.memory_fill",
    .summary = "Uses up memory, of the host or of a service's cgroup.",
    .effect =
        "Page caches shrink, so files are read from disk again; who swaps, swaps. In a cgroup the "
        "service's next pages meet the group's limit. If memory runs out, the kernel kills the "
        "worker before anybody else, and the fault ends.",
    .revert = "The worker is ended and its memory is free. It dies with the holder.",
    .proof =
        "Effect: the resident memory that the kernel counts for the worker, beside what is "
        "available or counted in the cgroup. Revert: the worker is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kWorkerMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.memory_fill: { share: 80% }\n"
        "  name: short-of-memory\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kSilenceLimit = std::chrono::seconds(30);
constexpr base::Duration kEndLimit = std::chrono::seconds(30);
constexpr base::Duration kLook = std::chrono::milliseconds(250);
constexpr base::Duration kShortLook = std::chrono::milliseconds(10);
// What the worker itself and the tables of its pages need in a group.
constexpr std::uint64_t kOverhead = 4 * kMiB;

std::string size_text(std::uint64_t bytes) {
  return base::humanize(base::Quantity{static_cast<double>(bytes), base::Dimension::kSize});
}

// Of a line "Key:  123 kB"; 0 when it is not there.
std::uint64_t kibibytes_of(const std::string& file, std::string_view key) {
  const auto text = base::read_pseudo_file(file);
  const std::size_t at = text.ok() ? text->find(key) : std::string::npos;
  if (at == std::string::npos) return 0;
  return std::strtoull(text->c_str() + at + key.size(), nullptr, 10) * 1024;
}

std::uint64_t used_by_group(const std::string& folder) {
  for (const char* file : {"/memory.current", "/memory.usage_in_bytes"}) {
    const auto number = read_number({.file = folder + file, .key = {}, .field = {}});
    if (number.ok()) return *number;
  }
  return 0;
}

class MemoryFill final : public Fault {
 public:
  MemoryFill(const Json& details, FaultContext& context)
      : bytes_(unsigned_field(details, "bytes")),
        reserve_(unsigned_field(details, "reserve")),
        folder_(text_field(details, "folder")),
        context_(context),
        workers_(context, "the worker that holds memory", kSilenceLimit, kEndLimit) {}

  Step arm() override {
    if (workers_.empty()) {
      if (auto noted = context_.note({{"bytes", bytes_}, {"folder", folder_}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      workers_.start("memory_fill", Json{{"bytes", bytes_}, {"reserve", reserve_}});
    }
    if (Step ready = workers_.await_ready(); ready.state != Step::State::kDone) return ready;
    if (!filling_) {
      if (auto joined = join_group(); !joined.ok()) return Step::failed(std::move(joined).error());
      available_before_ = available_memory();
      group_before_ = folder_.empty() ? 0 : used_by_group(folder_);
      since_ = base::BootClock::now();
      workers_.tell("fill");
      filling_ = true;
    }
    const WorkerReport report = workers_.look().front();
    if (auto error = trouble(report)) return Step::failed(std::move(*error));
    if (report.state != "full") return Step::wait_for({workers_.fd()}, kLook);
    locked_ = boolean_field(*report.json, "locked");
    return Step::done(
        fmt::format("process {} holds {}{}, after {}", worker().pid, size_text(bytes_), where(),
                    base::humanize(base::BootClock::now() - since_)),
        Json{{"worker", worker().pid}, {"locked", locked_}}.dump());
  }

  Step effective() override {
    if (auto error = trouble(workers_.look().front())) return Step::broken(std::move(*error));
    const std::uint64_t resident =
        kibibytes_of(fmt::format("/proc/{}/status", worker().pid), "RssAnon:");
    if (resident < bytes_) return Step::wait(kShortLook);
    Json proof{{"resident", resident},
               {"available", available_memory()},
               {"available_before", available_before_}};
    std::string text = fmt::format("the kernel counts {} resident for process {}",
                                   size_text(resident), worker().pid);
    if (folder_.empty()) {
      text += fmt::format("; {} is available on this host, {} before",
                          size_text(available_memory()), size_text(available_before_));
    } else {
      const std::uint64_t used = used_by_group(folder_);
      proof["group_used"] = used;
      proof["group_used_before"] = group_before_;
      text += fmt::format("; cgroup {} uses {}, {} before", folder_, size_text(used),
                          size_text(group_before_));
    }
    return Step::done(text, proof.dump());
  }

  Step hold() override {
    if (auto error = trouble(workers_.look().front())) return Step::broken(std::move(*error));
    return Step::wait_for({workers_.fd()}, kLook);
  }

  Step revert() override {
    const bool dead = workers_.empty();
    workers_.end();
    if (dead && !workers_.recalled()) return Step::done("there was no worker of ours");
    return Step::done(dead ? "the worker of the dead holder is ended"
                           : fmt::format("the worker that held {} is ended", size_text(bytes_)));
  }

  Step verify() override {
    Step step = workers_.await_gone();
    if (step.state != Step::State::kDone) return step;
    return Step::done(
        fmt::format("the worker is gone; {} is available", size_text(available_memory())),
        Json{{"available", available_memory()}}.dump());
  }

  void recall(const Json& found) override { workers_.recall(found); }

 private:
  const base::ProcessIdentity& worker() const { return workers_.processes().front(); }
  std::string where() const { return folder_.empty() ? "" : " in cgroup " + folder_; }

  // Pages count where their process is when it touches them.
  base::Status join_group() const {
    if (folder_.empty()) return {};
    const std::string file = folder_ + "/cgroup.procs";
    const base::UniqueFd procs{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
    if (!procs) return base::system_error("open " + file, errno);
    const std::string pid = std::to_string(worker().pid);
    SQUALL_TRY(base::write_all(procs.get(), pid));
    SQUALL_ASSIGN(const std::string members, base::read_pseudo_file(file));
    if (("\n" + members).find("\n" + pid + "\n") != std::string::npos) return {};
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("the worker did not get into {}", folder_)};
  }

  std::optional<base::Error> trouble(const WorkerReport& report) const {
    if (report.trouble) return report.trouble;
    if (report.state != "short") return std::nullopt;
    return base::Error{
        .code = base::ErrorCode::kExhausted,
        .message = fmt::format("this host has {} left, and {} are to stay available: the worker "
                               "gave all back",
                               size_text(report.count("available")), size_text(reserve_)),
        .hint = "others use more than when the fault was bound; hold less"};
  }

  std::uint64_t bytes_;
  std::uint64_t reserve_;
  std::string folder_;
  FaultContext& context_;
  HeldWorkers workers_;
  bool filling_ = false;
  bool locked_ = false;
  base::Instant since_;
  std::uint64_t available_before_ = 0;
  std::uint64_t group_before_ = 0;
};

void describe_memory_fill(const model::SystemMap&, const model::FaultSpecification& fault,
                          model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const auto service = parameters.optional_text("service");
  const std::string amount =
      parameters.has("size") ? base::format_size(parameters.size("size"))
      : parameters.has("share")
          ? base::format_share(parameters.number("share")) + " of what is available"
          : "?";
  planned.target = service ? "the memory cgroup of " + *service : "the memory of this host";
  if (service) planned.services = {*service};
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("a worker of Squall's holds {} in {}; {} stay available to the host",
                             amount, planned.target, base::format_size(parameters.size("reserve"))),
       .revert = "the worker is ended; it dies with the holder",
       .lifetime = LifetimeClass::kKernelHeld}};
}

// How much more fits under the limits of a group and of those above it.
std::uint64_t room_in(ControllerGroup group) {
  std::uint64_t room = ~std::uint64_t{0};
  while (group.name.size() > 1 && group.folder.ends_with(group.name)) {
    const auto limit =
        read_limit(group.folder + (group.v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    const std::uint64_t most = limit.ok() ? std::strtoull(limit->c_str(), nullptr, 10) : 0;
    const std::uint64_t pinned = pinned_bytes(group);
    if (most > 0) room = std::min(room, most - std::min(most, pinned));  // "max" reads as 0
    const std::size_t cut = group.name.rfind('/');
    group.folder.resize(group.folder.size() - (group.name.size() - cut));
    group.name.resize(cut);
  }
  return room;
}

base::Result<ControllerGroup> group_of(const BindRequest& request) {
  // Without `member` all of them are meant, and must share one group.
  model::FaultSpecification fault = request.fault;
  Json parameters = fault.parameters.json();
  const model::Service* service = request.map.service(fault.parameters.text("service"));
  if (service == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = "the system map has no such service"};
  SQUALL_ASSIGN(const auto members, host::find_members(request.host, *service));
  parameters["count"] = std::max<std::size_t>(1, members.size());
  parameters["random"] = false;
  fault.parameters = model::Parameters{parameters};
  const BindRequest asked{.map = request.map,
                          .fault = fault,
                          .planned = request.planned,
                          .host = request.host,
                          .seed = request.seed};
  SQUALL_ASSIGN(const ChosenMembers chosen, choose_members(asked));
  SQUALL_ASSIGN(const auto groups, own_groups_of(chosen, {.v1 = "memory", .v2 = "memory"}));
  if (groups.size() == 1) return groups.front();
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = fmt::format("the members of {} have {} memory cgroups",
                                            service->name, groups.size()),
                     .hint = "say which one is meant: `member: NAME`"};
}

base::Result<model::FaultBinding> bind_memory_fill(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_exactly_one(parameters, "size", "share"));
  const std::uint64_t reserve = parameters.size("reserve");
  const std::uint64_t available = available_memory();
  std::uint64_t room = available - std::min(available, reserve);
  Json details = {{"reserve", reserve}};
  std::string place = "this host";
  std::uint64_t whole = available;
  if (parameters.has("service")) {
    SQUALL_ASSIGN(const ControllerGroup group, group_of(request));
    const std::uint64_t in_group = room_in(group);
    place = "cgroup " + group.name;
    whole = std::min(available, in_group);
    room = std::min(room, in_group - std::min(in_group, kOverhead));
    details["folder"] = group.folder;
    details["resources"] = Json::array({"memory" + group.folder, "host/memory"});
  } else {
    // Our own group has a limit, too, perhaps.
    const auto own = controller_group_of(::getpid(), "memory", "memory");
    if (own.ok()) room = std::min(room, room_in(*own));
    details["resources"] = Json::array({"host/memory"});
  }
  std::uint64_t bytes =
      parameters.has("size")
          ? parameters.size("size")
          : static_cast<std::uint64_t>(parameters.number("share") * static_cast<double>(whole));
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  bytes -= bytes % page;
  if (bytes == 0 || bytes > room) {
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("{} shall be held, and at most {} can be: {} has {} available, and "
                               "the host keeps {}",
                               size_text(bytes), size_text(room), place, size_text(whole),
                               size_text(reserve)),
        .hint =
            "lower `size` or `share`; to let a service run into its limit use "
            "resource.memory_limit"};
  }
  details["bytes"] = bytes;
  model::FaultBinding binding = new_binding(request, kWorkerProcesses, LifetimeClass::kKernelHeld);
  binding.targets.push_back(
      {.service = parameters.optional_text("service").value_or(""),
       .member = {},
       .process = {},
       .description =
           fmt::format("{} of the {} available to {}", size_text(bytes), size_text(whole), place)});
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_memory_fill(const model::FaultBinding& binding,
                                                        FaultContext& context) {
  const Json& details = binding.details.json();
  const std::string folder = text_field(details, "folder");
  if (unsigned_field(details, "bytes") == 0 || unsigned_field(details, "reserve") == 0 ||
      (!folder.empty() && !folder.starts_with('/')))
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no memory to hold"};
  return std::unique_ptr<Fault>{std::make_unique<MemoryFill>(details, context)};
}

base::Result<Reach> reach_memory_fill(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  if (unsigned_field(details, "reserve") < kLeastReserve) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding leaves the host too little memory"};
  }
  // Several at a time would hold more than the rule says.
  SQUALL_TRY(check_locks(binding, {"host/memory"}));
  if (binding.overlap) {
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message =
                           "`overlap: true` is for root only here: the `memory` of a rule is "
                           "for one fault at a time",
                       .hint = "leave `overlap` out"};
  }
  Reach reach{.memory = unsigned_field(details, "bytes")};
  if (std::string folder = text_field(details, "folder"); !folder.empty())
    reach.cgroups.push_back(std::move(folder));
  return reach;
}

// A little, on the host.
base::Result<std::string> rehearse_memory_fill(const model::FaultBinding& binding,
                                               FaultContext& context) {
  const Json details{{"bytes", kMiB},
                     {"reserve", unsigned_field(binding.details.json(), "reserve")}};
  MemoryFill fault{details, context};
  return rehearse_life(fault, "held 1 MiB of memory");
}

}  // namespace

extern const FaultKind kResourceMemoryFill;
const FaultKind kResourceMemoryFill{.descriptor = &kDescriptor,
                                    .describe = describe_memory_fill,
                                    .bind = bind_memory_fill,
                                    .create = create_memory_fill,
                                    .rehearse = rehearse_memory_fill,
                                    .reach = reach_memory_fill};

}  // namespace squall::inject
