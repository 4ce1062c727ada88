#pragma once
// A two-process system to experiment on (target_front, target_worker), its files, and the squall
// program run on it. Everything is in a scratch folder and ends with this object.

#include <functional>
#include <string>
#include <vector>

#include "base/process.h"

namespace squall::end_to_end {

struct Finished {
  int exit_status = 0;
  std::string output;
  std::string error;
};

class SmallSystem {
 public:
  struct Behaviour {  // while the worker is gone
    int latency_us = 500;
    int down_latency_us = 0;
    double down_failures = 0;
    int seed = 1;
    int workers = 1;
  };
  explicit SmallSystem(Behaviour behaviour);
  SmallSystem() : SmallSystem(Behaviour{}) {}
  ~SmallSystem();
  SmallSystem(const SmallSystem&) = delete;
  SmallSystem& operator=(const SmallSystem&) = delete;

  const std::string& folder() const { return folder_; }
  std::string path(std::string_view name) const;
  void write(std::string_view name, std::string_view text) const;
  std::string contents(std::string_view name) const;
  // Replaces `old_text`, which must be there, in the system map.
  void change_map(std::string_view old_text, std::string_view new_text) const;
  int port() const { return port_; }
  pid_t worker_pid() const;  // as in its pid file
  bool worker_is_running() const;
  char worker_state() const;  // of /proc/PID/stat; '?' when gone

  // Writes kill.yaml: kills the worker for `fault` and starts it again.
  void write_kill_experiment(std::string_view hypothesis, std::string_view more = {}) const;
  void write_pause_experiment(std::string_view hypothesis, std::string_view more = {}) const;

  // Runs the program in the folder; its state lies in there too.
  Finished squall(std::vector<std::string> arguments,
                  base::Duration limit = std::chrono::seconds(60)) const;
  base::ChildProcess start_squall(std::vector<std::string> arguments,
                                  const std::string& log_name = "squall.log") const;
  base::ChildProcess start(base::SpawnOptions options,
                           const std::string& log_name = "squall.log") const;
  // Waits until the log of start_squall() says `words`.
  bool log_says(std::string_view words) const;
  base::SpawnOptions squall_options(std::vector<std::string> arguments) const;

 private:
  void write_experiment(std::string_view fault, std::string_view hypothesis,
                        std::string_view more) const;
  std::string folder_;
  std::string tag_;
  int port_ = 0;
  std::vector<base::ChildProcess> children_;
};

// Waits until `condition` holds, polling every few milliseconds; false after `limit`.
bool wait_until(const std::function<bool()>& condition,
                base::Duration limit = std::chrono::seconds(20));

}  // namespace squall::end_to_end
