// The real host against the real kernel: children of ours, sockets on loopback.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "base/files.h"
#include "base/process.h"
#include "host/containers.h"
#include "host/host.h"

namespace squall::host {
namespace {

using base::ErrorCode;
using base::UniqueFd;
using namespace std::chrono_literals;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

UniqueFd listen_on_loopback(std::uint16_t& port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address = loopback(0);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(fd.get(), 8), 0);
  socklen_t size = sizeof address;
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  port = ntohs(address.sin_port);
  return fd;
}

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const sockaddr_in address = loopback(port);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// Programs are copies of sleep(1) under names of their own, so that no other test's are found. They
// die with this thread, however it ends.
class RealHost : public testing::Test {
 protected:
  RealHost() : folder_(base::make_temporary_directory("squall-host-").value()) {
    // The name in the folder's path makes each test's programs unlike any other's.
    tag_ = folder_.substr(folder_.size() - 6);
  }
  ~RealHost() override {
    for (base::ChildProcess& child : children_) {
      static_cast<void>(child.pidfd().signal(SIGKILL));
      static_cast<void>(child.wait(30s));
    }
    std::filesystem::remove_all(folder_);
  }

  std::string program(const std::string& name) {
    const std::string path = base::join_path(folder_, name + "-" + tag_);
    if (!std::filesystem::exists(path)) std::filesystem::copy_file("/bin/sleep", path);
    return path;
  }

  // Starts a copy of sleep that holds the given descriptor.
  pid_t start(const std::string& name, int holding = -1) {
    base::SpawnOptions options{.argv = {program(name), "600"}, .parent_death_signal = SIGKILL};
    if (holding >= 0) options.pass = {{holding, 5}};
    return start(options);
  }

  pid_t start(const base::SpawnOptions& options) {
    auto child = base::spawn(options);
    EXPECT_TRUE(child.ok()) << child.error().to_string();
    children_.push_back(std::move(child).value());
    return children_.back().pid();
  }

  std::vector<pid_t> found(const model::Service& service) {
    const auto members = find_members(real_host(), service);
    EXPECT_TRUE(members.ok()) << members.error().to_string();
    std::vector<pid_t> pids;
    if (!members.ok()) return pids;
    for (const Member& member : *members) pids.push_back(member.process.identity.pid);
    return pids;
  }

  std::string folder_;
  std::string tag_;
  std::vector<base::ChildProcess> children_;
};

TEST_F(RealHost, DescribesProcesses) {
  const pid_t pid = start("described");
  auto process = real_host().process(pid).value();
  // The kernel lets spawn() go on a moment before the new program's arguments can be seen.
  while (process.argv.empty()) process = real_host().process(pid).value();
  EXPECT_EQ(process.identity, base::identify_process(pid).value());
  EXPECT_EQ(process.parent, ::getpid());
  EXPECT_EQ(process.user, ::getuid());
  EXPECT_EQ(process.executable, program("described"));
  EXPECT_EQ(process.argv, (std::vector<std::string>{program("described"), "600"}));
  EXPECT_EQ(process.name, ("described-" + tag_).substr(0, 15));
  EXPECT_GT(process.network_namespace, 0u);
  const auto all = real_host().processes().value();
  EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const Process& each) {
    return each.identity == process.identity && each.argv == process.argv;
  }));
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](const Process& a, const Process& b) {
    return a.identity.pid < b.identity.pid;
  }));
  EXPECT_EQ(real_host().process(-1).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(real_host().self(), ::getpid());
  EXPECT_FALSE(real_host().hostname().value().empty());
}

TEST_F(RealHost, KnowsReplacedPrograms) {
  const pid_t pid = start("upgraded");
  const std::string path = program("upgraded");
  std::filesystem::remove(path);
  EXPECT_EQ(real_host().process(pid).value().executable, path);
}

