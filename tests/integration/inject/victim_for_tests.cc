// A process for tests to break: `victim_for_tests MARKER [children=N] [ignore-term] [forks]
// [group=FOLDER] [connect=PORT] [knock=PORT] [mesh=PORT,INDEX,COUNT,REPORT]
// [serve=ADDRESS,PORT] [echoes=ADDRESS,PORT] [asks=ADDRESS,PORT,FILE] [asks-by-child=...]`, or one
// that uses a resource: `burns`, `grows`, `caches=FILE`, `opens=FILE`, `starts=FILE`,
// `writes=FILE`. `connect` holds a TCP connection to a loopback port; `knock` sends it a datagram
// every 5 ms, which says how many answers came; `mesh` makes it one of COUNT members on
// 127.77.0.x:PORT that send to each other over TCP and tell the REPORT port what each heard of the
// others. `opens` and `starts` say in FILE what they get: "3 EMFILE" is three descriptors, then
// that error. `echoes` sends back what it gets over TCP; `asks` does so over one connection that
// stays and over new ones (`asks-by-child`: each opened by a child of its own), and says in FILE
// how many questions were answered on either, how many new connections were refused, and how many
// microseconds the last answer took on the one that stays. Found by its marker; ends by itself
// after two minutes, whatever becomes of the test.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

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

sockaddr_in loopback(const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  return address;
}

void hold_connection(const char* port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) ::_exit(1);
}

[[noreturn]] void knock_for_ever(const char* port) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const sockaddr_in address = loopback(port);
  for (unsigned answers = 0;; ::usleep(5000)) {
    char buffer[64];
    while (::recv(fd, buffer, sizeof buffer, 0) >= 0) ++answers;
    const std::string text = "k" + std::to_string(answers);
    (void)::sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&address),
                   sizeof address);
  }
}

sockaddr_in member_address(int index, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x7f4d0001u + static_cast<std::uint32_t>(index));
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

int bound_socket(int type, const sockaddr_in& address) {
  const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) ::_exit(1);
  return fd;
}

[[noreturn]] void mesh_for_ever(const char* words) {
  int port = 0;
  int own = 0;
  int count = 0;
  int report = 0;
  if (std::sscanf(words, "%d,%d,%d,%d", &port, &own, &count, &report) != 4) ::_exit(1);
  const auto members = static_cast<std::size_t>(count);
  const int listener = bound_socket(SOCK_STREAM, member_address(own, port));
  ::listen(listener, 16);
  const int teller = bound_socket(SOCK_DGRAM, member_address(own, 0));
  const sockaddr_in told = loopback(std::to_string(report).c_str());
  std::vector<int> outgoing(members, -1);
  std::vector<std::pair<int, std::size_t>> incoming;
  std::vector<unsigned> heard(members, 0);
  for (;; ::usleep(5000)) {
    for (std::size_t peer = 0; peer < members; ++peer) {
      if (peer == static_cast<std::size_t>(own)) continue;
      if (outgoing[peer] < 0) {
        outgoing[peer] = bound_socket(SOCK_STREAM, member_address(own, 0));
        const sockaddr_in there = member_address(static_cast<int>(peer), port);
        (void)::connect(outgoing[peer], reinterpret_cast<const sockaddr*>(&there), sizeof there);
      } else if (::send(outgoing[peer], "x", 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
                 errno != ENOTCONN) {
        ::close(std::exchange(outgoing[peer], -1));
      }
    }
    sockaddr_in from{};
    socklen_t length = sizeof from;
    for (int fd; (fd = ::accept4(listener, reinterpret_cast<sockaddr*>(&from), &length,
                                 SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;)
      incoming.emplace_back(fd, ntohl(from.sin_addr.s_addr) - 0x7f4d0001u);
    char buffer[256];
    for (const auto& [fd, peer] : incoming) {
      const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
      if (got > 0 && peer < members) heard[peer] += static_cast<unsigned>(got);
    }
    std::string text = std::to_string(own);
    for (const unsigned number : heard) text += " " + std::to_string(number);
    (void)::sendto(teller, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&told),
                   sizeof told);
  }
}

void serve(const std::string& words) {
  const std::string address = words.substr(0, words.find(','));
  const auto port =
      htons(static_cast<std::uint16_t>(std::atoi(words.c_str() + words.find(',') + 1)));
  const bool six = address.find(':') != std::string::npos;
  sockaddr_in6 name{};
  auto& four = reinterpret_cast<sockaddr_in&>(name);
  name.sin6_family = static_cast<sa_family_t>(six ? AF_INET6 : AF_INET);
  (six ? name.sin6_port : four.sin_port) = port;
  if (six)
    ::inet_pton(AF_INET6, address.c_str(), &name.sin6_addr);
  else
    ::inet_pton(AF_INET, address.c_str(), &four.sin_addr);
  const int fd = ::socket(name.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&name), six ? sizeof name : sizeof four) != 0 ||
      ::listen(fd, 64) != 0)
    ::_exit(1);
}

