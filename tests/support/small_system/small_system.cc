#include "support/small_system/small_system.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/check.h"
#include "base/files.h"
#include "base/ids.h"

namespace squall::end_to_end {

SmallSystem::SmallSystem(Behaviour behaviour) {
  folder_ = base::make_temporary_directory("squall-end-to-end-").value();
  tag_ = base::LeaseId::generate().text();
  std::string workers;
  for (int i = 1; i <= behaviour.workers; ++i) {
    base::SpawnOptions options;
    options.argv = {TARGET_WORKER, "--pid-file", path("worker.pid"), "--tag", tag_};
    options.parent_death_signal = SIGKILL;
    children_.push_back(base::spawn(options).value());
  }
  SQUALL_CHECK(wait_until([&] { return worker_is_running(); }));

  int ends[2];
  SQUALL_CHECK(pipe2(ends, O_CLOEXEC) == 0);
  base::SpawnOptions front;
  front.argv = {TARGET_FRONT,
                "--worker-pid-file",
                path("worker.pid"),
                "--latency-us",
                std::to_string(behaviour.latency_us),
                "--down-latency-us",
                std::to_string(behaviour.down_latency_us),
                "--down-failures",
                std::to_string(behaviour.down_failures),
                "--seed",
                std::to_string(behaviour.seed)};
  front.standard_output = ends[1];
  children_.push_back(base::spawn(front).value());
  close(ends[1]);
  char text[16] = {};
  SQUALL_CHECK(read(ends[0], text, sizeof text - 1) > 0);
  close(ends[0]);
  port_ = std::atoi(text);

  write("squall.yaml", fmt::format(R"(system: small
services:
  users:  {{ external: true, depends_on: [front] }}
  front:
    process: {{ exe: target_front, argv_contains: "{3}" }}
    listens: "127.0.0.1:{0}"
    depends_on: [worker]
  worker:
    process: {{ exe: target_worker, argv_contains: "{1}" }}
    start: ["{2}", --pid-file, "{3}", --tag, "{1}"]
probes:
  reads:
    http: {{ url: "http://127.0.0.1:{0}/", rate: 200/s, timeout: 1s }}
    from: users
    to: front
steady_state:
  up: reads.success >= 95%
environments:
  dev: {{}}
)",
                                   port_, tag_, TARGET_WORKER, path("worker.pid")));
}

SmallSystem::~SmallSystem() {
  // A worker that an experiment started is not our child; its pid file names it.
  const pid_t pid = worker_pid();
  if (pid > 1) {
    if (auto handle = base::PidFd::open(pid); handle.ok()) {
      (void)handle->signal(SIGCONT);
      (void)handle->signal(SIGKILL);
    }
  }
  for (base::ChildProcess& child : children_) {
    (void)child.pidfd().signal(SIGKILL);
    (void)child.wait(std::chrono::seconds(5));
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string SmallSystem::path(std::string_view name) const {
  return base::join_path(folder_, name);
}

void SmallSystem::write(std::string_view name, std::string_view text) const {
  std::ofstream(path(name)) << text;
}

std::string SmallSystem::contents(std::string_view name) const {
  std::ifstream file(path(name));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void SmallSystem::change_map(std::string_view old_text, std::string_view new_text) const {
  std::string map = contents("squall.yaml");
  const std::size_t at = map.find(old_text);
  SQUALL_CHECK(at != std::string::npos);
  write("squall.yaml", map.replace(at, old_text.size(), new_text));
}

pid_t SmallSystem::worker_pid() const {
  pid_t pid = 0;
  std::ifstream(path("worker.pid")) >> pid;
  return pid;
}

char SmallSystem::worker_state() const {
  std::ifstream stat(fmt::format("/proc/{}/stat", worker_pid()));
  std::string line;
  if (!std::getline(stat, line)) return '?';
  const std::size_t end = line.rfind(')');
  return end == std::string::npos ? '?' : line.at(end + 2);
}

bool SmallSystem::worker_is_running() const {
  const char state = worker_state();
  return state == 'S' || state == 'R';
}

void SmallSystem::write_experiment(std::string_view fault, std::string_view hypothesis,
                                   std::string_view more) const {
  write("experiment.yaml", fmt::format(R"(experiment: worker-gone
scenario: The only worker is gone for a second and a half.
hypothesis:
{}
faults:
  - {}
    name: outage
    for: 1500ms
blast_radius: {{ services: [worker], processes: 1, duration: 5s }}
abort_when: [ reads.success < 20% over 1s ]
phases: {{ baseline: 1500ms, recovery: 4s }}
load_limits: {{ lag: 500ms, drops: 5% }}  # test machines are noisy
{})",
                                       hypothesis, fault, more));
}

void SmallSystem::write_kill_experiment(std::string_view hypothesis, std::string_view more) const {
  write_experiment("process.kill: { service: worker, count: 1, signal: SIGKILL, restore: start }",
                   hypothesis, more);
}

void SmallSystem::write_pause_experiment(std::string_view hypothesis, std::string_view more) const {
  write_experiment("process.pause: { service: worker, count: 1 }", hypothesis, more);
}

base::SpawnOptions SmallSystem::squall_options(std::vector<std::string> arguments) const {
  base::SpawnOptions options;
  options.argv = {SQUALL_PROGRAM};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.working_directory = folder_;
  return options;
}

Finished SmallSystem::squall(std::vector<std::string> arguments, base::Duration limit) const {
  auto output = base::run_command(squall_options(std::move(arguments)), limit, 4u << 20);
  if (!output.ok()) {
    return {-1, {}, output.error().to_string()};
  }
  return {output->exit_status, output->output, output->error};
}

base::ChildProcess SmallSystem::start_squall(std::vector<std::string> arguments,
                                             const std::string& log_name) const {
  return start(squall_options(std::move(arguments)), log_name);
}

base::ChildProcess SmallSystem::start(base::SpawnOptions options,
                                      const std::string& log_name) const {
  options.working_directory = folder_;
  const int log = open(path(log_name).c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  options.standard_output = log;
  options.standard_error = log;
  options.new_session = true;
  auto child = base::spawn(options);
  close(log);
  return std::move(child).value();
}

bool SmallSystem::log_says(std::string_view words) const {
  return wait_until([&] { return contents("squall.log").find(words) != std::string::npos; });
}

bool wait_until(const std::function<bool()>& condition, base::Duration limit) {
  const base::Instant end = base::BootClock::now() + limit;
  while (!condition()) {
    if (base::BootClock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace squall::end_to_end
