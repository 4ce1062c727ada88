// resource.disk_fill: takes the free space of a filesystem with one file that has no name. The
// space is the kernel's to give back: it returns when the holder closes the file or dies.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/fd.h"
#include "base/files.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/resource/filesystem.h"
#include "inject/faults/resource/parameters.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "unnamed ballast file";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<ParameterDescriptor, 4> kParameters{{
    {.name = "path",
     .type = ValueType::kPath,
     .required = true,
     .summary = "A folder on the filesystem that is filled."},
    {.name = "size",
     .type = ValueType::kSize,
     .minimum = 1,
     .summary = "How much is taken; either this or `leave`."},
    {.name = "leave",
     .type = ValueType::kText,
     .summary = "How much is left free: a size (`64MiB`) or a share of the filesystem (`2%`)."},
    {.name = "reserve",
     .type = ValueType::kBoolean,
     .default_text = "false",
     .summary = "Count and take also what the filesystem keeps for root (ext4: 5 %); needed when "
                "the service runs as root."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.disk_fill",
    .summary = "Fills a filesystem.",
    .effect =
        "Who writes more than is left gets ENOSPC, everybody on that filesystem. What others free "
        "or write meanwhile changes what is left.",
    .revert = "The file is cut and closed. The kernel does the same when the holder dies.",
    .proof =
        "Effect: the blocks that the file holds, and the free space that statvfs(3) shows; nothing "
        "is written. Revert: the free space again, beside what it was before.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.disk_fill: { path: /srv/queue, leave: 1MiB }\n"
        "  name: disk-full\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr std::uint64_t kMiB = 1024 * 1024;
constexpr std::uint64_t kSmallestPiece = 4096;
constexpr std::uint64_t kFirstPiece = 16 * kMiB;
constexpr std::uint64_t kLargestPiece = 4096 * kMiB;
// A piece is made larger or smaller so that a step takes about as long.
constexpr base::Duration kShortStep = std::chrono::milliseconds(5);
constexpr base::Duration kLongStep = std::chrono::milliseconds(15);
constexpr base::Duration kPause = std::chrono::milliseconds(1);
constexpr base::Duration kLook = std::chrono::milliseconds(5);
// Some filesystems count late what was taken or given back.
constexpr base::Duration kCountLimit = std::chrono::seconds(2);

struct Space {
  std::uint64_t total = 0;
  std::uint64_t available = 0;  // as `df` shows it
  std::uint64_t available_to_root = 0;
  bool read_only = false;
  std::uint64_t free(bool reserve) const { return reserve ? available_to_root : available; }
};

base::Result<Space> space_of(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0)
    return base::system_error("look at the filesystem of " + path, errno);
  return Space{.total = info.f_blocks * info.f_frsize,
               .available = info.f_bavail * info.f_frsize,
               .available_to_root = info.f_bfree * info.f_frsize,
               .read_only = (info.f_flag & ST_RDONLY) != 0};
}

std::string size_text(std::uint64_t bytes) {
  return base::humanize(base::Quantity{static_cast<double>(bytes), base::Dimension::kSize});
}

class DiskFill final : public Fault {
 public:
  DiskFill(const Json& details, FaultContext& context)
      : path_(text_field(details, "path")),
        size_(unsigned_field(details, "size")),
        leave_(unsigned_field(details, "leave")),
        reserve_(boolean_field(details, "reserve")),
        context_(context) {}

