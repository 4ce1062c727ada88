// A process for tests to break: `victim_for_tests MARKER [children=N] [ignore-term] [forks]
// [group=FOLDER] [connect=PORT] [knock=PORT]`. `connect` holds a TCP connection to a loopback port;
// `knock` sends it a datagram every 5 ms, which says how many answers came.
// Found by its marker; ends by itself after two minutes, whatever becomes of the test.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
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

void enter_group(const std::string& folder) {
  const int fd = ::open((folder + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ::write(fd, "0", 1) != 1) ::_exit(1);
  ::close(fd);
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
    if (word.starts_with("connect=")) hold_connection(argv[i] + 8);
    if (word.starts_with("knock=")) knock_for_ever(argv[i] + 6);
  }
  if (forks) fork_for_ever();
  while (true) ::pause();
}
