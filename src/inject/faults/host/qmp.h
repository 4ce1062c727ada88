#pragma once
// A conversation with QEMU's monitor (QMP) over its UNIX socket, without waiting: one command, the
// events that came with it, then the connection is closed, because QEMU serves one client at a
// time.

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace squall::inject {

class QmpExchange {
 public:
  // `event` not empty: the answer is complete only when this event has come, too.
  QmpExchange(std::string socket, std::string command, std::string event, base::Duration limit);

  struct Answer {
    std::string status;  // of query-status: "running", "paused"
    std::vector<std::string> events;
    bool closed = false;  // QEMU closed the connection, as it does on `quit`
  };
  using Outcome = base::Result<Answer>;

  // Absent while it is not complete; call again when fd() is readable, or after again().
  // kUnavailable or kNotFound: no monitor there. kConflict: it refused the command.
  std::optional<Outcome> advance();
  int fd() const { return fd_.get(); }
  base::Duration again() const;

 private:
  base::Status connect();
  base::Status say(const std::string& command);
  base::Result<bool> take_line(const std::string& line);  // true: complete

  std::string socket_;
  std::string command_;
  std::string event_;
  base::Instant deadline_;
  base::UniqueFd fd_;
  std::string buffer_;
  int replies_ = 0;  // of qmp_capabilities, then of the command
  bool greeted_ = false;
  Answer answer_;
};

}  // namespace squall::inject
