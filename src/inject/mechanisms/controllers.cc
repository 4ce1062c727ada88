// The controllers of cgroups, tried on a group of our own: the processor's with a process that asks
// for more than it may have, the others with a limit that is written and read back.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/files.h"
#include "base/ids.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/cgroup.h"
#include "inject/faults/resource/cgroup_limit.h"
#include "inject/mechanisms/mechanism_trial.h"
#include "inject/mechanisms/run_time.h"

namespace squall::inject {

namespace {

constexpr double kProcessors = 0.05;
constexpr int kLooks = 4;  // half a second each

// A group of our own below the root of a hierarchy.
class Group {
 public:
  explicit Group(const std::string& mount)
      : path_(mount + "/squall-scratch-" + base::LeaseId::generate().text()) {}
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group() {
    // What has just been killed may be a member for a moment.
    for (int tries = 0; ::rmdir(path_.c_str()) != 0 && errno == EBUSY && tries < 1000; ++tries)
      ::usleep(1000);
  }
  base::Status create() const {
    if (::mkdir(path_.c_str(), 0755) == 0) return {};
    return base::system_error("create cgroup " + path_, errno);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

base::Status write_limit(const std::string& file, const std::string& value) {
  const base::UniqueFd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!fd) return base::system_error("open " + file, errno);
  return base::write_all(fd.get(), value);
}

// A disk that can be throttled: "254:0".
base::Result<std::string> some_disk() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    if (std::filesystem::exists(entry.path() / "device", error))
      return read_limit((entry.path() / "dev").string());
  }
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = "there is no disk that could be throttled"};
}

struct Trial {
  std::string file;
  std::string value;
  std::string key;
};

base::Result<Trial> trial_of(std::string_view controller, bool v2) {
  if (controller == "memory")
    return Trial{v2 ? "memory.max" : "memory.limit_in_bytes", "16777216", {}};
  if (controller == "pids") return Trial{"pids.max", "7", {}};
  SQUALL_ASSIGN(const std::string disk, some_disk());
  if (v2) return Trial{"io.max", "rbps=max wbps=1048576 riops=max wiops=max", disk};
  return Trial{"blkio.throttle.write_bps_device", "1048576", disk};
}

base::Result<TrialResult> write_and_read(const std::string& group, std::string_view controller,
                                         bool v2) {
  SQUALL_ASSIGN(const Trial trial, trial_of(controller, v2));
  const std::string file = group + "/" + trial.file;
  SQUALL_TRY(write_limit(file, trial.key.empty() ? trial.value : trial.key + " " + trial.value));
  SQUALL_ASSIGN(const std::string now, read_limit(file, trial.key));
  if (now != trial.value)
    return base::Error{.message = fmt::format("{} shows {}, not {}", file, now, trial.value)};
  return TrialResult{.detail = fmt::format("{} of a group of our own took a limit", trial.file),
                     .precision = {}};
}

base::Result<TrialResult> squeeze_a_process(const std::string& group, bool v2, Programs& programs) {
  SQUALL_ASSIGN(
      const GroupLimit limit,
      cpu_quota_of({.folder = group, .name = "a group of our own", .v2 = v2}, kProcessors));
  SQUALL_ASSIGN(const LoadWorker worker, LoadWorker::start(programs, 1));
  SQUALL_TRY(write_limit(group + "/cgroup.procs", fmt::format("{}", worker.process().pid)));
  for (const LimitChange& change : limit.changes)
    SQUALL_TRY(write_limit(change.file, change.value));
  double share = 0;
  std::uint64_t throttled = 0;
  for (int look = 0; look < kLooks && throttled == 0; ++look) {
    share = worker.measure_share();
    SQUALL_ASSIGN(throttled, read_number(limit.counters.front()));
  }
  if (throttled == 0 && share > 2 * kProcessors)
    return base::Error{.message = "a process that asked for a whole processor was not throttled",
                       .hint = "look whether the controller is emulated here"};
  return TrialResult{
      .detail = throttled == 0
                    ? "the limit was taken; this machine is too busy for a process to meet it"
                    : fmt::format("squeezed a process of our own, throttled {} times", throttled),
      .precision = fmt::format("{} processors asked: {:.3f}", kProcessors, share)};
}

base::Result<TrialResult> try_in(const std::string& mount, std::string_view controller, bool v2,
                                 Programs& programs) {
  if (v2) {
    SQUALL_ASSIGN(const std::string handed, read_limit(mount + "/cgroup.subtree_control"));
    if ((" " + handed + " ").find(fmt::format(" {} ", controller)) == std::string::npos) {
      return base::Error{
          .code = base::ErrorCode::kUnsupported,
          .message = fmt::format("the root group hands {} down to no other", controller),
          .hint = fmt::format("systemd does as soon as a unit limits it; by hand: echo +{} > "
                              "{}/cgroup.subtree_control",
                              controller, mount)};
    }
  }
  const Group group{mount};
  SQUALL_TRY(group.create());
  return controller == "cpu" ? squeeze_a_process(group.path(), v2, programs)
                             : write_and_read(group.path(), controller, v2);
}

}  // namespace

ControllerTrial try_controller(std::string_view v1, std::string_view v2, Programs& programs) {
  const auto hierarchy = controller_hierarchy(v1, v2);
  if (!hierarchy.ok())
    return {.result = hierarchy.error(), .mechanism = fmt::format("{} or v2", kCgroupV1)};
  return {.result = try_in(hierarchy->folder, v2, hierarchy->v2, programs),
          .mechanism = std::string(hierarchy->v2 ? kCgroupV2 : kCgroupV1)};
}

}  // namespace squall::inject