// "ADDRESS,PORT,..." as a socket address of either family.
sockaddr_in6 address_of(const std::string& words, socklen_t& size) {
  const std::string address = words.substr(0, words.find(','));
  const auto port =
      htons(static_cast<std::uint16_t>(std::atoi(words.c_str() + words.find(',') + 1)));
  sockaddr_in6 name{};
  auto& four = reinterpret_cast<sockaddr_in&>(name);
  const bool six = address.find(':') != std::string::npos;
  name.sin6_family = static_cast<sa_family_t>(six ? AF_INET6 : AF_INET);
  (six ? name.sin6_port : four.sin_port) = port;
  ::inet_pton(name.sin6_family, address.c_str(),
              six ? static_cast<void*>(&name.sin6_addr) : &four.sin_addr);
  size = six ? sizeof name : sizeof four;
  return name;
}

[[noreturn]] void echo_for_ever(const std::string& words) {
  socklen_t size = 0;
  sockaddr_in6 name = address_of(words, size);
  const int listener = ::socket(name.sin6_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&name), size) != 0 ||
      ::listen(listener, 64) != 0)
    ::_exit(1);
  std::vector<pollfd> waiting{{.fd = listener, .events = POLLIN, .revents = 0}};
  while (::poll(waiting.data(), waiting.size(), -1) >= 0) {
    for (int fd; (fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;)
      waiting.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    for (std::size_t i = waiting.size(); i-- > 1;) {
      char buffer[64];
      const ssize_t got = ::recv(waiting[i].fd, buffer, sizeof buffer, 0);
      if (got > 0) (void)::send(waiting[i].fd, buffer, static_cast<std::size_t>(got), MSG_NOSIGNAL);
      if (got > 0 || (got < 0 && errno == EAGAIN)) continue;
      ::close(waiting[i].fd);
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  ::_exit(1);
}

long microseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

bool answered(int fd, int limit_ms) {
  pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
  char answer = 0;
  return ::poll(&request, 1, limit_ms) == 1 && ::recv(fd, &answer, 1, MSG_DONTWAIT) == 1;
}

// One question over a new connection: 0 when answered, 1 when refused, 2 when nothing came.
int ask_anew(const sockaddr_in6& name, socklen_t size) {
  constexpr int kLimit = 300;
  const int fd = ::socket(name.sin6_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int error = ::connect(fd, reinterpret_cast<const sockaddr*>(&name), size) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd request{.fd = fd, .events = POLLOUT, .revents = 0};
    error = ETIMEDOUT;
    socklen_t length = sizeof error;
    if (::poll(&request, 1, kLimit) == 1) ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  }
  int result = error == ECONNREFUSED ? 1 : 2;
  if (error == 0 && ::send(fd, "n", 1, MSG_NOSIGNAL) == 1 && answered(fd, kLimit)) result = 0;
  ::close(fd);
  return result;
}

[[noreturn]] void ask_for_ever(const std::string& words, bool by_child) {
  socklen_t size = 0;
  const sockaddr_in6 name = address_of(words, size);
  const std::string path = words.substr(words.rfind(',') + 1);
  const int report = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  const int live = ::socket(name.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  ::setsockopt(live, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (::connect(live, reinterpret_cast<const sockaddr*>(&name), size) != 0) ::_exit(1);
  unsigned on_live = 0;
  unsigned fresh[3] = {};
  long asked = 0;
  long last = 0;
  for (;; ::usleep(2000)) {
    if (asked == 0 && ::send(live, "l", 1, MSG_NOSIGNAL) == 1) asked = microseconds();
    int result = 2;
    if (by_child) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(ask_anew(name, size));
      int status = 0;
      if (child > 0 && ::waitpid(child, &status, 0) == child) result = WEXITSTATUS(status) % 3;
    } else {
      result = ask_anew(name, size);
    }
    ++fresh[result];
    if (asked != 0 && answered(live, 2)) {
      ++on_live;
      last = microseconds() - std::exchange(asked, 0);
    }
    std::array<char, 64> text{};
    const int length = std::snprintf(text.data(), text.size(), "%10u %10u %10u %10ld\n", on_live,
                                     fresh[0], fresh[1], last);
    if (::pwrite(report, text.data(), static_cast<std::size_t>(length), 0) != length) ::_exit(1);
  }
}

void enter_group(const std::string& folder) {
  const int fd = ::open((folder + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ::write(fd, "0", 1) != 1) ::_exit(1);
  ::close(fd);
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
    if (word.starts_with("group=")) enter_group(word.substr(6));
    if (word.starts_with("serve=")) serve(word.substr(6));
    if (word.starts_with("echoes=")) echo_for_ever(word.substr(7));
    if (word.starts_with("asks=")) ask_for_ever(word.substr(5), /*by_child=*/false);
    if (word.starts_with("asks-by-child=")) ask_for_ever(word.substr(14), /*by_child=*/true);
    if (word.starts_with("connect=")) hold_connection(argv[i] + 8);
    if (word.starts_with("knock=")) knock_for_ever(argv[i] + 6);
    if (word.starts_with("mesh=")) mesh_for_ever(argv[i] + 5);
    if (word == "burns") burn_for_ever();
    if (word.starts_with("caches=")) cache(argv[i] + 7);
    if (word == "grows") grow_for_ever();
    if (word.starts_with("opens=")) report_for_ever(argv[i] + 6, open_some);
    if (word.starts_with("clock="))
      report_for_ever(argv[i] + 6, [] { return static_cast<int>(::time(nullptr)); });
    if (word.starts_with("starts=")) report_for_ever(argv[i] + 7, start_one);
    if (word.starts_with("writes=")) write_for_ever(argv[i] + 7);
  }
  if (forks) fork_for_ever();
  while (true) ::pause();
}
