// resource.inodes: uses up the inodes of a filesystem with files that have no name. They are the
// kernel's to free: it does when the workers that hold them end, and those end with the holder.

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/files.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/resource/filesystem.h"
#include "inject/faults/resource/parameters.h"
#include "inject/json_fields.h"
#include "inject/workers/held_workers.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "unnamed files";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_DAC_OVERRIDE"};
constexpr std::array<ParameterDescriptor, 3> kParameters{{
    {.name = "path",
     .type = ValueType::kPath,
     .required = true,
     .summary = "A folder on the filesystem whose inodes are used up."},
    {.name = "count",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 2e6,
     .summary = "How many are taken; either this or `leave`."},
    {.name = "leave",
     .type = ValueType::kText,
     .summary = "How many are left: a number (`100`) or a share of all (`2%`)."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.inodes",
    .summary = "Uses up the inodes of a filesystem.",
    .effect =
        "Who makes more files, folders or sockets there than are left gets ENOSPC, although `df` "
        "shows free space. Files that exist can be written. What others remove or make meanwhile "
        "changes what is left.",
    .revert =
        "The workers that hold the files are ended, and the kernel frees the files. It does "
        "the same when the holder dies.",
    .proof =
        "Effect: the free inodes that statvfs(3) shows; nothing is written. Revert: the free "
        "inodes again, beside what they were before.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.inodes: { path: /srv/queue, leave: 10 }\n"
        "  name: no-inodes\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kSilenceLimit = std::chrono::seconds(30);
// Each file is freed for itself.
constexpr base::Duration kEndLimit = std::chrono::seconds(120);
constexpr base::Duration kLook = std::chrono::milliseconds(250);
constexpr base::Duration kShortLook = std::chrono::milliseconds(5);
constexpr base::Duration kCountLimit = std::chrono::seconds(2);
constexpr std::uint64_t kMostFiles = 2'000'000;
// Of the kernel, for a file that is held: inode, directory entry, file and mapping. Measured: 1.8
// KiB on ext4, 1.4 on tmpfs; page tables come on top.
constexpr std::uint64_t kMemoryEach = 4096;

struct Inodes {
  std::uint64_t total = 0;
  std::uint64_t free = 0;
  bool read_only = false;
};

base::Result<Inodes> inodes_of(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0)
    return base::system_error("look at the filesystem of " + path, errno);
  return Inodes{
      .total = info.f_files, .free = info.f_ffree, .read_only = (info.f_flag & ST_RDONLY) != 0};
}

// A process may have so many mappings; some are its own.
std::uint64_t files_of_one_worker() {
  const auto text = base::read_pseudo_file("/proc/sys/vm/max_map_count");
  const std::uint64_t most = text.ok() ? std::strtoull(text->c_str(), nullptr, 10) : 0;
  return std::clamp<std::uint64_t>(most, 2000, 61000) - 1000;
}

std::string inodes_text(std::uint64_t count) {
  return base::humanize_count(count) + (count == 1 ? " inode" : " inodes");
}

base::Status check_memory(std::uint64_t wanted) {
  const std::uint64_t memory = wanted * kMemoryEach;
  if (wanted <= kMostFiles && memory <= available_memory() / 2) return {};
  return base::Error{
      .code = base::ErrorCode::kBlocked,
      .message = fmt::format("{} would be taken; at most {} are, and what the kernel keeps for "
                             "each may use up half of the available memory ({} MiB)",
                             inodes_text(wanted), base::humanize_count(kMostFiles),
                             available_memory() >> 20),
      .hint =
          "use a filesystem made with fewer (mkfs.ext4 -N, mount -t tmpfs -o nr_inodes=), "
          "or take fewer: `count`"};
}

class InodeFill final : public Fault {
 public:
  InodeFill(const Json& details, FaultContext& context)
      : path_(text_field(details, "path")),
        count_(unsigned_field(details, "count")),
        leave_(unsigned_field(details, "leave")),
        context_(context),
        workers_(context, "a worker that holds files", kSilenceLimit, kEndLimit) {}

  Step arm() override {
    if (workers_.empty()) {
      if (auto begun = begin(); !begun.ok()) return Step::failed(std::move(begun).error());
    }
    if (Step ready = workers_.await_ready(); ready.state != Step::State::kDone) return ready;
    if (!std::exchange(taking_, true)) workers_.tell("take");
    std::uint64_t taken = 0;
    for (const WorkerReport& report : workers_.look()) {
      if (report.trouble) return Step::failed(explained(*report.trouble));
      if (report.state != "taken") return Step::wait_for({workers_.fd()}, kLook);
      taken += report.count("taken");
    }
    taken_ = taken;
    if (count_ > 0 && taken_ < count_) {
      return Step::failed(base::Error{
          .code = base::ErrorCode::kExhausted,
          .message = fmt::format("{} could be taken on the filesystem of {}, not {}",
                                 inodes_text(taken_), path_, count_),
          .hint = "others use it meanwhile, or a quota holds; give `leave` instead of `count`"});
    }
    armed_at_ = base::BootClock::now();
    return Step::done(fmt::format("took {} on the filesystem of {} by {} worker{}",
                                  inodes_text(taken_), path_, workers_.size(),
                                  workers_.size() == 1 ? "" : "s"));
  }

  Step effective() override {
    if (auto error = workers_.trouble()) return Step::broken(std::move(*error));
    const auto now = inodes_of(path_);
    if (!now.ok()) return Step::failed(now.error());
    // Others give back and take, too: half of it must show.
    if (now->free + taken_ / 2 <= before_ || now->free <= leave_) {
      return Step::done(
          fmt::format("{} are free on the filesystem of {}, {} before", inodes_text(now->free),
                      path_, inodes_text(before_)),
          Json{{"taken", taken_}, {"free", now->free}, {"free_before", before_}}.dump());
    }
    if (base::BootClock::now() - armed_at_ < kCountLimit) return Step::wait(kShortLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} were taken, and {} are free, {} before: this filesystem makes "
                               "inodes as they are needed",
                               inodes_text(taken_), inodes_text(now->free), inodes_text(before_)),
        .hint = "fill its space instead: resource.disk_fill"});
  }

  Step hold() override {
    if (auto error = workers_.trouble()) return Step::broken(std::move(*error));
    return Step::wait(kLook);
  }

  Step revert() override {
    if (const auto now = inodes_of(path_); now.ok() && !reverted_) at_revert_ = now->free;
    reverted_ = true;
    workers_.end();
    return Step::done(given_back());
  }

  Step verify() override {
    Step gone = workers_.await_gone();
    if (gone.state != Step::State::kDone) return gone;
    const auto now = inodes_of(path_);
    // The filesystem may be gone by now.
    if (!now.ok()) return Step::done(given_back() + "; " + now.error().to_string());
    const base::Instant time = base::BootClock::now();
    if (!gone_since_) gone_since_ = time;
    const bool back = workers_.recalled() || now->free >= at_revert_ + taken_;
    if (!back && time - *gone_since_ < kCountLimit) return Step::wait(kShortLook);
    std::string text = fmt::format("{} are free on the filesystem of {}, {} before the fault",
                                   inodes_text(now->free), path_, inodes_text(before_));
    if (!back) {
      text += fmt::format("; {} were free when {} were given back, so others took some of them",
                          at_revert_, taken_);
    }
    return Step::done(text, Json{{"free", now->free}, {"free_before", before_}}.dump());
  }

  void recall(const Json& found) override {
    workers_.recall(found);
    if (text_field(found, "inodes_of") == path_) before_ = unsigned_field(found, "free");
  }

 private:
  base::Status begin() {
    SQUALL_ASSIGN(const Inodes now, inodes_of(path_));
    before_ = now.free;
    std::uint64_t wanted = count_ > 0 ? count_ : now.free - std::min(now.free, leave_);
    wanted = std::min(wanted, kMostFiles);
    SQUALL_TRY(check_memory(wanted));
    if (wanted == 0) {
      return base::Error{.code = base::ErrorCode::kConflict,
                         .message = fmt::format("only {} are free on the filesystem of {}: there "
                                                "is nothing to take",
                                                inodes_text(now.free), path_),
                         .hint = "look who uses them"};
    }
    SQUALL_TRY(context_.note({{"inodes_of", path_}, {"free", before_}, {"taking", wanted}}));
    const std::uint64_t each = files_of_one_worker();
    while (wanted > 0) {
      const std::uint64_t part = std::min(wanted, each);
      workers_.start("inodes", Json{{"path", path_}, {"count", part}});
      wanted -= part;
    }
    return {};
  }

  base::Error explained(base::Error error) const {
    if (error.message.find("file without a name") == std::string::npos) return error;
    error.code = base::ErrorCode::kUnsupported;
    error.hint = fmt::format(
        "the filesystem of {} must have unnamed files (O_TMPFILE: ext4, xfs, tmpfs); named ones "
        "would outlive a crash; if that is wanted, use a `command` fault",
        path_);
    return error;
  }

  std::string given_back() const {
    if (workers_.recalled()) return "the workers of the dead holder are ended";
    return workers_.empty()
               ? "nothing was taken"
               : fmt::format("the workers that held {} are ended", inodes_text(taken_));
  }

  std::string path_;
  std::uint64_t count_;
  std::uint64_t leave_;
  FaultContext& context_;
  HeldWorkers workers_;
  bool taking_ = false;
  bool reverted_ = false;
  std::uint64_t taken_ = 0;
  std::uint64_t before_ = 0;     // free before the fault
  std::uint64_t at_revert_ = 0;  // free just before the revert
  base::Instant armed_at_;
  std::optional<base::Instant> gone_since_;
};

