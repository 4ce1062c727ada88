#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "base/files.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "host/host.h"

namespace squall::cli {

namespace {

// Kinds whose processes Squall knows how to ask.
std::string_view kind_of(const host::DiscoveredService& service) {
  if (service.processes.empty()) return {};
  const std::string& executable = service.processes.front().executable;
  const std::string name = executable.substr(executable.rfind('/') + 1);
  if (name == "postgres") return "postgres";
  if (name == "redis-server" || name == "valkey-server") return "redis";
  return {};
}

std::string address_text(const host::Endpoint& endpoint) {
  if (endpoint.port == 0) return "unix:" + endpoint.address;
  // A server that listens everywhere is asked on loopback.
  std::string address = endpoint.address;
  if (address == "0.0.0.0") address = "127.0.0.1";
  if (address == "::") address = "::1";
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, endpoint.port)
                                                : fmt::format("[{}]:{}", address, endpoint.port);
}

// A connection to its port is all that we ask of a service that we know nothing about.
bool can_be_probed(const host::DiscoveredService& service) {
  return !service.listens.empty() && service.listens.front().port != 0;
}

// A socket without a file, or of a folder that only its owner sees, has no name for a map.
bool has_name(const host::Endpoint& endpoint) {
  return endpoint.port != 0 ||
         (endpoint.address.starts_with('/') && !endpoint.address.starts_with("/proc/"));
}

std::string service_lines(const host::DiscoveredService& service) {
  std::string text = fmt::format("  {}:\n", service.name);
  if (const auto kind = kind_of(service); !kind.empty())
    text += fmt::format("    kind: {}\n", kind);
  if (!service.processes.empty()) {
    const host::Process& process = service.processes.front();
    const std::string name = process.executable.empty()
                                 ? process.name
                                 : process.executable.substr(process.executable.rfind('/') + 1);
    text +=
        fmt::format("    process: {{ exe: {} }}        # pid {} now\n", name, process.identity.pid);
  }
  bool first = true;
  for (const host::Endpoint& endpoint : service.listens) {
    if (!has_name(endpoint)) continue;
    text += fmt::format("    {}\"{}\"\n", first ? "listens: " : "# also listens on ",
                        address_text(endpoint));
    first = false;
  }
  if (!service.depends_on.empty()) {
    text += fmt::format("    depends_on: [{}]    # seen as open connections just now\n",
                        fmt::join(service.depends_on, ", "));
  }
  text +=
      "    # owner: team            # whom to ask\n"
      "    # start: [./start, me]   # argv that starts one member, for faults that kill it\n"
      "    # logs: [log/me.log]     # read into the record of a run\n";
  return text;
}

std::string map_text(const std::string& system,
                     const std::vector<host::DiscoveredService>& services) {
  std::string text = fmt::format(
      "# The system map: what there is, how to find it and how to ask it. Written by `squall "
      "init`\n"
      "# from what listens on this host; correct it by hand, then run `squall check`.\n"
      "system: {}\n\nservices:\n"
      "  users:                     # who the load probes stand for\n    external: true\n",
      system);
  if (!services.empty()) {
    text += "    # depends_on: [...]      # what users call directly\n";
  }
  for (const auto& service : services) text += service_lines(service);
  text +=
      "\n# Probes only ask; none of these writes anything. Replace them by requests that your\n"
      "# users make: `squall kinds http` shows how.\nprobes:\n";
  bool any = false;
  for (const auto& service : services) {
    if (!can_be_probed(service)) continue;
    any = true;
    text += fmt::format("  {0}-accepts: {{ tcp: {{ address: \"{1}\", every: 500ms }}, to: {0} }}\n",
                        service.name, address_text(service.listens.front()));
  }
  if (!any) text += "  {}\n";
  text += "\n# What must hold before and after every experiment.\nsteady_state:\n";
  for (const auto& service : services) {
    if (!can_be_probed(service)) continue;
    text += fmt::format("  {0}-up: {0}-accepts.success >= 99%\n", service.name);
  }
  if (!any) text += "  {}\n";
  text +=
      "\n# An unnamed environment is production, where nothing runs without approval.\n"
      "environments:\n  dev: {}\n";
  return text;
}

base::ExitStatus run(const Arguments& arguments) {
  const std::string target = arguments.option_or("--output", "squall.yaml");
  std::error_code error;
  if (std::filesystem::exists(target, error) && !arguments.flag("--force")) {
    return fail(
        base::Error{.code = base::ErrorCode::kConflict,
                    .message = fmt::format("{} exists already", target),
                    .hint = "write elsewhere with --output FILE, or replace it with --force",
                    .context = {}});
  }
  auto services = host::discover_services(host::real_host());
  if (!services.ok()) return fail(services.error());
  std::string system = std::filesystem::absolute(target, error).parent_path().filename().string();
  if (system.empty()) system = "system";
  if (const auto written = base::write_file_atomically(target, map_text(system, *services));
      !written.ok()) {
    return fail(written.error());
  }
  print_line(fmt::format("{}: {} services found", target, services->size()));
  if (geteuid() != 0) say("not root: services of other users may be missing");
  say(fmt::format("next: read it, correct it, then `squall check --map {}`", target));
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {Option{"--output", "FILE", "Where to write (default squall.yaml)"},
                                 Option{"--force", {}, "Replace an existing file"}};

}  // namespace

const Command kInitCommand{
    .name = "init",
    .group = "Design",
    .summary = "Write a first system map from what listens on this host",
    .details =
        "Looks at listening sockets and the connections between them. Asks nothing of the "
        "services, and never writes a probe that writes.",
    .positionals = {},
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
