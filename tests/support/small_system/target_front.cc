// A small web server to experiment on, with known and seeded behaviour. It answers GET / with 200.
// While its worker (the process whose pid stands in --worker-pid-file) is gone, it answers with
// --down-latency more and fails a share --down-failures of the requests with 503.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <csignal>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "base/random.h"

namespace {

struct Settings {
  int port = 0;
  std::string worker_pid_file;
  std::chrono::microseconds latency{200};
  std::chrono::microseconds down_latency{0};
  double down_failures = 0;
  std::uint64_t seed = 1;
};

bool is_running(const std::string& pid_file) {
  if (pid_file.empty()) return true;
  std::ifstream file(pid_file);
  pid_t pid = 0;
  if (!(file >> pid)) return false;
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return false;
  const std::size_t end = line.rfind(')');
  if (end == std::string::npos || end + 2 >= line.size()) return false;
  const char state = line[end + 2];
  return state != 'T' && state != 't' && state != 'Z' && state != 'X';
}

void serve(int connection, const Settings& settings, std::uint64_t number) {
  squall::base::Random random(settings.seed * 1000003 + number);
  std::string input;
  char buffer[4096];
  while (true) {
    const ssize_t count = read(connection, buffer, sizeof buffer);
    if (count <= 0) break;
    input.append(buffer, static_cast<std::size_t>(count));
    std::size_t end = 0;
    while ((end = input.find("\r\n\r\n")) != std::string::npos) {
      input.erase(0, end + 4);
      const bool up = is_running(settings.worker_pid_file);
      // Exponential around the stated mean, so that quantiles differ from the mean.
      const auto mean =
          settings.latency + (up ? std::chrono::microseconds(0) : settings.down_latency);
      std::this_thread::sleep_for(std::chrono::microseconds(
          static_cast<long>(random.exponential(static_cast<double>(mean.count())))));
      const bool fail = !up && random.uniform() < settings.down_failures;
      const std::string answer = fail ? "HTTP/1.1 503 Service Unavailable\r\nRetry-After: "
                                        "1\r\nContent-Length: 5\r\n\r\nlater"
                                      : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
      if (send(connection, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
    }
  }
  close(connection);
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  Settings settings;
  if (options.count("--port")) settings.port = std::atoi(options["--port"].c_str());
  settings.worker_pid_file = options["--worker-pid-file"];
  if (options.count("--latency-us"))
    settings.latency = std::chrono::microseconds(std::atol(options["--latency-us"].c_str()));
  if (options.count("--down-latency-us"))
    settings.down_latency =
        std::chrono::microseconds(std::atol(options["--down-latency-us"].c_str()));
  if (options.count("--down-failures"))
    settings.down_failures = std::atof(options["--down-failures"].c_str());
  if (options.count("--seed"))
    settings.seed = std::strtoull(options["--seed"].c_str(), nullptr, 10);

  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(settings.port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 1024) != 0) {
    std::perror("target_front");
    return 1;
  }
  socklen_t size = sizeof address;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  for (std::uint64_t number = 0;; ++number) {
    const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread(serve, connection, std::cref(settings), number).detach();
  }
}