  Step arm() override {
    const auto space = space_of(path_);
    if (!space.ok()) return Step::failed(space.error());
    if (!ballast_) {
      if (auto begun = begin(*space); !begun.ok()) return Step::failed(std::move(begun).error());
    }
    const std::uint64_t wanted = missing(*space);
    if (wanted == 0) return armed(*space);
    const std::uint64_t piece = std::min(wanted, piece_);
    const base::Instant start = base::BootClock::now();
    if (::fallocate(ballast_.get(), 0, static_cast<off_t>(taken_), static_cast<off_t>(piece)) ==
        0) {
      taken_ += piece;
      fit_piece(base::BootClock::now() - start);
      return Step::wait(kPause);
    }
    const int error = errno;
    if (error == EINTR) return Step::wait(kPause);
    if (error != ENOSPC && error != EDQUOT) return Step::failed(not_allocated(error));
    // The last blocks come in smaller pieces; some of the space may be the filesystem's own.
    if (piece > kSmallestPiece) {
      piece_ = std::max(kSmallestPiece, piece / 2);
      return Step::wait(kPause);
    }
    if (size_ == 0) return armed(*space);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kExhausted,
        .message = fmt::format("{} could be taken on the filesystem of {}, not {}",
                               size_text(taken_), path_, size_text(size_)),
        .hint = "others use it meanwhile, or a quota holds; give `leave` instead of `size`"});
  }

  Step effective() override {
    const auto space = space_of(path_);
    if (!space.ok()) return Step::failed(space.error());
    struct stat file {};
    if (::fstat(ballast_.get(), &file) != 0)
      return Step::failed(base::system_error("look at the ballast", errno));
    const std::uint64_t held = static_cast<std::uint64_t>(file.st_blocks) * 512;
    const std::uint64_t now = space->free(reserve_);
    // Others give back and take, too: half of it must show, unless it is too little to tell.
    const bool held_whole = held + kMiB >= taken_;
    const bool shows = taken_ <= kMiB || now + taken_ / 2 <= before_ || now <= leave_;
    if (held_whole && shows) {
      return Step::done(fmt::format("the ballast holds {}; {} is free on the filesystem of {}, {} "
                                    "before",
                                    size_text(held), size_text(now), path_, size_text(before_)),
                        Json{{"held", held}, {"free", now}, {"free_before", before_}}.dump());
    }
    if (base::BootClock::now() - armed_at_ < kCountLimit) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message =
            fmt::format("{} was taken, the file holds {}, and {} is free, {} before: this "
                        "filesystem promises space that it does not count",
                        size_text(taken_), size_text(held), size_text(now), size_text(before_)),
        .hint = "compression or thin provisioning; fill it with a `command` fault of your own"});
  }

  Step revert() override {
    if (!ballast_) return Step::done(given_back());
    if (!reverting_) {
      reverting_ = true;
      piece_ = 64 * kMiB;
      if (const auto space = space_of(path_); space.ok()) at_revert_ = space->free(reserve_);
      left_ = taken_;
    }
    // In pieces: to free many extents at once would hold up the holder.
    while (left_ > 0) {
      const std::uint64_t rest = left_ - std::min(left_, piece_);
      const base::Instant start = base::BootClock::now();
      if (::ftruncate(ballast_.get(), static_cast<off_t>(rest)) != 0) break;  // closing does it
      left_ = rest;
      fit_piece(base::BootClock::now() - start);
      if (left_ > 0) return Step::wait(kPause);
    }
    ballast_.reset();
    reverted_at_ = base::BootClock::now();
    return Step::done(given_back());
  }

  Step verify() override {
    if (taken_ == 0 && !recalled_) return Step::done("nothing was taken");
    const auto space = space_of(path_);
    // The filesystem may be gone by now, and the ballast with it.
    if (!space.ok()) return Step::done(given_back() + "; " + space.error().to_string());
    const std::uint64_t now = space->free(reserve_);
    const bool back = recalled_ || now + kMiB >= at_revert_ + taken_;
    if (!back && base::BootClock::now() - reverted_at_ < kCountLimit) return Step::wait(kLook);
    std::string text = fmt::format("{} is free on the filesystem of {}, {} before the fault",
                                   size_text(now), path_, size_text(before_));
    if (!back) {
      text += fmt::format("; {} was free when {} were given back, so others took some of it",
                          size_text(at_revert_), size_text(taken_));
    }
    return Step::done(text, Json{{"free", now}, {"free_before", before_}}.dump());
  }

  void recall(const Json& found) override {
    if (text_field(found, "filling") != path_) return;
    recalled_ = true;
    before_ = unsigned_field(found, "free");
  }

 private:
  base::Status begin(const Space& space) {
    before_ = space.free(reserve_);
    SQUALL_TRY(context_.note({{"filling", path_}, {"free", before_}}));
    SQUALL_ASSIGN(base::UniqueFd folder, base::open_without_links(path_, O_PATH | O_DIRECTORY));
    ballast_.reset(::openat(folder.get(), ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    const int error = errno;
    if (ballast_) return {};
    if (error != EOPNOTSUPP && error != EISDIR && error != EINVAL)
      return base::system_error("open an unnamed file in " + path_, error);
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the filesystem of {} has no unnamed files (O_TMPFILE)", path_),
        .hint = "a named file would outlive a crash; if that is wanted, use a `command` fault"};
  }

  base::Error not_allocated(int error) const {
    if (error == EOPNOTSUPP || error == ENOSYS) {
      return {
          .code = base::ErrorCode::kUnsupported,
          .message = fmt::format("the filesystem of {} cannot set space aside (fallocate)", path_),
          .hint = "use a filesystem that can (ext4, xfs, btrfs, tmpfs)"};
    }
    return base::system_error("allocate on the filesystem of " + path_, error);
  }

  std::uint64_t missing(const Space& space) const {
    if (size_ > 0) return size_ - std::min(size_, taken_);
    const std::uint64_t free = space.free(reserve_);
    return free < leave_ + kSmallestPiece ? 0 : free - leave_;
  }

  Step armed(const Space& space) {
    if (taken_ == 0) {
      return Step::failed(base::Error{
          .code = base::ErrorCode::kConflict,
          .message = fmt::format("only {} is free on the filesystem of {}: there is nothing to "
                                 "take",
                                 size_text(space.free(reserve_)), path_),
          .hint = "look who filled it"});
    }
    armed_at_ = base::BootClock::now();
    return Step::done(fmt::format("took {} on the filesystem of {}", size_text(taken_), path_));
  }

  void fit_piece(base::Duration took) {
    if (took < kShortStep) piece_ = std::min(kLargestPiece, piece_ * 2);
    if (took > kLongStep) piece_ = std::max(kMiB, piece_ / 2);
  }

  std::string given_back() const {
    if (recalled_) return "the kernel freed the ballast when its holder died";
    return taken_ == 0 ? "nothing was taken"
                       : fmt::format("the ballast of {} is closed", size_text(taken_));
  }

  std::string path_;
  std::uint64_t size_;
  std::uint64_t leave_;
  bool reserve_;
  FaultContext& context_;
  base::UniqueFd ballast_;
  std::uint64_t piece_ = kFirstPiece;
  std::uint64_t taken_ = 0;
  std::uint64_t left_ = 0;
  std::uint64_t before_ = 0;     // free before the fault
  std::uint64_t at_revert_ = 0;  // free just before the revert
  bool reverting_ = false;
  bool recalled_ = false;
  base::Instant armed_at_;
  base::Instant reverted_at_;
};

