#pragma once
// The keeper: one process that starts a holder for each run, watches it, and undoes its faults from
// the revert journal when it dies or hangs. It holds no fault itself and touches no target, so that
// it survives whatever a fault does to its holder. See docs/safety-of-injection.md for who may die.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/service_manager.h"
#include "inject/poll_loop.h"
#include "inject/public_socket.h"
#include "inject/wire.h"

namespace squall::inject {

// The exit status of a holder that cannot undo its faults: they want a replay.
inline constexpr int kHolderHelpless = 9;

// What makes a keeper the warden of a host.
struct WardenDuty {
  base::UniqueFd control;  // listens for engines
  std::unique_ptr<PublicSocket> everybody;
  base::ServiceManager manager;
  std::string state_directory;  // of every run: engines have no say in it
  std::string policy_file;      // empty: the host's
};

class Keeper {
 public:
  // `holder_argv` starts a holder: our own executable with `holder`.
  explicit Keeper(std::vector<std::string> holder_argv);
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // Serves an engine that has connected: its greeting says what it wants.
  void adopt(base::UniqueFd engine);
  // Undoes what dead holders have left, of whatever run.
  void replay_all(const std::string& state_directory);
  // Adopts every engine that connects, and tells the service manager how it goes.
  void serve_host(WardenDuty duty);
  // Until the last run is over and, when it listens, until it is told to end. Returns the exit
  // status: 0, or 8 when something was not undone.
  int run();

 private:
  struct Run;

  base::Status prepare();
  PollSet wait_for_events() const;
  void accept_engines();
  bool is_crowded(const Account& caller) const;
  void turn_away(Run& run, const base::Error& error);
  base::Status admit(Run& run, Hello hello);
  void release_switch(Run& run);
  void tell_manager();
  void take_signals();
  void serve(Run& run, const PollSet& events);
  void take_engine(Run& run);
  void take_link(Run& run);
  void watch_heartbeat(Run& run);
  void holder_ended(Run& run);
  void start_holder(Run& run, Hello::Mode mode);
  base::Status try_to_start_holder(Run& run, Hello::Mode mode);

  std::vector<std::string> holder_argv_;
  std::vector<std::unique_ptr<Run>> runs_;
  base::UniqueFd signals_;
  base::UniqueFd timer_;
  WardenDuty duty_;  // without a control socket: serves those it was given
  base::MonotonicClock::time_point next_word_ = base::MonotonicClock::time_point::max();
  base::MonotonicClock::time_point next_complaint_{};
  int exit_status_ = 0;
};

// What goes over the link between keeper and holder. The holder says that it lives whenever its
// engine does, so that nobody need wake up for it; after some silence the keeper asks. A holder
// that is about to do what takes long says so first. With the time at which it was said: words may
// wait.
enum class LinkWord : std::int64_t { kAlive = 'a', kBusy = 'b' };
struct LinkMessage {
  LinkWord word{};
  base::MonotonicClock::time_point said;
};
base::Status send_word(int link, LinkWord word);
// Absent when nothing waits; kUnavailable when the other end is gone.
base::Result<std::optional<LinkMessage>> receive_word(int link);

// Entry of the keeper process (`squall keeper`, hidden): serves the engine on descriptor 3 until
// its run is over. `holder_argv` empty: our own executable. Returns the exit status.
int keeper_main(std::vector<std::string> holder_argv = {});

}  // namespace squall::inject
