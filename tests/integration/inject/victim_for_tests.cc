// A process for tests to break: `victim_for_tests MARKER [children=N] [ignore-term] [forks]`, or
// one that uses a resource: `burns`, `grows`, `caches=FILE`, `opens=FILE`, `starts=FILE`,
// `writes=FILE`; `opens` and `starts` say in FILE what they get: "3 EMFILE" is three descriptors,
// then that error. Found by its marker; ends by itself after two minutes, whatever becomes of the
// test.

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

void start_child() {
  if (::fork() != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(120);
  while (true) ::pause();
}

// Always has a few short-lived children, as a server that forks for each request has.
[[noreturn]] void fork_for_ever() {
  while (true) {
    for (int i = 0; i < 3; ++i) {
      if (::fork() == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::usleep(2000);
        ::_exit(0);
      }
    }
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    ::usleep(1000);
  }
}

[[noreturn]] void burn_for_ever() {
  volatile unsigned long turns = 0;
  while (true) turns = turns + 1;
}

// 25 MB a second, all of it touched.
[[noreturn]] void grow_for_ever() {
  constexpr std::size_t kPiece = 128 * 1024;
  while (true) {
    std::memset(std::malloc(kPiece), 1, kPiece);
    ::usleep(5000);
  }
}

// Fills the page cache with 256 MiB of a file.
void cache(const char* path) {
  constexpr std::size_t kPiece = 1024 * 1024;
  const int file = ::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  const std::string piece(kPiece, 'x');
  for (int i = 0; i < 256; ++i) {
    if (::write(file, piece.data(), kPiece) < 0) ::_exit(1);
    ::sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  ::fdatasync(file);
}

// Tries `attempt` again and again; it says how often it succeeded before errno was set.
[[noreturn]] void report_for_ever(const char* path, int (*attempt)()) {
  const int report = ::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  while (true) {
    errno = 0;
    const int number = attempt();
    std::array<char, 32> text{};
    const int size = std::snprintf(text.data(), text.size(), "%3d %-8s\n", number,
                                   errno == 0 ? "ok" : ::strerrorname_np(errno));
    if (::pwrite(report, text.data(), static_cast<std::size_t>(size), 0) != size) ::_exit(1);
    ::usleep(2000);
  }
}

int open_some() {
  std::array<int, 16> opened{};
  int number = 0;
  while (number < 16) {
    opened[static_cast<std::size_t>(number)] = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (opened[static_cast<std::size_t>(number)] < 0) break;
    ++number;
  }
  const int error = errno;
  for (int i = 0; i < number; ++i) ::close(opened[static_cast<std::size_t>(i)]);
  errno = error;
  return number;
}

int start_one() {
  const pid_t child = ::fork();
  if (child < 0) return 0;
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  errno = 0;
  return 1;
}

[[noreturn]] void write_for_ever(const char* path) {
  constexpr std::size_t kPiece = 64 * 1024;
  const int file = ::open(path, O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  void* buffer = std::aligned_alloc(4096, kPiece);
  std::memset(buffer, 1, kPiece);
  for (off_t turn = 0;; ++turn) {
    if (::pwrite(file, buffer, kPiece, (turn % 64) * static_cast<off_t>(kPiece)) < 0) ::_exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::alarm(120);
  bool forks = false;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("children=")) {
      for (int n = std::atoi(word.c_str() + 9); n > 0; --n) start_child();
    }
    if (word == "ignore-term") ::signal(SIGTERM, SIG_IGN);
    forks = forks || word == "forks";
    if (word == "burns") burn_for_ever();
    if (word.starts_with("caches=")) cache(argv[i] + 7);
    if (word == "grows") grow_for_ever();
    if (word.starts_with("opens=")) report_for_ever(argv[i] + 6, open_some);
    if (word.starts_with("starts=")) report_for_ever(argv[i] + 7, start_one);
    if (word.starts_with("writes=")) write_for_ever(argv[i] + 7);
  }
  if (forks) fork_for_ever();
  while (true) ::pause();
}
