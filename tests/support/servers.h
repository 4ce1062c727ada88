#pragma once
// Real servers for tests, each in a temporary folder and on a free loopback port. They end with the
// object, and with the test process however that ends (PR_SET_PDEATHSIG; PostgreSQL's children end
// with their parent).

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace squall::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = "/tmp/squall-test-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = path;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name, std::string_view content) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

 private:
  std::string path_;
};

// A port that was free a moment ago.
inline std::uint16_t free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error("no free port");
  }
  close(fd);
  return ntohs(address.sin_port);
}

inline bool accepts_connections(std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const bool accepted = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return accepted;
}

// Polls `condition` until it holds; false after `limit`.
inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// A child process; killed and waited for when destroyed.
class ServerProcess {
 public:
  ServerProcess() = default;
  // As `user` when that is given and we are root. Output goes to `log`.
  ServerProcess(const std::vector<std::string>& argv, const std::string& log,
                const std::string& user = {}) {
    std::vector<char*> arguments;
    for (const std::string& argument : argv)
      arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const passwd* account = user.empty() || geteuid() != 0 ? nullptr : getpwnam(user.c_str());
    const uid_t uid = account != nullptr ? account->pw_uid : 0;
    const gid_t gid = account != nullptr ? account->pw_gid : 0;
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) return;
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    dup2(out, 1);
    dup2(out, 2);
    if (account != nullptr &&
        (setgroups(0, nullptr) != 0 || setgid(gid) != 0 || setuid(uid) != 0)) {
      _exit(126);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // after setuid, which clears it
    if (getppid() != parent) _exit(125);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  ~ServerProcess() { stop(SIGKILL); }
  ServerProcess(ServerProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  ServerProcess& operator=(ServerProcess&& other) noexcept {
    stop(SIGKILL);
    pid_ = std::exchange(other.pid_, -1);
    return *this;
  }
  pid_t pid() const { return pid_; }
  void signal(int number) const { kill(pid_, number); }
  // Sends the signal and waits for the end.
  int stop(int number) {
    if (pid_ <= 0) return 0;
    kill(pid_, number);
    return wait();
  }
  int wait() {
    int status = 0;
    if (pid_ > 0) waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
};

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void require_listening(std::uint16_t port, const std::string& log) {
  if (!eventually([port] { return accepts_connections(port); })) {
    throw std::runtime_error("a server did not start: " + read_text(log));
  }
}

// nginx as one process. `locations` is the inside of the server block.
class NginxServer {
 public:
  explicit NginxServer(const std::string& locations = "location / { return 200 \"hello\\n\"; }",
                       const std::string& listen_options = "")
      : port_(free_port()) {
    const std::string& path = directory_.path();
    directory_.file("nginx.conf",
                    "daemon off;\nmaster_process off;\nworker_processes 1;\npid " + path +
                        "/nginx.pid;\n" + "error_log " + path + "/error.log;\n" +
                        "events { worker_connections 4096; }\n" +
                        "http {\n access_log off;\n keepalive_requests 100000000;\n" +
                        " client_body_temp_path " + path + "/body;\n" + " proxy_temp_path " + path +
                        "/proxy;\n" + " fastcgi_temp_path " + path + "/fastcgi;\n" +
                        " uwsgi_temp_path " + path + "/uwsgi;\n" + " scgi_temp_path " + path +
                        "/scgi;\n" + " server { listen 127.0.0.1:" + std::to_string(port_) + " " +
                        listen_options + ";\n" + locations + "\n }\n}\n");
    start();
  }
  void start() {
    process_ = ServerProcess(
        {"nginx", "-c", directory_.path() + "/nginx.conf", "-e", directory_.path() + "/error.log"},
        directory_.path() + "/out.log");
    require_listening(port_, directory_.path() + "/error.log");
  }
  void stop() { process_.stop(SIGTERM); }
  ~NginxServer() { stop(); }
  std::uint16_t port() const { return port_; }
  pid_t pid() const { return process_.pid(); }
  std::string url(const std::string& path = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }
  const std::string& directory() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
  std::uint16_t port_;
  ServerProcess process_;
};

class RedisServer {
 public:
  explicit RedisServer(const std::string& password = {}) : port_(free_port()), password_(password) {
    start();
  }
  void start() {
    std::vector<std::string> argv = {"redis-server",    "--port",    std::to_string(port_),
                                     "--bind",          "127.0.0.1", "--dir",
                                     directory_.path(), "--save",    "",
                                     "--appendonly",    "no"};
    if (!password_.empty()) argv.insert(argv.end(), {"--requirepass", password_});
    process_ = ServerProcess(argv, directory_.path() + "/redis.log");
    require_listening(port_, directory_.path() + "/redis.log");
  }
  void stop() { process_.stop(SIGTERM); }
  ServerProcess& process() { return process_; }
  std::uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  TemporaryDirectory directory_;
  std::uint16_t port_;
  std::string password_;
  ServerProcess process_;
};

// A cluster of its own, as user postgres when we are root.
class PostgresServer {
 public:
  // `options`: more words for its command line; by default it does not wait for disks.
  explicit PostgresServer(std::vector<std::string> options = {})
      : port_(free_port()), options_(std::move(options)) {
    const std::string& path = directory_.path();
    if (geteuid() == 0) {
      const passwd* account = getpwnam("postgres");
      if (account == nullptr || chown(path.c_str(), account->pw_uid, account->pw_gid) != 0) {
        throw std::runtime_error("there is no user postgres");
      }
    }
    ServerProcess initialise(
        {program("initdb"), "-D", path + "/data", "-U", "postgres", "-A", "trust", "--no-sync",
         "--no-instructions", "-E", "UTF8", "--locale=C"},
        path + "/initdb.log", "postgres");
    if (initialise.wait() != 0) throw std::runtime_error(read_text(path + "/initdb.log"));
    start();
  }
  ~PostgresServer() { process_.stop(SIGQUIT); }
  void start() {
    const std::string& path = directory_.path();
    std::vector<std::string> argv = {program("postgres"),
                                     "-D",
                                     path + "/data",
                                     "-p",
                                     std::to_string(port_),
                                     "-c",
                                     "listen_addresses=127.0.0.1",
                                     "-c",
                                     "unix_socket_directories=",
                                     "-c",
                                     "fsync=off",
                                     "-c",
                                     "shared_buffers=16MB"};
    argv.insert(argv.end(), options_.begin(), options_.end());
    process_ = ServerProcess(argv, path + "/postgres.log", "postgres");
    // It listens before it lets anybody in.
    const std::vector<std::string> ask = {program("pg_isready"), "-q", "-h",
                                          "127.0.0.1",           "-p", std::to_string(port_)};
    if (!eventually([&] { return ServerProcess(ask, path + "/ready.log").wait() == 0; })) {
      throw std::runtime_error("PostgreSQL did not start: " + read_text(path + "/postgres.log"));
    }
  }
  void stop() { process_.stop(SIGINT); }
  ServerProcess& process() { return process_; }
  std::uint16_t port() const { return port_; }
  std::string directory() const { return directory_.path() + "/data"; }
  std::string dsn() const {
    return "host=127.0.0.1 port=" + std::to_string(port_) + " dbname=postgres user=postgres";
  }

 private:
  static std::string program(const std::string& name) {
    for (const char* version : {"17", "16", "15"}) {
      std::string path = std::string("/usr/lib/postgresql/") + version + "/bin/" + name;
      if (access(path.c_str(), X_OK) == 0) return path;
    }
    return name;
  }
  TemporaryDirectory directory_;
  std::uint16_t port_;
  std::vector<std::string> options_;
  ServerProcess process_;
};

class PrometheusServer {
 public:
  static bool installed() { return access("/usr/bin/prometheus", X_OK) == 0; }
  PrometheusServer() : port_(free_port()) {
    const std::string config =
        directory_.file("prometheus.yml",
                        "scrape_configs:\n- job_name: self\n  scrape_interval: 1s\n"
                        "  static_configs:\n  - targets: ['127.0.0.1:" +
                            std::to_string(port_) + "']\n");
    process_ = ServerProcess({"prometheus", "--config.file=" + config,
                              "--storage.tsdb.path=" + directory_.path() + "/data",
                              "--web.listen-address=127.0.0.1:" + std::to_string(port_)},
                             directory_.path() + "/prometheus.log");
    require_listening(port_, directory_.path() + "/prometheus.log");
  }
  std::uint16_t port() const { return port_; }

 private:
  TemporaryDirectory directory_;
  std::uint16_t port_;
  ServerProcess process_;
};

// A TCP server in this process whose every connection runs `serve` on a thread of its own: for
// answers that no real server gives.
class ScriptedServer {
 public:
  class Connection {
   public:
    explicit Connection(int fd, std::stop_token stop) : fd_(fd), stop_(std::move(stop)) {}
    // The next request with its body; empty when the client has closed.
    std::string read_request() {
      std::string text;
      char c = 0;
      while (!text.ends_with("\r\n\r\n")) {
        if (recv(fd_, &c, 1, 0) != 1) return {};
        text += c;
      }
      const std::size_t at = text.find("Content-Length: ");
      const int length = at == std::string::npos ? 0 : std::atoi(text.c_str() + at + 16);
      for (int i = 0; i < length; ++i) {
        if (recv(fd_, &c, 1, 0) != 1) return {};
        text += c;
      }
      return text;
    }
    void send(std::string_view bytes) {
      while (!bytes.empty()) {
        const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) return;
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      }
    }
    // Reset instead of an orderly end.
    void reset() {
      const linger at_once{.l_onoff = 1, .l_linger = 0};
      setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    // Says nothing until the client or the test gives up.
    void stall() {
      char c = 0;
      while (!stop_.stop_requested() && recv(fd_, &c, 1, 0) > 0) {
      }
    }
    bool stopping() const { return stop_.stop_requested(); }
    int fd() const { return fd_; }

   private:
    int fd_;
    std::stop_token stop_;
  };

  explicit ScriptedServer(std::function<void(Connection&)> serve) : serve_(std::move(serve)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        listen(listener_, 4096) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("no port for a scripted server");
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::jthread([this](std::stop_token stop) { accept_all(stop); });
  }
  ~ScriptedServer() {
    acceptor_.request_stop();
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (std::jthread& thread : threads_) thread.request_stop();
    threads_.clear();
  }
  std::uint16_t port() const { return port_; }
  std::string url(const std::string& path = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }
  int accepted() const { return accepted_.load(); }

 private:
  void accept_all(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      ++accepted_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd](std::stop_token connection_stop) {
        Connection connection(fd, std::move(connection_stop));
        serve_(connection);
        const std::lock_guard closing(mutex_);
        open_.remove(fd);
        close(fd);
      });
    }
  }
  std::function<void(Connection&)> serve_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> accepted_{0};
  std::mutex mutex_;
  std::list<int> open_;
  std::list<std::jthread> threads_;
  std::jthread acceptor_;
};

}  // namespace squall::test