void describe_inodes(const model::SystemMap&, const model::FaultSpecification& fault,
                     model::PlannedFault& planned) {
  const std::string path = fault.parameters.text("path");
  const auto count = fault.parameters.optional_integer("count");
  planned.target = "the filesystem of " + path;
  planned.processes_max = 0;
  planned.changes = {
      {.change =
           fmt::format("files without a name use up the inodes of the filesystem of {}: {}", path,
                       count ? fmt::format("{} are taken", *count)
                             : fault.parameters.optional_text("leave").value_or("?") + " are left"),
       .revert = "the workers that hold them are ended; they die with the holder",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<std::uint64_t> left_free(const std::string& text, const Inodes& inodes) {
  const auto quantity = base::parse_quantity(text);
  if (quantity.ok() && quantity->dimension == base::Dimension::kShare && quantity->value >= 0 &&
      quantity->value < 1)
    return static_cast<std::uint64_t>(quantity->value * static_cast<double>(inodes.total));
  if (quantity.ok() && quantity->dimension == base::Dimension::kNumber && quantity->value >= 0 &&
      quantity->value < 1e15)
    return static_cast<std::uint64_t>(quantity->value);
  return base::Error{.code = base::ErrorCode::kBadFile,
                     .message = fmt::format("`leave` is `{}`, neither a number nor a share", text),
                     .hint = "write `100`, `2%` or `0`"};
}

base::Status check_number(const std::string& path, const Inodes& inodes, std::uint64_t wanted) {
  if (wanted == 0 || wanted > inodes.free) {
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("{} of {} are free on the filesystem of {}: {}",
                               inodes_text(inodes.free), base::humanize_count(inodes.total), path,
                               wanted == 0 ? std::string("not more than are to be left")
                                           : fmt::format("{} cannot be taken", wanted)),
        .hint = "change `count` or `leave`"};
  }
  return check_memory(wanted);
}

base::Result<model::FaultBinding> bind_inodes(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_exactly_one(parameters, "count", "leave"));
  const std::string path = real_path(parameters.text("path"));
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("there is no folder {}", path),
                       .hint = "`path` names a folder on the filesystem that is meant"};
  }
  SQUALL_ASSIGN(const Inodes inodes, inodes_of(path));
  if (inodes.total == 0 || inodes.read_only) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("the filesystem of {} {}", path,
                                              inodes.read_only ? "is mounted read-only"
                                                               : "has no fixed number of inodes"),
                       .hint = inodes.read_only ? "name a folder to which the service writes"
                                                : "fill its space instead: resource.disk_fill"};
  }
  SQUALL_TRY(check_not_our_own(request, path));
  Json details = {{"path", path}};
  details["resources"] =
      Json::array({fmt::format("filesystem/{}:{}", major(info.st_dev), minor(info.st_dev))});
  std::uint64_t wanted = 0;
  if (const auto count = parameters.optional_integer("count")) {
    wanted = static_cast<std::uint64_t>(*count);
    details["count"] = wanted;
  } else {
    SQUALL_ASSIGN(const std::uint64_t leave, left_free(parameters.text("leave"), inodes));
    wanted = inodes.free - std::min(inodes.free, leave);
    details["leave"] = leave;
  }
  SQUALL_TRY(check_number(path, inodes, wanted));
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kKernelHeld);
  binding.targets = {
      {.service = {}, .member = {}, .process = {}, .description = "the filesystem of " + path}};
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_inodes(const model::FaultBinding& binding,
                                                   FaultContext& context) {
  const Json& details = binding.details.json();
  if (!text_field(details, "path").starts_with('/') ||
      details.contains("count") == details.contains("leave"))
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no filesystem and number of inodes"};
  return std::unique_ptr<Fault>{std::make_unique<InodeFill>(details, context)};
}

base::Result<Reach> reach_inodes(const model::FaultBinding& binding) {
  return Reach{.filesystems = {text_field(binding.details.json(), "path")}};
}

base::Result<std::string> rehearse_inodes(const model::FaultBinding& binding,
                                          FaultContext& context) {
  const Json details{{"path", text_field(binding.details.json(), "path")}, {"count", 1}};
  InodeFill fault{details, context};
  return rehearse_life(fault, "took 1 inode on the filesystem of " + text_field(details, "path"));
}

}  // namespace

extern const FaultKind kResourceInodes;
const FaultKind kResourceInodes{.descriptor = &kDescriptor,
                                .describe = describe_inodes,
                                .bind = bind_inodes,
                                .create = create_inodes,
                                .rehearse = rehearse_inodes,
                                .reach = reach_inodes};

}  // namespace squall::inject
