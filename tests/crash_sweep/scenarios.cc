#include "scenarios.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"

namespace squall::crash_sweep {

namespace {

base::Status enter_namespaces() {
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0)
    return base::system_error("make a network namespace", errno);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return base::system_error("make mounts private", errno);
  const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
    return base::system_error("set up loopback", errno);
  return {};
}

base::Result<base::UniqueFd> listen_on_loopback(std::uint16_t& port) {
  base::UniqueFd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(listener.get(), 16) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length) != 0)
    return base::system_error("listen on loopback", errno);
  port = ntohs(name.sin_port);
  return listener;
}

}  // namespace

base::Result<Stage> Stage::make(const std::string& folder) {
  SQUALL_TRY(enter_namespaces());
  Stage stage;
  stage.folder_ = folder;
  std::uint16_t port = 0;
  SQUALL_ASSIGN(stage.listener_, listen_on_loopback(port));
  model::Service target;
  target.name = "target";
  target.process.exe = "victim_for_tests";
  target.process.argv_contains = folder;
  target.start = {VICTIM_PROGRAM, folder};
  target.expected_members = 1;
  model::Service server;
  server.name = "server";
  server.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
  model::Service users;
  users.name = "users";
  users.external = true;
  users.depends_on = {"server"};
  stage.map_.services = {target, server, users};
  stage.map_.name = "crash-sweep";
  stage.map_.directory = folder;
  stage.map_.file = folder + "/squall.yaml";
  return stage;
}

base::Status Stage::set_up() {
  // It ends by itself after two minutes, so that none is left behind.
  if (base::BootClock::now() - started_ > std::chrono::seconds(60)) tear_down();
  SQUALL_ASSIGN(const auto members, host::find_members(host::real_host(), target()));
  if (!members.empty()) return {};
  started_ = base::BootClock::now();
  base::SpawnOptions options;
  options.argv = target().start;
  options.new_session = true;
  SQUALL_ASSIGN(auto child, base::spawn(options));
  return {};
}

void Stage::tear_down() {
  const auto members = host::find_members(host::real_host(), target());
  if (!members.ok()) return;
  for (const host::Member& member : *members) {
    const auto process = base::PidFd::open(member.process.identity);
    if (!process.ok() || !process->signal(SIGKILL).ok()) continue;
    pollfd request{.fd = process->get(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 5000);
  }
}

// A new kind is one line here.
const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> kAll = {
      {"process.pause", "process.pause", R"({"service": "target", "count": 1, "random": true})",
       "prlimit --pid PID --core=4096:8192"},
      {"process.kill", "process.kill",
       R"({"service": "target", "count": 1, "random": true, "signal": "SIGKILL",
           "restore": "start", "limit": 20000000000})"},
      {"process.restart", "process.restart",
       R"({"service": "target", "count": 1, "random": true, "signal": "SIGTERM",
           "restore": "start", "grace": 2000000000, "limit": 20000000000})"},
      {"network.partition", "network.partition", R"({"from": "users", "to": "server"})"},
      {"network.refuse", "network.refuse", R"({"service": "server"})"},
      {"network.blackhole", "network.blackhole",
       R"({"from": "users", "to": "server", "direction": "both"})"},
      {"network.loss", "network.loss",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.5})"},
      {"network.reset", "network.reset", R"({"from": "users", "to": "server", "new": "refuse"})"},
      {"network.latency", "network.latency",
       R"({"from": "users", "to": "server", "direction": "both", "delay": 10000000,
           "jitter": 1000000, "distribution": "normal", "keep_order": true})"},
      {"resource.descriptors", "resource.descriptors",
       R"({"service": "target", "count": 1, "random": true, "limit": 64})",
       "prlimit --pid PID --nofile=111:20000"},
      {"resource.port", "resource.port",
       R"({"port": 47113, "address": "127.0.0.1", "protocol": "tcp"})"},
      {"command", "command",
       R"({"argv": ["/usr/bin/touch", "made-by-a-fault"],
           "revert_argv": ["/bin/rm", "-f", "made-by-a-fault"],
           "timeout": 5000000000})"},
  };
  return kAll;
}

base::Result<model::FaultBinding> bind(const Stage& stage, const Scenario& scenario) {
  SQUALL_ASSIGN(base::Json parameters, base::parse_json(scenario.parameters));
  const inject::FaultKind* kind = inject::find_kind(scenario.kind);
  if (kind == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound, .message = "no kind " + scenario.kind};
  model::FaultSpecification fault;
  fault.name = "sweep";
  fault.kind = kind->descriptor;
  fault.parameters = model::Parameters{std::move(parameters)};
  fault.duration = std::chrono::seconds(20);
  const model::PlannedFault planned = inject::describe(stage.map(), fault);
  return inject::bind({.map = stage.map(),
                       .fault = fault,
                       .planned = planned,
                       .host = host::real_host(),
                       .seed = 1});
}

}  // namespace squall::crash_sweep
