#include "foreign.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "base/text.h"
#include "host/host.h"
#include "inject/process_table.h"

namespace squall::crash_sweep {

namespace {

base::Status run(const std::string& line) {
  base::SpawnOptions options;
  options.argv = base::split(line, ' ');
  SQUALL_ASSIGN(const auto output, base::run_command(options, std::chrono::seconds(10)));
  if (output.exit_status == 0) return {};
  return base::Error{.message = fmt::format("{}: {}", line, output.error)};
}

base::Status run_all(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) SQUALL_TRY(run(line));
  return {};
}

}  // namespace

// Any hierarchy will do where a group can be made; without one there is none.
std::string Foreign::group() const {
  return "/sys/fs/cgroup/pids/others-of-" + stage_.folder().substr(stage_.folder().rfind('/') + 1);
}

base::Status Foreign::plant() {
  SQUALL_TRY(run_all({
      "nft add table inet others",
      "nft add chain inet others input { type filter hook input priority 5 ; }",
      "nft add rule inet others input tcp dport 47777 drop",
      "ip link add name others0 index 900 address 02:00:00:00:09:00 type veth peer name others1 "
      "index 901 address 02:00:00:00:09:01",
      "ip link set others0 up",
      "tc qdisc add dev others0 root handle 71: pfifo limit 777",
      "tc qdisc add dev lo root handle 72: pfifo limit 555",
      "ip route add 192.0.2.0/25 dev others0",
  }));
  std::ofstream(stage_.folder() + "/others") << "theirs\n";
  ::chmod((stage_.folder() + "/others").c_str(), 0640);
  if (::mkdir(group().c_str(), 0755) == 0) std::ofstream(group() + "/pids.max") << "77";
  base::SpawnOptions options;
  options.argv = {"/bin/sleep", "600"};
  options.new_session = true;
  SQUALL_ASSIGN(neighbour_, base::spawn(options));
  SQUALL_TRY(run(fmt::format("prlimit --pid {} --nofile=333:4444", neighbour_.pid())));
  return neighbour_.pidfd().signal(SIGSTOP);
}

base::Status Foreign::change(const Scenario& scenario) {
  SQUALL_TRY(run_all({
      "nft add table ip others_later",
      "nft add chain ip others_later output { type filter hook output priority 7 ; }",
      "nft add rule ip others_later output udp dport 47778 reject",
      "nft add rule inet others input tcp dport 47779 drop",
      "tc qdisc replace dev others0 root handle 73: pfifo limit 888",
      "ip route add 192.0.2.128/25 dev others0",
      "ip address add 192.0.2.1/32 dev lo",
      fmt::format("prlimit --pid {} --nofile=222:4444", neighbour_.pid()),
  }));
  std::ofstream(stage_.folder() + "/others", std::ios::app) << "and more\n";
  std::ofstream(stage_.folder() + "/others-later") << "new\n";
  if (::access(group().c_str(), F_OK) == 0) std::ofstream(group() + "/pids.max") << "88";
  if (scenario.meddling.empty()) return {};
  SQUALL_ASSIGN(const auto members, host::find_members(host::real_host(), stage_.target()));
  if (members.empty()) return {};
  std::string line = scenario.meddling;
  const std::size_t at = line.find("PID");
  return run(line.replace(at, 3, std::to_string(members.front().process.identity.pid)));
}

void Foreign::remove() {
  for (const char* line :
       {"nft delete table inet others", "nft delete table ip others_later",
        "tc qdisc del dev lo root", "ip link del others0", "ip address del 192.0.2.1/32 dev lo"}) {
    if (auto done = run(line); !done.ok()) continue;
  }
  ::unlink((stage_.folder() + "/others").c_str());
  ::unlink((stage_.folder() + "/others-later").c_str());
  ::rmdir(group().c_str());
  if (neighbour_.pidfd().valid() && neighbour_.pidfd().signal(SIGKILL).ok()) [[maybe_unused]]
    const auto status = neighbour_.wait(std::chrono::seconds(5));
  neighbour_ = {};
}

Snapshot Foreign::look() const {
  Snapshot found = take_snapshot(stage_, stage_.target(), /*by_tools=*/true);
  const auto text = [](const std::string& path) {
    return base::read_pseudo_file(path).value_or("unreadable");
  };
  found["files of others"] =
      text(stage_.folder() + "/others") + text(stage_.folder() + "/others-later");
  found["cgroup of others"] = text(group() + "/pids.max");
  const std::string process = fmt::format("/proc/{}", neighbour_.pid());
  const char state = neighbour_.pidfd().valid()
                         ? inject::process_state(neighbour_.pidfd().identity()).value_or('X')
                         : '-';
  found["process of others"] = fmt::format("{}state {}\n", text(process + "/limits"), state);
  return found;
}

}  // namespace squall::crash_sweep
