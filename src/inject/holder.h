#pragma once
// The holder: one process a run, one thread, that installs and holds faults and takes them away
// when it is asked, when their time is over, when the engine dies, hangs or is silent, and when the
// keeper dies. It never
// forks while it holds faults, and never waits for anything but its poll loop.

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "inject/gate.h"
#include "inject/keeper.h"
#include "inject/lease.h"
#include "inject/poll_loop.h"
#include "inject/registry.h"
#include "inject/replay.h"
#include "inject/state_directory.h"
#include "inject/wire.h"

namespace squall::inject {

class Holder {
 public:
  // `engine` is a pidfd, readable when the engine is gone; `link` leads to the keeper.
  Holder(base::UniqueFd control, base::UniqueFd engine, base::UniqueFd link, Hello hello,
         std::unique_ptr<Programs> programs);
  ~Holder();
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  // Until the end. Returns the exit status: 0, 8 when something could not be undone, or
  // kHolderHelpless.
  int run();

 private:
  base::Status prepare();
  base::Status open_stop_socket();
  PollSet wait_for_events();
  void handle(const PollSet& events);

  void take_control();
  void take_link();
  void tell_keeper(LinkWord word);
  void take_message(Message message);
  void take_signal();
  void take_stop_client();
  void take_stop_request(int client);
  void arm(ArmMessage message);
  base::Result<LeaseRecord> record_of(const ArmMessage& message, const FaultKind& kind) const;
  void rehearse(const RehearseMessage& message);
  void check_heartbeat();
  void revert_all(std::string_view cause);
  void stop(const StopMessage& request);
  void end(std::string_view cause);
  bool finished() const;
  bool can_undo() const;
  void drop_finished_leases();
  void replay();
  Lease::Means means();

  void say_ready();
  void say(const Message& message);
  void flush();
  void fail_arming(const ArmMessage& message, const base::Error& error);

  base::UniqueFd control_;
  base::UniqueFd engine_;
  base::UniqueFd link_;
  base::UniqueFd signals_;
  base::UniqueFd timer_;
  base::UniqueFd stop_socket_;
  std::vector<base::UniqueFd> stop_clients_;
  Hello hello_;
  StateDirectory directory_;
  std::optional<Gate> gate_;  // from prepare() on; not in a replay, which lets nobody in
  std::unique_ptr<Programs> programs_;
  std::vector<std::unique_ptr<Lease>> leases_;
  std::vector<DamagedJournal> damaged_;  // replay only
  std::vector<std::string> left_;        // replay only: what nobody can undo automatically
  std::deque<std::vector<std::byte>> unsent_;
  base::ProcessIdentity self_;
  base::Instant last_renewal_;
  bool ending_ = false;
  int ended_leases_ = 0;
};

}  // namespace squall::inject
