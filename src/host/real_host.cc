#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>

#include "base/files.h"
#include "host/containers.h"
#include "host/host.h"
#include "host/proc_files.h"
#include "host/socket_table.h"

namespace squall::host {

namespace {

constexpr std::string_view kDeleted = " (deleted)";

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

// Reads the files of one /proc/PID through a descriptor of that folder. The descriptor keeps naming
// the same process: when the process ends, reads fail, even if its number is given away.
class ProcessFolder {
 public:
  ProcessFolder(const std::string& pid, std::string& buffer)
      : fd_(::open(("/proc/" + pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), buffer_(buffer) {
    if (!fd_) absent();
  }

  bool valid() const { return fd_.valid(); }
  // Why something is absent that is neither gone nor hidden (errno); 0: nothing is.
  int failure() const { return failure_; }

  // The content, valid until the next read; absent when the process is gone or hides it.
  std::optional<std::string_view> read(const char* name) {
    const base::UniqueFd file{::openat(fd_.get(), name, O_RDONLY | O_CLOEXEC)};
    if (!file.valid()) return absent();
    std::size_t used = 0;
    while (true) {
      if (used == buffer_.size()) buffer_.resize(std::max<std::size_t>(8192, 2 * used));
      const ssize_t got = ::read(file.get(), buffer_.data() + used, buffer_.size() - used);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return absent();
      if (got == 0) return std::string_view(buffer_).substr(0, used);
      used += static_cast<std::size_t>(got);
    }
  }

  std::string read_link(const char* name) {
    std::array<char, 4096> target;
    const ssize_t size = ::readlinkat(fd_.get(), name, target.data(), target.size());
    if (size < 0) absent();
    return size <= 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
  }

  // The effective user. The folder belongs to that user, but to root if the process is protected
  // from being looked into (prctl(2), PR_SET_DUMPABLE); the slow file tells root from protected.
  std::optional<uid_t> user() {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) {
      absent();
      return std::nullopt;
    }
    if (status.st_uid != 0) return status.st_uid;
    const auto text = read("status");
    return text ? parse_status_user(*text) : std::nullopt;
  }

  // Since Linux 6.2 the size of fd/ is the number of descriptors; before, it is 0 and we count.
  std::uint64_t count_descriptors() const {
    const base::UniqueFd folder{::openat(fd_.get(), "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    struct stat status {};
    if (!folder.valid() || ::fstat(folder.get(), &status) != 0) return 0;
    if (status.st_size > 0) return static_cast<std::uint64_t>(status.st_size);
    const std::unique_ptr<DIR, CloseFolder> entries{::fdopendir(::dup(folder.get()))};
    if (entries == nullptr) return 0;
    std::uint64_t count = 0;
    while (const dirent* entry = ::readdir(entries.get())) count += entry->d_name[0] != '.';
    return count;
  }

 private:
  std::nullopt_t absent() {
    const bool gone = errno == ENOENT || errno == ESRCH || errno == EINVAL;
    const bool hidden = errno == EACCES || errno == EPERM;
    if (!gone && !hidden) failure_ = errno;
    return std::nullopt;
  }

  base::UniqueFd fd_;
  std::string& buffer_;
  int failure_ = 0;
};

base::Error no_such_process(pid_t pid) {
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("process {} does not exist", pid)};
}

std::optional<Process> read_process(const std::string& pid_text, ProcessFolder& folder) {
  if (!folder.valid()) return std::nullopt;
  const auto stat_text = folder.read("stat");
  if (!stat_text) return std::nullopt;
  const auto stat = parse_stat(*stat_text);
  if (!stat || stat->kernel_thread) return std::nullopt;
  Process process;
  process.identity.start_time = stat->start_time;
  std::from_chars(pid_text.data(), pid_text.data() + pid_text.size(), process.identity.pid);
  process.parent = stat->parent;
  process.state = stat->state;
  process.name = stat->name;
  const auto user = folder.user();
  if (!user) return std::nullopt;
  process.user = *user;
  if (const auto cmdline = folder.read("cmdline")) process.argv = parse_cmdline(*cmdline);
  if (const auto cgroup = folder.read("cgroup")) {
    process.cgroup = parse_cgroup_path(*cgroup);
    process.container = parse_container_id(*cgroup);
  }
  errno = 0;
  process.executable = folder.read_link("exe");
  // It has let go of its memory already, and is not a zombie for only a moment more.
  if (process.executable.empty() && errno == ENOENT) process.state = 'Z';
  // Ended since its folder was opened. In a narrow moment the kernel says EACCES of such a one.
  if (process.executable.empty() && (errno == ESRCH || (errno == EACCES && !folder.read("stat"))))
    return std::nullopt;
  // A program that was replaced on disk while it runs, as every upgrade does.
  if (process.executable.ends_with(kDeleted))
    process.executable.resize(process.executable.size() - kDeleted.size());
  process.network_namespace = parse_link_inode(folder.read_link("ns/net"), "net");
  return process;
}

// Absent for kernel threads and for processes that ended meanwhile; an error when nobody can tell:
// whoever took that for ended might start a second one.
base::Result<std::optional<Process>> read_process(const std::string& pid_text,
                                                  std::string& buffer) {
  ProcessFolder folder(pid_text, buffer);
  auto process = read_process(pid_text, folder);
  if (folder.failure() == 0) return process;
  return base::system_error("look at process " + pid_text, folder.failure());
}

class RealHost final : public Host {
 public:
  base::Result<std::vector<Process>> processes() const override {
    SQUALL_ASSIGN(const std::vector<std::string> names, base::names_in_folder("/proc"));
    std::vector<Process> all;
    std::string buffer;
    for (const std::string& name : names) {
      if (name[0] < '1' || name[0] > '9') continue;
      SQUALL_ASSIGN(auto process, read_process(name, buffer));
      if (process) all.push_back(*std::move(process));
    }
    std::sort(all.begin(), all.end(),
              [](const Process& a, const Process& b) { return a.identity.pid < b.identity.pid; });
    return all;
  }

  base::Result<Process> process(pid_t pid) const override {
    std::string buffer;
    SQUALL_ASSIGN(auto found, read_process(std::to_string(pid), buffer));
    if (!found) return no_such_process(pid);
    return *std::move(found);
  }

  base::Result<ProcessUsage> usage(const base::ProcessIdentity& identity) const override {
    std::string buffer;
    ProcessFolder folder(std::to_string(identity.pid), buffer);
    if (!folder.valid()) return no_such_process(identity.pid);
    const auto text = folder.read("stat");
    const auto stat = text ? parse_stat(*text) : std::nullopt;
    if (!stat || stat->start_time != identity.start_time) return no_such_process(identity.pid);
    static const auto kTicksPerSecond = static_cast<double>(::sysconf(_SC_CLK_TCK));
    static const auto kPageSize = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return ProcessUsage{
        .processor_seconds =
            static_cast<double>(stat->user_ticks + stat->system_ticks) / kTicksPerSecond,
        .resident_bytes = stat->resident_pages * kPageSize,
        .descriptors = folder.count_descriptors(),
        .threads = stat->threads,
        .state = stat->state};
  }

  base::Result<std::vector<Socket>> sockets(Owners owners) const override {
    SQUALL_ASSIGN(std::vector<Socket> all, read_socket_table());
    if (owners == Owners::kResolve) resolve_owners(all);
    return all;
  }

  base::Result<std::string> hostname() const override {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0)
      return base::system_error("read the host's name", errno);
    return std::string(name.data());
  }

  base::Result<std::vector<Container>> containers() const override {
    return read_containers(default_engine_sockets());
  }

  pid_t self() const override { return ::getpid(); }

  // Every process namespace has a process 1, and it is seldom our own user's.
  bool hides_processes() const override { return ::access("/proc/1/stat", F_OK) != 0; }
};

}  // namespace

const Host& real_host() {
  static const RealHost host;
  return host;
}

}  // namespace squall::host
