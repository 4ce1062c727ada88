#include "inject/workers/proc_view.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace squall::inject {

namespace {

constexpr int kDeepest = 64;  // generations

// "NAME:\t12": the number; 0 when the line is not there.
int number_of(std::string_view text, std::string_view name) {
  const std::size_t at = text.find(name);
  if (at == text.npos) return 0;
  int number = 0;
  const std::string_view rest = text.substr(at + name.size());
  std::from_chars(rest.data(), rest.data() + rest.size(), number);
  return number;
}

// "Uid:" with the same number four times: real, effective, saved, of files.
std::optional<uid_t> only_user(const std::string& text) {
  const std::size_t at = text.find("\nUid:\t");
  std::array<unsigned, 4> ids{};
  if (at == std::string::npos || std::sscanf(text.c_str() + at, "\nUid:\t%u\t%u\t%u\t%u", &ids[0],
                                             &ids[1], &ids[2], &ids[3]) != 4)
    return std::nullopt;
  if (std::count(ids.begin(), ids.end(), ids[0]) != 4) return std::nullopt;
  return ids[0];
}

}  // namespace

base::Result<ProcView> ProcView::open() {
  base::UniqueFd folder{::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!folder) return base::system_error("open /proc", errno);
  return ProcView{std::move(folder)};
}

base::Status ProcView::enter() const {
  if (::fchdir(folder_.get()) != 0 || ::chroot(".") != 0)
    return base::system_error("make /proc a worker's root (CAP_SYS_CHROOT)", errno);
  return {};
}

std::string ProcView::read(pid_t id, const char* file) const {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%d/%s", id, file);
  const base::UniqueFd descriptor{::openat(folder_.get(), name.data(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 4096> text;
  const ssize_t got = descriptor ? ::read(descriptor.get(), text.data(), text.size()) : -1;
  return got <= 0 ? std::string{} : std::string(text.data(), static_cast<std::size_t>(got));
}

std::optional<ThreadFacts> ProcView::thread(pid_t id) const {
  const std::string text = read(id, "status");
  if (text.empty()) return std::nullopt;
  return ThreadFacts{.process = number_of(text, "\nTgid:\t"),
                     .parent = number_of(text, "\nPPid:\t"),
                     .tracer = number_of(text, "\nTracerPid:\t"),
                     .seccomp = number_of(text, "\nSeccomp:\t"),
                     .user = only_user(text)};
}

std::optional<ProcView::Ancestry> ProcView::ancestry(pid_t id) const {
  const std::string text = read(id, "stat");
  // The name may hold spaces and parentheses; it ends at the last one.
  const std::size_t close = text.rfind(')');
  if (close == text.npos) return std::nullopt;
  Ancestry result{.identity = {.pid = id, .start_time = 0}, .parent = 0, .state = '?'};
  unsigned long long start = 0;
  const int read =
      std::sscanf(text.c_str() + close + 1,
                  " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                  &result.state, &result.parent, &start);
  if (read != 3) return std::nullopt;
  result.identity.start_time = start;
  return result;
}

bool ProcView::descends(pid_t id, const std::vector<base::ProcessIdentity>& roots) const {
  for (int generation = 0; id > 0 && generation < kDeepest; ++generation) {
    const auto found = ancestry(id);
    if (!found) return false;
    if (std::find(roots.begin(), roots.end(), found->identity) != roots.end()) return true;
    id = found->parent;
  }
  return false;
}

int ProcView::waits_in(pid_t id) const {
  const std::string text = read(id, "syscall");
  int number = -1;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string ProcView::link(pid_t process, int descriptor) const {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%d/fd/%d", process, descriptor);
  std::array<char, PATH_MAX> target;
  const ssize_t length = ::readlinkat(folder_.get(), name.data(), target.data(), target.size());
  return length <= 0 ? std::string{} : std::string(target.data(), static_cast<std::size_t>(length));
}

std::vector<int> ProcView::numbers(pid_t id, const char* folder) const {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%d/%s", id, folder);
  const int descriptor = ::openat(folder_.get(), name.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* handle = descriptor < 0 ? nullptr : ::fdopendir(descriptor);
  std::vector<int> result;
  if (handle == nullptr) {
    if (descriptor >= 0) ::close(descriptor);
    return result;
  }
  while (const dirent* item = ::readdir(handle)) {
    if (item->d_name[0] >= '0' && item->d_name[0] <= '9') result.push_back(std::atoi(item->d_name));
  }
  ::closedir(handle);
  return result;
}

std::vector<pid_t> ProcView::threads(pid_t process) const {
  return numbers(process, "task");
}

std::vector<int> ProcView::descriptors(pid_t process) const {
  return numbers(process, "fd");
}

bool is_under(std::string_view link, std::string_view path) {
  constexpr std::string_view kDeleted = " (deleted)";
  if (link.ends_with(kDeleted)) link.remove_suffix(kDeleted.size());
  if (path == "/") return link.starts_with('/');
  return link.starts_with(path) && (link.size() == path.size() || link[path.size()] == '/');
}

}  // namespace squall::inject
