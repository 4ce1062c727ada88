#pragma once
// Workers: processes of ours that do a fault's work for as long as it lasts (hold packets back, use
// up a processor), with the least privilege that the work needs. The starter forks them; the holder
// speaks to them through it (Programs). They end when told, and with the starter or the holder,
// whichever ends first. Nothing that a worker holds outlives it in the kernel.

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"

namespace squall::inject {

// How often one whose counts change says what it has done.
inline constexpr base::Duration kReportEvery = std::chrono::milliseconds(200);

// When one that holds others up lets go by itself, should nobody tell it to. `asked`: how long the
// fault may last; a minute if that is not known (zero).
base::Instant last_moment(base::Duration asked);

// What a worker has of the world beside what it opens itself: a socket to the starter.
class WorkerChannel {
 public:
  explicit WorkerChannel(int socket) : socket_(socket) {}
  int fd() const { return socket_; }  // readable when something was said, or the starter is gone
  // Never blocks; a report that does not fit is dropped, for the next one says more.
  void report(const base::Json& json);
  // Tells why the worker ends. For what cannot be set up; the fault shows it.
  void report(const base::Error& error);
  // What was said; empty when nothing waits. kUnavailable when the starter is gone: end.
  base::Result<std::string> hear();

 private:
  int socket_;
};

struct Worker {
  std::string_view name;
  // Returns when told to end or when there is no more to do. Untrusted: `configuration` is JSON
  // that came over a socket.
  base::Status (*run)(const base::Json& configuration, WorkerChannel& channel) = nullptr;
};

const Worker* find_worker(std::string_view name);

// In the forked child: keeps only `socket`, asks to die with `starter`, runs the worker.
[[noreturn]] void worker_main(const Worker& worker, const std::string& configuration, int socket,
                              pid_t starter);

}  // namespace squall::inject
