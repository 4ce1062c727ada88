#pragma once
// Starting other programs: argv arrays only, never a shell.

#include <csignal>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace squall::base {

struct SpawnOptions {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH when it has no slash
  std::string working_directory;  // empty: ours
  std::optional<std::map<std::string, std::string>> environment;  // absent: ours
  std::optional<uid_t> user;  // also sets its group and its supplementary groups
  std::optional<gid_t> group;
  // Instead of the user's own; needs `user` and `group`.
  std::optional<std::vector<gid_t>> supplementary_groups;
  bool no_new_privileges = false;         // setuid programs and file capabilities give it nothing
  int standard_input = -1;                // -1: /dev/null
  int standard_output = -1;               // -1: /dev/null
  int standard_error = -1;                // -1: /dev/null
  std::vector<std::pair<int, int>> pass;  // ours, theirs: descriptors that stay open in the child
  bool new_session = false;               // setsid: the child outlives our terminal
  // PR_SET_PDEATHSIG. Beware: it comes when the thread that called spawn() ends, not the process.
  std::optional<int> parent_death_signal;
};

// A child of ours. Destroying it neither kills nor waits: say what you mean.
class ChildProcess {
 public:
  ChildProcess() = default;
  pid_t pid() const { return pidfd_.identity().pid; }
  const PidFd& pidfd() const { return pidfd_; }
  // The status as waitpid gives it (0 is success; take it apart with WIFEXITED and its like);
  // kTimeout when it still runs after `limit`. May be called again.
  Result<int> wait(Duration limit);

 private:
  friend Result<ChildProcess> spawn(const SpawnOptions& options);
  PidFd pidfd_;
  std::optional<int> status_;  // once waited for
};

// kNotFound when the program does not exist; an exec failure is reported here, not by the child.
// The child has an empty signal mask, default SIGPIPE and SIGXFSZ, and no descriptors but those
// named. The calling thread is held up until the exec (as with vfork); its memory is not copied.
Result<ChildProcess> spawn(const SpawnOptions& options);

struct CommandOutput {
  int exit_status = 0;  // 128 + signal when killed
  std::string output;   // first `output_limit` bytes of stdout
  std::string error;    // the same of stderr
  Duration took{};
};
// Runs to the end in a session of its own, or kills it (SIGKILL to its process group) at `limit`
// and returns kTimeout. What it started in the background lives on when it ends by itself.
Result<CommandOutput> run_command(SpawnOptions options, Duration limit,
                                  std::size_t output_limit = 64 * 1024);

// The path of our own executable, to start another process of the same binary.
Result<std::string> own_executable();

}  // namespace squall::base
