// A process whose system calls are to be delayed or to fail: `calls_for_tests MARKER REPORT FILE
// MODE`. It tells in REPORT (calls_report.h) what it saw. MODE:
//   checks   four threads write to FILE, which they hold open, and look whether what they were told
//            is true; one of them sends itself signals, forks and executes
//   reopens  opens FILE anew for each read and write
//   keeps    reads, writes and syncs FILE through a descriptor that it has from the start
//   forks    children write to FILE through the descriptor of their parent
//   sleeps   waits in epoll_wait
//   idles    asks for its process id again and again, which costs next to nothing
// SIGUSR2 makes it install a system call filter that kills it for a call without number (checks).
// Found by its marker; ends by itself after two minutes.

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "calls_report.h"

namespace {

using squall::inject::CallsReport;

CallsReport* report = nullptr;
volatile std::sig_atomic_t signals = 0;
volatile std::sig_atomic_t filter_wanted = 0;

std::int64_t now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

void wrong(int where, std::int64_t value) {
  report->wrong_at = where;
  report->wrong_value = value;
  ++report->wrong;
}

template <typename Call>
long measured(squall::inject::CallOfTests which, const Call& call) {
  auto& entry = report->calls[which];
  const std::int64_t start = now();
  const long result = call();
  entry.error = result < 0 ? errno : 0;
  entry.took_ns = now() - start;
  if (result < 0) ++entry.failed;
  ++entry.made;
  return result;
}

void start_another(char* program) {
  const pid_t child = ::fork();
  if (child < 0) return wrong(10, errno);
  if (child == 0) {
    std::array<char, 5> word{'s', 'e', 'v', 'e', 0};
    std::array<char*, 3> argv{program, word.data(), nullptr};
    ::execv(program, argv.data());
    ::_exit(1);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return wrong(11, errno);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) wrong(12, status);
}

void install_filter() {
  std::array<sock_filter, 4> program{{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                                      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffffu, 0, 1),
                                      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                                      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0)
    wrong(20, errno);
}

void check_for_ever(int file, int index, char* program) {
  const off_t place = index * 8;
  std::uint64_t kept = 0;
  if (::pread(file, &kept, 8, place) != 8) kept = 0;
  const pid_t self = ::getpid();
  for (std::uint64_t value = 1;; ++value) {
    const ssize_t written = ::pwrite(file, &value, 8, place);
    if (written == 8)
      kept = value;
    else if (written < 0 && errno == EIO)
      ++report->refused;
    else
      wrong(1, written < 0 ? -errno : written);
    std::uint64_t read = 0;
    const ssize_t got = ::pread(file, &read, 8, place);
    if (got != 8) wrong(2, got < 0 ? -errno : got);
    if (got == 8 && read != kept) wrong(3, static_cast<std::int64_t>(read));
    if (const long id = ::syscall(SYS_getpid); id != self) wrong(4, id);
    if (index == 0 && filter_wanted != 0) {
      filter_wanted = 0;
      install_filter();
    }
    if (index == 0 && value % 8 == 0) {
      const int before = signals;
      ::raise(SIGUSR1);
      if (signals != before + 1) wrong(5, signals - before);
    }
    if (index == 0 && value % 64 == 0) start_another(program);
    ++report->turns;
  }
}

void reopen_for_ever(const char* path) {
  char text = 'x';
  while (true) {
    const int file = static_cast<int>(
        measured(squall::inject::kOpen, [&] { return ::open(path, O_RDWR | O_CLOEXEC); }));
    if (file >= 0) {
      measured(squall::inject::kRead, [&] { return ::pread(file, &text, 1, 0); });
      measured(squall::inject::kWrite, [&] { return ::pwrite(file, &text, 1, 0); });
      ::close(file);
    }
    ++report->turns;
    ::usleep(500);
  }
}

void use_for_ever(int file) {
  char text = 'x';
  while (true) {
    measured(squall::inject::kRead, [&] { return ::pread(file, &text, 1, 0); });
    measured(squall::inject::kWrite, [&] { return ::pwrite(file, &text, 1, 0); });
    measured(squall::inject::kSync, [&] { return ::fdatasync(file); });
    ++report->turns;
    ::usleep(500);
  }
}

void fork_for_ever(int file) {
  while (true) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(::pwrite(file, "x", 1, 0) == 1 ? 0 : errno);
    int status = 0;
    ::waitpid(child, &status, 0);
    auto& entry = report->calls[squall::inject::kWrite];
    entry.error = WEXITSTATUS(status);
    if (entry.error != 0) ++entry.failed;
    ++entry.made;
    ++report->turns;
    ::usleep(500);
  }
}

void sleep_for_ever() {
  const int queue = ::epoll_create1(EPOLL_CLOEXEC);
  while (true) {
    epoll_event event{};
    if (::epoll_wait(queue, &event, 1, 100) < 0 && errno == EINTR) ++report->interrupted;
    ++report->turns;
  }
}

void idle_for_ever() {
  while (true) {
    const std::int64_t start = now();
    for (int i = 0; i < 100; ++i) ::syscall(SYS_getppid);
    report->calls[0].took_ns = (now() - start) / 100;
    ++report->turns;
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::alarm(120);
  if (argc == 2) return 7;  // started by start_another()
  if (argc < 5) return 1;
  report = CallsReport::open(argv[2]);
  const int file = ::open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (report == nullptr || file < 0 || ::ftruncate(file, 64) != 0) return 1;
  ::signal(SIGUSR1, [](int) { signals = signals + 1; });
  ::signal(SIGUSR2, [](int) { filter_wanted = 1; });
  const std::string mode = argv[4];
  if (mode == "reopens") reopen_for_ever(argv[3]);
  if (mode == "keeps") use_for_ever(file);
  if (mode == "forks") fork_for_ever(file);
  if (mode == "sleeps") sleep_for_ever();
  if (mode == "idles") idle_for_ever();
  for (int i = 1; i < 4; ++i)
    std::thread([file, i, argv] { check_for_ever(file, i, argv[0]); }).detach();
  check_for_ever(file, 0, argv[0]);
}
