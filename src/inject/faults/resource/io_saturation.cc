// resource.io_saturation: a process of ours keeps a disk busy with a file of its own that has no
// name, as a backup or a neighbour's database would.

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "base/files.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/resource/filesystem.h"
#include "inject/json_fields.h"
#include "inject/workers/held_workers.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::uint64_t kMiB = 1024 * 1024;
constexpr std::array<std::string_view, 3> kOperations{"mixed", "read", "write"};
constexpr std::array<ParameterDescriptor, 7> kParameters{{
    {.name = "path",
     .type = ValueType::kPath,
     .required = true,
     .summary = "A folder on the disk that is kept busy."},
    {.name = "operation",
     .type = ValueType::kChoice,
     .default_text = "mixed",
     .summary = "What is asked of the disk; `mixed` reads as often as it writes.",
     .choices = kOperations},
    {.name = "depth",
     .type = ValueType::kInteger,
     .default_text = "32",
     .minimum = 1,
     .maximum = 128,
     .summary = "How many requests wait at the disk at any time."},
    {.name = "block",
     .type = ValueType::kSize,
     .default_text = "64KiB",
     .minimum = 4096,
     .maximum = 4 * kMiB,
     .summary = "How much each asks for; a whole number of 4 KiB."},
    {.name = "share",
     .type = ValueType::kShare,
     .default_text = "100%",
     .minimum = 0.05,
     .maximum = 1,
     .summary = "For which part of each 100 ms requests are made."},
    {.name = "size",
     .type = ValueType::kSize,
     .default_text = "64MiB",
     .minimum = kMiB,
     .maximum = 16384.0 * kMiB,
     .summary = "How large the file is; a disk with a cache of its own needs a file that is "
                "larger."},
    {.name = "total",
     .type = ValueType::kSize,
     .default_text = "64GiB",
     .minimum = kMiB,
     .summary = "After so many bytes, read and written, it rests: flash wears out."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.io_saturation",
    .summary = "Keeps a disk busy.",
    .effect =
        "Whoever reads or syncs on this disk waits behind the requests of the fault, Squall's own "
        "journal and record too if they lie there. What the page cache answers is as fast as "
        "before.",
    .revert = "The worker is ended and its file is gone. Both go with the holder.",
    .proof =
        "Effect: the bytes that the kernel counts for the worker and the time that it counts the "
        "disk as busy. Revert: the worker is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kWorkerMechanisms,
    .capabilities = {},
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.io_saturation: { path: /var/lib/db, depth: 64 }\n"
        "  name: busy-disk\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kSilenceLimit = std::chrono::seconds(30);
// It cannot end before the disk has answered what it asked for.
constexpr base::Duration kEndLimit = std::chrono::seconds(60);
constexpr base::Duration kMeasured = std::chrono::milliseconds(300);
constexpr base::Duration kLook = std::chrono::milliseconds(250);

std::string size_text(std::uint64_t bytes) {
  return base::humanize(base::Quantity{static_cast<double>(bytes), base::Dimension::kSize});
}

struct DiskCounts {
  std::uint64_t bytes = 0;    // read and written, by everybody
  std::uint64_t busy_ms = 0;  // in which it had something to do
};

// Documentation/admin-guide/iostats.rst: fields 3 and 7 are sectors of 512 bytes, 10 milliseconds.
std::optional<DiskCounts> counts_of(const std::string& disk) {
  const auto text = base::read_pseudo_file("/sys/dev/block/" + disk + "/stat");
  if (!text.ok()) return std::nullopt;
  std::istringstream words(*text);
  std::array<std::uint64_t, 10> fields{};
  for (std::uint64_t& word : fields) words >> word;
  if (!words) return std::nullopt;
  return DiskCounts{.bytes = (fields[2] + fields[6]) * 512, .busy_ms = fields[9]};
}

base::Status check_room(const std::string& path, std::uint64_t bytes) {
  SQUALL_ASSIGN(const std::uint64_t free, base::free_space(path));
  if (bytes <= free / 2) return {};
  return base::Error{
      .code = base::ErrorCode::kBlocked,
      .message = fmt::format("the file takes {}, and {} is free on the filesystem of {}: it may "
                             "take half of that",
                             size_text(bytes), size_text(free), path),
      .hint = "lower `size`"};
}

class DiskBusy final : public Fault {
 public:
  DiskBusy(const Json& details, FaultContext& context)
      : configuration_(details),
        disk_(text_field(details, "disk")),
        context_(context),
        workers_(context, "the worker that keeps the disk busy", kSilenceLimit, kEndLimit) {}

  Step arm() override {
    if (workers_.empty()) {
      const auto room =
          check_room(text_field(configuration_, "path"), unsigned_field(configuration_, "bytes"));
      if (!room.ok()) return Step::failed(room.error());
      if (auto noted = context_.note({{"disk", disk_}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      workers_.start("disk_load", configuration_);
    }
    if (Step ready = workers_.await_ready(); ready.state != Step::State::kDone) return ready;
    if (!working_) {
      since_ = base::BootClock::now();
      worker_before_ = bytes_of_worker();
      disk_before_ = counts_of(disk_).value_or(DiskCounts{});
      workers_.tell("work");
      working_ = true;
    }
    const WorkerReport report = workers_.look().front();
    if (report.trouble) return Step::failed(*report.trouble);
    if (report.state == "ready" || report.state == "preparing")
      return Step::wait_for({workers_.fd()}, kLook);
    const std::uint64_t depth = unsigned_field(configuration_, "depth");
    return Step::done(
        fmt::format("process {} keeps {} request{} waiting at disk {}",
                    workers_.processes().front().pid, depth, depth == 1 ? "" : "s", disk_),
        Json{{"worker", workers_.processes().front().pid}}.dump());
  }

  Step effective() override {
    const WorkerReport report = workers_.look().front();
    if (report.trouble) return Step::broken(*report.trouble);
    const std::uint64_t own = report.count("read") + report.count("written");
    if (base::BootClock::now() - since_ < kMeasured || own == 0 || moved() == 0)
      return Step::wait(kMeasured / 10);
    return proof("the kernel counts");
  }

  Step hold() override {
    const WorkerReport report = workers_.look().front();
    if (report.trouble) return Step::broken(*report.trouble);
    Step step = Step::wait(kLook);
    if (report.state == "exhausted" && !std::exchange(told_, true)) {
      step.text = fmt::format("{} were read and written, as `total` says: the disk rests",
                              size_text(unsigned_field(configuration_, "limit")));
    }
    return step;
  }

  Step revert() override {
    if (workers_.empty()) {
      workers_.end();
      return Step::done(workers_.recalled() ? "the worker of the dead holder is ended"
                                            : "there was no worker of ours");
    }
    if (reverted_text_.empty()) {
      Step step = !working_ ? Step::done("the worker is ended")
                            : proof("the worker is ended; the kernel counted");
      reverted_text_ = step.text;
      reverted_proof_ = step.proof;
    }
    workers_.end();
    return Step::done(reverted_text_, reverted_proof_);
  }

  Step verify() override { return workers_.await_gone(); }
  void recall(const Json& found) override { workers_.recall(found); }

 private:
  // What the kernel counts for it; nothing when we may not look.
  std::optional<std::uint64_t> bytes_of_worker() const {
    const auto text =
        base::read_pseudo_file(fmt::format("/proc/{}/io", workers_.processes().front().pid));
    if (!text.ok()) return std::nullopt;
    std::uint64_t bytes = 0;
    for (const std::string_view key : {"\nread_bytes: ", "\nwrite_bytes: "}) {
      const std::size_t at = text->find(key);
      if (at == std::string::npos) return std::nullopt;
      bytes += std::strtoull(text->c_str() + at + key.size(), nullptr, 10);
    }
    return bytes;
  }

  // Since it began: of the worker, where the kernel says it; else of the disk.
  std::uint64_t moved() const {
    const auto worker = bytes_of_worker();
    if (worker && worker_before_) return *worker - std::min(*worker, *worker_before_);
    return counts_of(disk_).value_or(disk_before_).bytes - disk_before_.bytes;
  }

  Step proof(std::string_view text) const {
    const double seconds = base::to_seconds(base::BootClock::now() - since_);
    const DiskCounts now = counts_of(disk_).value_or(disk_before_);
    const double busy =
        std::min(1.0, static_cast<double>(now.busy_ms - disk_before_.busy_ms) / 1000 / seconds);
    const std::uint64_t bytes = moved();
    return Step::done(
        fmt::format("{} {} read and written in {}, {} a second; disk {} was busy {:.0f} % of it",
                    text, size_text(bytes), base::humanize(base::BootClock::now() - since_),
                    size_text(static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds)),
                    disk_, busy * 100),
        Json{{"bytes", bytes}, {"disk_bytes", now.bytes - disk_before_.bytes}, {"busy", busy}}
            .dump());
  }

  Json configuration_;
  std::string disk_;
  FaultContext& context_;
  HeldWorkers workers_;
  base::Instant since_;
  std::optional<std::uint64_t> worker_before_;
  DiskCounts disk_before_;
  bool working_ = false;
  bool told_ = false;
  std::string reverted_text_;
  std::string reverted_proof_;
};

void describe_io_saturation(const model::SystemMap&, const model::FaultSpecification& fault,
                            model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string path = parameters.text("path");
  planned.target = "the disk of " + path;
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("a worker of Squall's keeps {} requests ({}, {} each) waiting at the "
                             "disk of {}, by a file of {} without a name, up to {} in all",
                             parameters.integer("depth"), parameters.text("operation"),
                             base::format_size(parameters.size("block")), path,
                             base::format_size(parameters.size("size")),
                             base::format_size(parameters.size("total"))),
       .revert = "the worker is ended and its file is gone; both go with the holder",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_io_saturation(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string path = real_path(parameters.text("path"));
  const std::uint64_t block = parameters.size("block");
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("there is no folder {}", path),
                       .hint = "`path` names a folder on the disk that is meant"};
  }
  if (block % 4096 != 0) {
    return base::Error{
        .code = base::ErrorCode::kBadFile,
        .message = fmt::format("`block` is {} bytes, not a whole number of 4 KiB", block),
        .hint = "write `64KiB`"};
  }
  const auto disk = disk_of(path);
  if (!disk.ok()) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} lies on no disk of its own that the kernel "
                                              "counts for",
                                              path),
                       .hint =
                           "tmpfs, overlay, btrfs and network filesystems have none; name a "
                           "folder on ext4 or xfs"};
  }
  const std::uint64_t bytes = std::max(block, parameters.size("size") / block * block);
  SQUALL_TRY(check_room(path, bytes));
  if (parameters.size("total") <= bytes) {
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("to write the file of {} uses up the `total` of {}",
                               size_text(bytes), size_text(parameters.size("total"))),
        .hint = "raise `total` or lower `size`"};
  }
  const std::string operation = parameters.text("operation");
  model::FaultBinding binding = new_binding(request, kWorkerProcesses, LifetimeClass::kKernelHeld);
  binding.targets = {{.service = {},
                      .member = {},
                      .process = {},
                      .description = fmt::format("disk {}, on which {} lies", *disk, path)}};
  binding.details = model::Parameters{Json{{"path", path},
                                           {"disk", *disk},
                                           {"bytes", bytes},
                                           {"block", block},
                                           {"depth", parameters.integer("depth")},
                                           {"limit", parameters.size("total")},
                                           {"share", parameters.number("share")},
                                           {"reads", operation != "write"},
                                           {"writes", operation != "read"},
                                           {"resources", Json::array({"disk/" + *disk})}}};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_io_saturation(const model::FaultBinding& binding,
                                                          FaultContext& context) {
  const Json& details = binding.details.json();
  if (!text_field(details, "path").starts_with('/') || text_field(details, "disk").empty() ||
      unsigned_field(details, "bytes") == 0)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no disk to keep busy"};
  return std::unique_ptr<Fault>{std::make_unique<DiskBusy>(details, context)};
}

base::Result<Reach> reach_io_saturation(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  const std::string path = text_field(details, "path");
  // Its counts are read with root's rights.
  const auto disk = disk_of(path);
  if (!disk.ok() || *disk != text_field(details, "disk")) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names another disk than that of its folder"};
  }
  return Reach{.filesystems = {path}};
}

// One request at a time for a moment, in a file of 1 MiB.
base::Result<std::string> rehearse_io_saturation(const model::FaultBinding& binding,
                                                 FaultContext& context) {
  Json details = binding.details.json();
  details["bytes"] = kMiB;
  details["block"] = 65536;
  details["depth"] = 1;
  details["share"] = 0.1;
  details["limit"] = 0;
  DiskBusy fault{details, context};
  return rehearse_life(fault, "read and wrote 1 MiB on disk " + text_field(details, "disk"));
}

}  // namespace

extern const FaultKind kResourceIoSaturation;
const FaultKind kResourceIoSaturation{.descriptor = &kDescriptor,
                                      .describe = describe_io_saturation,
                                      .bind = bind_io_saturation,
                                      .create = create_io_saturation,
                                      .rehearse = rehearse_io_saturation,
                                      .reach = reach_io_saturation};

}  // namespace squall::inject