std::string amount_text(const model::Parameters& parameters) {
  if (parameters.has("size")) return size_text(parameters.size("size")) + " is taken";
  return parameters.optional_text("leave").value_or("?") + " is left free";
}

void describe_disk_fill(const model::SystemMap&, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const std::string path = fault.parameters.text("path");
  planned.target = "the filesystem of " + path;
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("a file without a name takes the space on the filesystem of {}: {}",
                             path, amount_text(fault.parameters)),
       .revert = "the file is closed; the kernel does that when its owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<std::uint64_t> left_free(const std::string& text, const Space& space) {
  const auto quantity = base::parse_quantity(text);
  const bool zero = quantity.ok() && quantity->value == 0;
  if (quantity.ok() && quantity->dimension == base::Dimension::kShare && quantity->value >= 0 &&
      quantity->value < 1)
    return static_cast<std::uint64_t>(quantity->value * static_cast<double>(space.total));
  const auto size = zero ? base::Result<std::uint64_t>{0} : base::parse_size(text);
  if (size.ok()) return size;
  return base::Error{.code = base::ErrorCode::kBadFile,
                     .message = fmt::format("`leave` is `{}`, neither a size nor a share", text),
                     .hint = "write `64MiB`, `2%` or `0`"};
}

base::Status check_amount(const std::string& path, const Space& space, std::uint64_t free,
                          std::uint64_t wanted, bool reserve) {
  struct statfs info {};
  if (::statfs(path.c_str(), &info) != 0) return base::system_error("statfs " + path, errno);
  if (info.f_type == TMPFS_MAGIC && wanted > available_memory() / 2) {
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("{} lies in memory: to take {} would use up more than half of the "
                               "{} of free memory",
                               path, size_text(wanted), size_text(available_memory())),
        .hint = "mount it with a smaller `size=`"};
  }
  if (wanted > 0 && wanted <= free) return {};
  return base::Error{.code = base::ErrorCode::kBlocked,
                     .message = fmt::format("{} of {} is free on the filesystem of {}{}: {}",
                                            size_text(free), size_text(space.total), path,
                                            reserve ? "" : " to users other than root",
                                            wanted == 0 ? "not more than what is to be left"
                                                        : size_text(wanted) + " cannot be taken"),
                     .hint = "change `size` or `leave`"};
}

