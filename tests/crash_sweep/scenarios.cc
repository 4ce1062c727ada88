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
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"
#include "support/fake_systemd.h"

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

// Does not contain the folder's path, by which the target is known.
std::string own_user_mark(const std::string& folder) {
  return "own-user-of-" + folder.substr(folder.rfind('/') + 1);
}
constexpr uid_t kOwnUser = 47'054;  // nobody else's on any host

}  // namespace

base::Result<Stage> Stage::make(const std::string& folder) {
  SQUALL_TRY(enter_namespaces());
  Stage stage;
  stage.folder_ = folder;
  if (::access("/usr/bin/systemctl", X_OK) == 0) {
    SQUALL_TRY(test::stand_in_for_systemd(folder));
    SQUALL_TRY(test::write_fake_unit("sweep.service"));
  }
  const std::string disk = folder + "/disk";
  SQUALL_TRY(base::make_directories(disk));
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=1m,nr_inodes=100") != 0)
    return base::system_error("mount a filesystem", errno);
  SQUALL_TRY(base::make_directories(base::join_path(folder, "data")));
  std::uint16_t port = 0;
  SQUALL_ASSIGN(stage.listener_, listen_on_loopback(port));
  model::Service target;
  target.name = "target";
  target.process.exe = "victim_for_tests";
  target.process.argv_contains = folder;
  target.start = {VICTIM_PROGRAM, folder};
  target.expected_members = 1;
  model::Service own_user;
  own_user.name = "own-user";
  own_user.process.exe = "victim_for_tests";
  own_user.process.argv_contains = own_user_mark(folder);
  model::Service server;
  server.name = "server";
  server.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
  model::Service users;
  users.name = "users";
  users.external = true;
  users.depends_on = {"server"};
  model::Service box;
  box.name = "box";
  box.container.name = "box";
  stage.map_.services = {target, own_user, server, users, box};
  stage.map_.name = "crash-sweep";
  stage.map_.directory = folder;
  stage.map_.file = folder + "/squall.yaml";
  return stage;
}

const model::Service& Stage::target_of(const Scenario& scenario) const {
  return scenario.kind.starts_with("container.") ? map_.services.back() : target();
}

std::string Stage::missing_for(const Scenario& scenario) const {
  return scenario.kind.starts_with("container.") ? test::Podman::missing() : std::string{};
}

base::Status Stage::set_up(const Scenario& scenario) {
  if (&target_of(scenario) != &target()) {
    if (podman_) return {};
    // Below a name that the snapshot leaves out: an engine writes as it likes.
    const std::string home = folder_ + "/state-podman";
    SQUALL_TRY(base::make_directories(home));
    podman_ = std::make_unique<test::Podman>(home);
    SQUALL_TRY(podman_->start_service());
    podman_->start("box");
    return {};
  }
  // It ends by itself after two minutes, so that none is left behind.
  if (base::BootClock::now() - started_ > std::chrono::seconds(60)) tear_down();
  SQUALL_ASSIGN(const auto members, host::find_members(host::real_host(), target()));
  if (!members.empty()) return {};
  started_ = base::BootClock::now();
  base::SpawnOptions options;
  options.argv = target().start;
  options.new_session = true;
  SQUALL_ASSIGN(auto child, base::spawn(options));
  SQUALL_TRY(end_own_user());
  SQUALL_ASSIGN(own_user_, base::spawn({.argv = {VICTIM_PROGRAM, own_user_mark(folder_)},
                                        .user = kOwnUser,
                                        .parent_death_signal = SIGKILL}));
  return {};
}

base::Status Stage::end_own_user() {
  if (!own_user_.pidfd().valid()) return {};
  if (!own_user_.pidfd().ended()) SQUALL_TRY(own_user_.pidfd().signal(SIGKILL));
  SQUALL_ASSIGN([[maybe_unused]] const int status, own_user_.wait(std::chrono::seconds(5)));
  return {};
}