TEST_F(RealHost, MeasuresUsage) {
  const auto self = base::identify_process(::getpid()).value();
  const auto before = real_host().usage(self).value();
  EXPECT_GT(before.resident_bytes, 100'000u);
  EXPECT_GE(before.threads, 1u);
  std::vector<UniqueFd> more;
  for (int i = 0; i < 10; ++i) more.emplace_back(::dup(0));
  volatile double sink = 0;
  while (real_host().usage(self).value().processor_seconds < before.processor_seconds + 0.05)
    for (int i = 0; i < 1000; ++i) sink = sink + i;
  EXPECT_EQ(real_host().usage(self).value().descriptors, before.descriptors + 10);
  auto reborn = self;
  ++reborn.start_time;
  EXPECT_EQ(real_host().usage(reborn).error().code, ErrorCode::kNotFound);
}

TEST_F(RealHost, SocketsHaveOwnersAndCookies) {
  std::uint16_t port = 0;
  const UniqueFd listener = listen_on_loopback(port);
  const UniqueFd client = connect_to(port);
  const UniqueFd server{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  ASSERT_EQ(::getsockopt(client.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
  int listening = 0;
  int clients = 0;
  int servers = 0;
  for (const Socket& socket : real_host().sockets(Host::Owners::kResolve).value()) {
    if (socket.protocol != "tcp" || (socket.local.port != port && socket.remote.port != port))
      continue;
    EXPECT_EQ(socket.local.address, "127.0.0.1");
    if (socket.owners.empty()) continue;  // an earlier user of the port
    EXPECT_EQ(socket.owners, (std::vector<pid_t>{::getpid()}));
    listening += socket.state == SocketState::kListening;
    servers += socket.state == SocketState::kEstablished && socket.local.port == port;
    if (socket.remote.port == port) {
      ++clients;
      EXPECT_EQ(socket.cookie, cookie);
    }
  }
  EXPECT_EQ(listening, 1);
  EXPECT_EQ(clients, 1);
  EXPECT_EQ(servers, 1);
}

TEST_F(RealHost, BothEndsOfAMappedConnectionCompareEqual) {
  const UniqueFd listener{::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!listener.valid()) GTEST_SKIP() << "needs IPv6";
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  socklen_t size = sizeof address;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const std::uint16_t port = ntohs(address.sin6_port);
  const UniqueFd client = connect_to(port);
  const UniqueFd server{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  std::optional<Socket> client_end;
  std::optional<Socket> server_end;
  for (const Socket& socket : real_host().sockets(Host::Owners::kSkip).value()) {
    if (socket.state != SocketState::kEstablished) continue;
    if (socket.remote.port == port) client_end = socket;
    if (socket.local.port == port) server_end = socket;
  }
  ASSERT_TRUE(client_end && server_end);
  EXPECT_EQ(server_end->protocol, "tcp6");
  EXPECT_EQ(client_end->local, server_end->remote);
  EXPECT_EQ(client_end->remote, server_end->local);
}

TEST_F(RealHost, FindsMembersByProgramAndByListener) {
  std::uint16_t port = 0;
  UniqueFd listener = listen_on_loopback(port);
  const pid_t first = start("worker");
  const pid_t second = start("worker", listener.get());
  listener.reset();
  model::Service service{.name = "worker"};
  service.process.exe = "worker-" + tag_;
  EXPECT_EQ(found(service).size(), 2u);
  service.expected_members = 1;
  service.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
  EXPECT_EQ(found(service), (std::vector<pid_t>{second}));
  service.process = {};
  EXPECT_EQ(found(service), (std::vector<pid_t>{second}));
  service.process.argv_contains = folder_;
  service.listens.reset();
  EXPECT_EQ(found(service).size(), 2u);
  EXPECT_NE(first, second);
}

TEST_F(RealHost, TheListenersOwnerIsNotAChildThatInheritedIt) {
  std::uint16_t port = 0;
  UniqueFd listener = listen_on_loopback(port);
  // The shell and the program that it starts both hold the socket.
  base::SpawnOptions options{.argv = {"/bin/sh", "-c", "\"$0\" 600 & wait", program("backend")},
                             .parent_death_signal = SIGKILL};
  options.new_session = true;
  options.pass = {{listener.get(), 5}};
  const pid_t shell = start(options);
  listener.reset();
  model::Service backend{.name = "backend"};
  backend.process.exe = "backend-" + tag_;
  std::vector<pid_t> backends;
  while (backends.empty()) {  // until the shell has started it
    ASSERT_FALSE(children_.back().pidfd().ended());
    backends = found(backend);
    std::this_thread::sleep_for(5ms);
  }
  const auto inner = base::PidFd::open(backends[0]).value();
  model::Service service{.name = "db"};
  service.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
  EXPECT_EQ(found(service), (std::vector<pid_t>{shell}));
  EXPECT_TRUE(inner.signal(SIGKILL).ok());
}

TEST_F(RealHost, FindsUnixListeners) {
  const std::string path = base::join_path(folder_, "socket");
  UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  UniqueFd client{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  UniqueFd accepted{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  bool client_seen = false;
  for (const Socket& socket : real_host().sockets(Host::Owners::kSkip).value())
    client_seen = client_seen || socket.remote.address == path;
  EXPECT_TRUE(client_seen);
  const pid_t pid = start("unix-server", listener.get());
  listener.reset();
  accepted.reset();
  model::Service service{.name = "queue"};
  service.listens = model::ListenAddress{.unix_path = path};
  EXPECT_EQ(found(service), (std::vector<pid_t>{pid}));
}

TEST_F(RealHost, DiscoversServicesAndTheirConnections) {
  std::uint16_t port = 0;
  UniqueFd listener = listen_on_loopback(port);
  UniqueFd client = connect_to(port);
  UniqueFd server{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  base::SpawnOptions options{.argv = {program("server"), "600"}, .parent_death_signal = SIGKILL};
  options.pass = {{listener.get(), 5}, {server.get(), 6}};
  const pid_t server_pid = start(options);
  start("client", client.get());
  listener.reset();
  server.reset();
  client.reset();
  const auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), ::tolower);
    return text;
  };
  const std::string server_name = lower("server-" + tag_);
  bool server_found = false;
  bool client_found = false;
  for (const DiscoveredService& service : discover_services(real_host()).value()) {
    if (service.processes[0].executable == program("server")) {
      server_found = true;
      EXPECT_EQ(service.name, server_name);
      ASSERT_EQ(service.processes.size(), 1u);
      EXPECT_EQ(service.processes[0].identity.pid, server_pid);
      EXPECT_EQ(service.listens, (std::vector<Endpoint>{{"127.0.0.1", port}}));
    } else if (service.processes[0].executable == program("client")) {
      client_found = true;
      EXPECT_EQ(service.depends_on, (std::vector<std::string>{server_name}));
    }
  }
  EXPECT_TRUE(server_found);
  EXPECT_TRUE(client_found);
}

TEST_F(RealHost, WithoutPrivilegeItSaysWhatIsHidden) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to have something to hide";
  start("secret");
  model::Service service{.name = "secret"};
  service.process.exe = "secret-" + tag_;
  EXPECT_EQ(found(service).size(), 1u);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
    const auto members = find_members(real_host(), service);
    ::_exit(!members.ok() && members.error().code == ErrorCode::kPermission ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// A container engine that answers one request and closes.
class Engine {
 public:
  Engine(std::string path, std::string answer) : path_(std::move(path)) {
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    thread_ = std::thread([this, answer = std::move(answer)] {
      const UniqueFd connection{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      char request[1024];
      const ssize_t size = ::recv(connection.get(), request, sizeof request, 0);
      request_.assign(request, static_cast<std::size_t>(std::max<ssize_t>(0, size)));
      static_cast<void>(base::write_all(connection.get(), answer));
    });
  }
  ~Engine() { thread_.join(); }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  const std::string& request() {
    thread_.join();
    thread_ = std::thread([] {});
    return request_;
  }

 private:
  std::string path_;
  UniqueFd listener_;
  std::string request_;
  std::thread thread_;
};

TEST_F(RealHost, AsksContainerEngines) {
  const std::string path = base::join_path(folder_, "engine.sock");
  auto engine = std::make_unique<Engine>(
      path,
      "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
      R"([{"Id":"ab12","Names":["/queue"],"Image":"redis:7","Labels":{"app":"q"}}])");
  const auto containers = read_containers({base::join_path(folder_, "absent"), path});
  ASSERT_TRUE(containers.ok()) << containers.error().to_string();
  ASSERT_EQ(containers->size(), 1u);
  EXPECT_EQ((*containers)[0].name, "queue");
  EXPECT_EQ((*containers)[0].labels.at("app"), "q");
  EXPECT_TRUE(engine->request().starts_with("GET /containers/json?all=true HTTP/1.1\r\n"));
  engine.reset();
  EXPECT_TRUE(read_containers({path}).value_or({Container{}}).empty())
      << "its socket is still there, but nobody listens";
}

TEST_F(RealHost, DistrustsAnswersThatAreNone) {
  const std::string path = base::join_path(folder_, "engine.sock");
  {
    Engine engine(path, "HTTP/1.0 500 Internal Server Error\r\n\r\noh no");
    EXPECT_EQ(read_containers({path}).error().code, ErrorCode::kUnsupported);
  }
  std::filesystem::remove(path);
  Engine engine(path, "HTTP/1.0 200 OK\r\n\r\n{\"not\": \"a list\"}");
  EXPECT_FALSE(read_containers({path}).ok());
}

}  // namespace
}  // namespace squall::host
