// orchestrator-supervisor [options] -- PROGRAM ARGUMENTS...
//
// Keeps one member, as a service manager would: starts it, writes down who it is, starts it again
// when it dies if it was told to, and ends it after its longest lifetime, so that a forgotten
// instance does not stay for ever.

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "log.h"

namespace {

using orchestrator::log_info;
using orchestrator::log_warning;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Options {
  std::string name = "supervisor";
  std::string pid_file;
  bool restart = false;
  milliseconds restart_delay{500};
  std::chrono::seconds max_lifetime{1800};
  int stop_signal = SIGTERM;
  char** command = nullptr;
};

std::optional<Options> read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto equals = argument.find('=');
    const std::string_view key = argument.substr(0, equals);
    const std::string value(equals == std::string_view::npos ? "" : argument.substr(equals + 1));
    if (argument == "--") {
      options.command = argv + i + 1;
      break;
    }
    if (key == "--name") {
      options.name = value;
    } else if (key == "--pid-file") {
      options.pid_file = value;
    } else if (argument == "--restart") {
      options.restart = true;
    } else if (key == "--max-lifetime") {
      options.max_lifetime = std::chrono::seconds(std::atoi(value.c_str()));
    } else if (argument == "--stop-with=SIGINT") {
      options.stop_signal = SIGINT;
    } else {
      log_warning(fmt::format("unknown argument '{}'", argument));
      return std::nullopt;
    }
  }
  if (options.command == nullptr || *options.command == nullptr || options.pid_file.empty()) {
    log_warning(
        "usage: orchestrator-supervisor --pid-file=FILE [--name=NAME] [--restart] "
        "[--max-lifetime=SECONDS] [--stop-with=SIGINT] -- PROGRAM ARGUMENTS...");
    return std::nullopt;
  }
  return options;
}

// Field 22 of /proc/PID/stat, which with the number names a process for good: numbers come back.
// The second field is the program's name in brackets and may hold anything, so count from its end.
std::string start_time_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const auto bracket = line.rfind(')');
  if (bracket == std::string::npos) return "0";
  std::size_t begin = bracket + 2;
  for (int field = 3; field < 22; ++field) begin = line.find(' ', begin) + 1;
  return line.substr(begin, line.find(' ', begin) - begin);
}

// One line a process: number and start time, the supervisor first. Written whole or not at all.
void write_pid_file(const Options& options, pid_t member) {
  const std::string draft = options.pid_file + ".new";
  {
    std::ofstream file(draft);
    file << ::getpid() << ' ' << start_time_of(::getpid()) << '\n';
    if (member > 0) file << member << ' ' << start_time_of(member) << '\n';
  }
  std::rename(draft.c_str(), options.pid_file.c_str());
}

pid_t start(const Options& options, const sigset_t& member_signals) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::sigprocmask(SIG_SETMASK, &member_signals, nullptr);
  // A shell ignores these for what it starts in the background, and that would be inherited.
  for (const int signal : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE}) std::signal(signal, SIG_DFL);
  ::execvp(options.command[0], options.command);
  log_warning(fmt::format("cannot run {}: {}", options.command[0], std::strerror(errno)));
  ::_exit(127);
}

std::string ending(int status) {
  return WIFSIGNALED(status) ? fmt::format("was ended by signal {}", WTERMSIG(status))
                             : fmt::format("exited with status {}", WEXITSTATUS(status));
}

// Waits for a signal until `until`; 0 when none came.
int next_signal(const sigset_t& signals, steady_clock::time_point until) {
  const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
  if (left.count() <= 0) return 0;
  const timespec timeout{left.count() / 1000, (left.count() % 1000) * 1'000'000};
  const int signal = ::sigtimedwait(&signals, nullptr, &timeout);
  return signal > 0 ? signal : 0;
}

void stop(pid_t member, int signal) {
  if (member <= 0) return;
  ::kill(member, signal);
  const auto patience = steady_clock::now() + std::chrono::seconds(3);
  while (::waitpid(member, nullptr, WNOHANG) == 0) {
    if (steady_clock::now() > patience) ::kill(member, SIGKILL);
    std::this_thread::sleep_for(milliseconds(10));
  }
}

int supervise(const Options& options) {
  sigset_t signals;
  sigset_t member_signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT})
    ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, &member_signals);

  const auto end_of_life = steady_clock::now() + options.max_lifetime;
  pid_t member = start(options, member_signals);
  write_pid_file(options, member);
  auto start_again_at = steady_clock::time_point::max();
  while (true) {
    const int signal = next_signal(signals, std::min(end_of_life, start_again_at));
    if (signal == SIGCHLD) {
      int status = 0;
      if (member <= 0 || ::waitpid(member, &status, WNOHANG) != member) continue;
      log_info(fmt::format("{} {}", options.name, ending(status)));
      member = 0;
      write_pid_file(options, member);
      if (!options.restart) return 0;
      start_again_at = steady_clock::now() + options.restart_delay;
    } else if (signal != 0 || steady_clock::now() >= end_of_life) {
      stop(member, options.stop_signal);
      return 0;
    } else if (steady_clock::now() >= start_again_at) {
      log_info(fmt::format("{} is started again", options.name));
      member = start(options, member_signals);
      write_pid_file(options, member);
      start_again_at = steady_clock::time_point::max();
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = read_options(argc, argv);
  if (!options) return 2;
  orchestrator::set_log_name(options->name + "'s supervisor");
  return supervise(*options);
}
