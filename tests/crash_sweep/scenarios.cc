#include "scenarios.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"
#include "stage.h"

namespace squall::crash_sweep {

namespace {

constexpr std::size_t kCostly = 40;
constexpr std::size_t kSlow = 200;

bool is_staged(std::string_view kind) {
  return std::any_of(scenarios().begin(), scenarios().end(),
                     [&](const Scenario& scenario) { return scenario.kind == kind; });
}

}  // namespace

// A new kind is one line here, or says below why it is not.
const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> kAll = {
      {"process.pause", "process.pause", R"({"service": "target", "count": 1, "random": true})",
       "prlimit --pid PID --core=4096:8192"},
      {.name = "process.pause.joined",
       .kind = "process.pause",
       .parameters = R"({"service": "target", "count": 1, "random": true})",
       .joined = true,
       .sample = kSlow},
      {"process.kill", "process.kill",
       R"({"service": "target", "count": 1, "random": true, "signal": "SIGKILL",
           "restore": "start", "limit": 20000000000})"},
      {"process.crash_loop", "process.crash_loop",
       R"({"service": "target", "count": 1, "random": true, "after": 10000000, "most": 3,
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
      {.name = "network.blackhole.marked",
       .kind = "network.blackhole",
       .parameters = R"({"from": "target", "to": "server", "direction": "replies"})",
       .by_host_numbers = true},
      {"network.loss", "network.loss",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.5})"},
      {"network.reset", "network.reset", R"({"from": "users", "to": "server", "new": "refuse"})"},
      {"network.latency", "network.latency",
       R"({"from": "users", "to": "server", "direction": "both", "delay": 10000000,
           "jitter": 1000000, "distribution": "normal", "keep_order": true})"},
      {"network.bandwidth", "network.bandwidth",
       R"({"from": "users", "to": "server", "direction": "both", "rate": 1048576,
           "buffer": 100000000})"},
      {"network.burst_loss", "network.burst_loss",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.1, "burst": 5,
           "loss_between": 0.01})"},
      {"network.reorder", "network.reorder",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.2, "by": 5000000})"},
      {"network.duplicate", "network.duplicate",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.5})"},
      {"network.corrupt", "network.corrupt",
       R"({"from": "users", "to": "server", "direction": "both", "share": 0.5,
           "checksum": "wrong"})"},
      {"network.dns", "network.dns",
       R"({"service": "own-user", "name": "*.internal", "answer": "nxdomain"})"},
      {"resource.cpu_load", "resource.cpu_load", R"({"processors": 1, "load": 0.05})"},
      {.name = "resource.cpu_quota",
       .kind = "resource.cpu_quota",
       .parameters = R"({"service": "grouped", "count": 1, "random": true, "processors": 0.5})",
       .service = "grouped"},
      {.name = "resource.memory_limit",
       .kind = "resource.memory_limit",
       .parameters = R"({"service": "grouped", "count": 1, "random": true, "limit": 134217728})",
       .service = "grouped"},
      {.name = "resource.pids",
       .kind = "resource.pids",
       .parameters = R"({"service": "grouped", "count": 1, "random": true, "left": 2})",
       .service = "grouped"},
      {.name = "resource.io_throttle",
       .kind = "resource.io_throttle",
       .parameters = R"({"service": "grouped", "count": 1, "random": true, "path": "FOLDER",
                         "read_bytes": 1048576, "write_operations": 100})",
       .service = "grouped"},
      {"resource.memory_fill", "resource.memory_fill", R"({"size": 4194304, "reserve": 67108864})"},
      {"resource.disk_fill", "resource.disk_fill",
       R"({"path": "FOLDER/disk", "leave": "64KiB", "reserve": false})"},
      {"resource.inodes", "resource.inodes", R"({"path": "FOLDER/disk", "leave": "10"})"},
      {"resource.io_saturation", "resource.io_saturation",
       R"({"path": "FOLDER", "operation": "mixed", "depth": 2, "block": 65536, "share": 0.2,
           "size": 1048576, "total": 1073741824})"},
      {"resource.descriptors", "resource.descriptors",
       R"({"service": "target", "count": 1, "random": true, "limit": 64})",
       "prlimit --pid PID --nofile=111:20000"},
      {.name = "resource.descriptors.joined",
       .kind = "resource.descriptors",
       .parameters = R"({"service": "target", "count": 1, "random": true, "limit": 64})",
       .joined = true,
       .sample = kSlow},
      {"resource.port", "resource.port",
       R"({"port": 47113, "address": "127.0.0.1", "protocol": "tcp"})"},
      {"resource.connections", "resource.connections",
       R"({"service": "server", "connections": 4, "hold": "tcp"})"},
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
      {.name = "syscall.fault.joined",
       .kind = "syscall.fault",
       .parameters = R"({"service": "target", "count": 1, "random": true, "calls": ["pause"],
                         "delay": 20000000, "jitter": 0, "done": false, "share": 1.0,
                         "children": true})",
       .joined = true,
       .sample = kSlow},
      {.name = "container.pause",
       .kind = "container.pause",
       .parameters = R"({"service": "box", "count": 1, "random": true})",
       .service = "box",
       .sample = kCostly},
      {.name = "container.kill",
       .kind = "container.kill",
       .parameters = R"({"service": "box", "count": 1, "random": true, "signal": "SIGKILL",
                         "restore": "start", "limit": 20000000000})",
       .service = "box",
       .sample = kCostly},
      {.name = "container.stop",
       .kind = "container.stop",
       .parameters = R"({"service": "box", "count": 1, "random": true, "grace": 1000000000,
                         "limit": 20000000000})",
       .service = "box",
       .sample = kCostly},
      {.name = "container.restart",
       .kind = "container.restart",
       .parameters = R"({"service": "box", "count": 1, "random": true, "grace": 1000000000,
                         "limit": 20000000000})",
       .service = "box",
       .sample = kCostly},
      {.name = "redis.failover",
       .kind = "redis.failover",
       .parameters = R"({"service": "queue", "action": "kill", "restore": "start",
                         "limit": 20000000000})",
       .service = "queue",
       .sample = kCostly},
      {.name = "postgres.failover",
       .kind = "postgres.failover",
       .parameters = R"({"service": "db", "action": "kill", "restore": "start",
                         "limit": 20000000000})",
       .service = "db",
       .sample = kCostly},
      // An instance that is two files: whether it runs, and its boot id.
      {"host.reboot", "host.reboot",
       R"({"service": "users", "argv": ["FOLDER/new-boot"],
           "boot_id_argv": ["/bin/cat", "FOLDER/state-boot-id"],
           "timeout": 5000000000, "limit": 20000000000})"},
      {"host.power_off", "host.power_off",
       R"({"service": "users", "off_argv": ["/usr/bin/touch", "FOLDER/powered-off"],
           "on_argv": ["/bin/rm", "-f", "FOLDER/powered-off"],
           "alive_argv": ["/usr/bin/test", "!", "-e", "FOLDER/powered-off"],
           "timeout": 5000000000, "limit": 20000000000})"},
      {"command", "command",
       R"({"argv": ["/usr/bin/touch", "made-by-a-fault"],
           "revert_argv": ["/bin/rm", "-f", "made-by-a-fault"],
           "timeout": 5000000000})"},
  };
  return kAll;
}

const std::vector<Untried>& untried() {
  static const std::vector<Untried> kAll = {};
  return kAll;
}

std::vector<std::string> forgotten_kinds() {
  std::vector<std::string> forgotten;
  for (const inject::FaultKind* kind : inject::all_kinds()) {
    const std::string_view name = kind->descriptor->name;
    const bool named = std::any_of(untried().begin(), untried().end(),
                                   [&](const Untried& entry) { return entry.kind == name; });
    if (!named && !is_staged(name)) forgotten.emplace_back(name);
  }
  return forgotten;
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
