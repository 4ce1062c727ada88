#pragma once
// The warden's door for everybody (`public.sock`, 0666): what is active, without anybody's secrets,
// and the end of it. It knows nothing else, and whoever says something else is hung up on.

#include <chrono>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "inject/caller.h"
#include "inject/client.h"
#include "inject/poll_loop.h"
#include "inject/wire.h"

namespace squall::inject {

// What of a lease everybody may see: not the words of a `command`, which may hold a password.
ActiveLease public_view(ActiveLease lease);

class PublicSocket {
 public:
  using Moment = base::MonotonicClock::time_point;

  PublicSocket(base::UniqueFd listener, std::string state_directory);
  ~PublicSocket();
  PublicSocket(const PublicSocket&) = delete;
  PublicSocket& operator=(const PublicSocket&) = delete;

  // When serve() has something to do without a descriptor.
  Moment watch(PollSet& events) const;
  // Never blocks. True when somebody asked for the end of what a dead holder left: replay it.
  bool serve(const PollSet& events);

 private:
  struct Visitor;

  void accept_visitors();
  void take_request(Visitor& visitor);
  void answer_status(Visitor& visitor);
  void begin_stop(Visitor& visitor, const StopMessage& request);
  void follow_stop(Visitor& visitor, const PollSet& events);

  base::UniqueFd listener_;
  std::string state_directory_;
  std::vector<Visitor> visitors_;
  bool replay_wanted_ = false;
  Moment last_replay_{};
};

}  // namespace squall::inject