void Stage::tear_down() {
  podman_.reset();
  const auto members = host::find_members(host::real_host(), target());
  if (!members.ok()) return;
  for (const host::Member& member : *members) {
    const auto process = base::PidFd::open(member.process.identity);
    if (!process.ok() || !process->signal(SIGKILL).ok()) continue;
    pollfd request{.fd = process->get(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 5000);
  }
}

// A new kind is one line here. FOLDER stands for the stage's folder, in which `disk` is a
// filesystem of its own.
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
      {"process.unit_stop", "process.unit_stop", R"({"unit": "sweep", "timeout": 20000000000})"},
      {"clock.jump", "clock.jump",
       R"({"service": "target", "count": 1, "random": true, "offset": 3600000000000,
           "direction": "back", "grace": 5000000000, "limit": 20000000000})"},
      {"clock.skew", "clock.skew",
       R"({"service": "target", "count": 1, "random": true, "offset": 86400000000000,
           "direction": "forward", "rate": 1.5, "grace": 5000000000, "limit": 20000000000})"},
      {"network.partition", "network.partition", R"({"from": "users", "to": "server"})"},
      {"network.refuse", "network.refuse", R"({"service": "server"})"},
      {"network.blackhole", "network.blackhole",
       R"({"from": "users", "to": "server", "direction": "both"})"},
      // The replies to one of several callers of the same user: BPF tells them apart.
      {"network.blackhole.marked", "network.blackhole",
       R"({"from": "target", "to": "server", "direction": "replies"})"},
      {"network.loss", "network.loss",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.5})"},
      {"network.reset", "network.reset", R"({"from": "users", "to": "server", "new": "refuse"})"},
      {"network.latency", "network.latency",
       R"({"from": "users", "to": "server", "direction": "both", "delay": 10000000,
           "jitter": 1000000, "distribution": "normal", "keep_order": true})"},
      {"network.dns", "network.dns",
       R"({"service": "own-user", "name": "*.internal", "answer": "nxdomain"})"},
      {"resource.memory_fill", "resource.memory_fill", R"({"size": 4194304, "reserve": 67108864})"},
      {"resource.inodes", "resource.inodes", R"({"path": "FOLDER/disk", "leave": "10"})"},
      {"resource.io_saturation", "resource.io_saturation",
       R"({"path": "FOLDER", "operation": "mixed", "depth": 2, "block": 65536, "share": 0.2,
           "size": 1048576, "total": 1073741824})"},
      {"resource.descriptors", "resource.descriptors",
       R"({"service": "target", "count": 1, "random": true, "limit": 64})",
       "prlimit --pid PID --nofile=111:20000"},
      {"resource.port", "resource.port",
       R"({"port": 47113, "address": "127.0.0.1", "protocol": "tcp"})"},
      {"disk.latency", "disk.latency",
       R"({"service": "target", "count": 1, "random": true, "path": "data", "tree": true,
           "delay": 10000000, "jitter": 0, "opens": true, "reads": true, "writes": true,
           "syncs": true, "share": 1.0, "open_files": "trace"})"},
      {"disk.errors", "disk.errors",
       R"({"service": "target", "count": 1, "random": true, "path": "data", "tree": true,
           "error": "EIO", "opens": true, "reads": false, "writes": false, "syncs": false,
           "share": 1.0, "open_files": "none"})"},
      // The only call that the target makes.
      {"syscall.fault", "syscall.fault",
       R"({"service": "target", "count": 1, "random": true, "calls": ["pause"],
           "delay": 20000000, "jitter": 0, "done": false, "share": 1.0, "children": true})"},
      {"container.pause", "container.pause", R"({"service": "box", "count": 1, "random": true})"},
      {"command", "command",
       R"({"argv": ["/usr/bin/touch", "made-by-a-fault"],
           "revert_argv": ["/bin/rm", "-f", "made-by-a-fault"],
           "timeout": 5000000000})"},
  };
  return kAll;
}

base::Result<model::FaultBinding> bind(const Stage& stage, const Scenario& scenario) {
  std::string text = scenario.parameters;
  for (std::size_t at = text.find("FOLDER"); at != std::string::npos; at = text.find("FOLDER"))
    text.replace(at, 6, stage.folder());
  SQUALL_ASSIGN(base::Json parameters, base::parse_json(text));
  const inject::FaultKind* kind = inject::find_kind(scenario.kind);
  if (kind == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound, .message = "no kind " + scenario.kind};
  // Relative to the stage's folder, as in a system map.
  if (parameters.contains("path"))
    parameters["path"] = base::join_path(stage.folder(), parameters["path"].get<std::string>());
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