base::Result<model::FaultBinding> bind_disk_fill(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_exactly_one(parameters, "size", "leave"));
  const std::string path = real_path(parameters.text("path"));
  const bool reserve = parameters.boolean("reserve");
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("there is no folder {}", path),
                       .hint = "`path` names a folder on the filesystem that is filled"};
  }
  SQUALL_ASSIGN(const Space space, space_of(path));
  if (space.total == 0 || space.read_only) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the filesystem of {} {}", path,
                               space.read_only ? "is mounted read-only" : "has no size of its own"),
        .hint = "name a folder to which the service writes"};
  }
  SQUALL_TRY(check_not_our_own(request, path));
  const std::uint64_t free = space.free(reserve);
  Json details = {{"path", path}, {"reserve", reserve}};
  details["resources"] =
      Json::array({fmt::format("filesystem/{}:{}", major(info.st_dev), minor(info.st_dev))});
  std::uint64_t wanted = 0;
  if (parameters.has("size")) {
    wanted = parameters.size("size");
    details["size"] = wanted;
  } else {
    SQUALL_ASSIGN(const std::uint64_t leave, left_free(parameters.text("leave"), space));
    wanted = free - std::min(free, leave);
    details["leave"] = leave;
  }
  SQUALL_TRY(check_amount(path, space, free, wanted, reserve));
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kKernelHeld);
  binding.targets = {
      {.service = {}, .member = {}, .process = {}, .description = "the filesystem of " + path}};
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_disk_fill(const model::FaultBinding& binding,
                                                      FaultContext& context) {
  const Json& details = binding.details.json();
  if (binding.mechanism != kMechanism || !text_field(details, "path").starts_with('/') ||
      details.contains("size") == details.contains("leave"))
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no filesystem and amount to fill"};
  return std::unique_ptr<Fault>{std::make_unique<DiskFill>(details, context)};
}

base::Result<Reach> reach_disk_fill(const model::FaultBinding& binding) {
  return Reach{.filesystems = {text_field(binding.details.json(), "path")}};
}

base::Result<std::string> rehearse_disk_fill(const model::FaultBinding& binding,
                                             FaultContext& context) {
  Json details = binding.details.json();
  details.erase("leave");
  details["size"] = kMiB;
  DiskFill fault{details, context};
  return rehearse_life(fault, "took 1 MiB on the filesystem of " + text_field(details, "path"));
}

}  // namespace

extern const FaultKind kResourceDiskFill;
const FaultKind kResourceDiskFill{.descriptor = &kDescriptor,
                                  .describe = describe_disk_fill,
                                  .bind = bind_disk_fill,
                                  .create = create_disk_fill,
                                  .rehearse = rehearse_disk_fill,
                                  .reach = reach_disk_fill};

}  // namespace squall::inject
