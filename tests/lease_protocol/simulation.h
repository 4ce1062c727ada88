#pragma once
// A machine that exists only in this process: virtual time, processes that are fibers, sockets that
// are queues. seams.cc puts it in the place of the system calls of engine client, keeper and
// holder, whose own code runs unchanged; only the journal lies in a real folder.
//
// Each call of the machine that others could notice is a *step*. A disturbance happens at a step:
// whoever takes it is killed or stopped there, the message it sends is lost, or the machine is
// suspended.

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace squall::lease_protocol {

using Nanoseconds = std::int64_t;
inline constexpr Nanoseconds kSecond = 1'000'000'000;
inline constexpr Nanoseconds kMillisecond = 1'000'000;
inline constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();

enum class Action { kKill, kStopShort, kStop, kLose, kSuspend };
std::string_view to_string(Action action);

struct Disturbance {
  std::size_t step = 0;
  Action action = Action::kKill;
};

// What a step was, for the next round of disturbances.
struct StepInfo {
  std::string process;
  std::string what;
  bool sends = false;
};

struct Object;
using ObjectRef = std::shared_ptr<Object>;

struct Packet {
  std::vector<std::byte> bytes;
  ObjectRef descriptor;
};

struct Process {
  int number = 0;  // its pid
  std::string name;
  std::function<int()> main;
  std::unique_ptr<char[]> stack;
  ucontext_t context{};
  bool started = false;
  bool ended = false;
  bool doomed = false;  // killed by another: its descriptors close before anything else
  bool dying = false;   // unwinds; the machine ignores what it says
  bool throws = true;   // where it is killed; the engine, which waits in destructors, must not
  bool spoke = false;   // a holder that has said its first word
  int status = 0;       // as waitpid has it
  Nanoseconds stopped_until = 0;
  // What it waits for.
  std::vector<std::pair<int, bool>> wait_for;  // descriptor, and whether to be writable is enough
  Nanoseconds wait_until = 0;                  // on the monotonic clock
};

struct Object {
  enum class Kind { kSocket, kProcess, kTimer, kSignals, kReadySet, kEvent, kFault };
  Kind kind = Kind::kEvent;
  // kSocket
  std::deque<Packet> inbox;
  std::weak_ptr<Object> peer;
  int owner = 0;  // kSocket of a pair: who made it
  // kProcess
  Process* process = nullptr;
  // kTimer
  bool boot_clock = false;
  Nanoseconds rings = kNever;
  // kReadySet
  std::vector<std::pair<int, std::weak_ptr<Object>>> watched;
  // kEvent
  bool raised = false;
};

// Thrown where a killed process stands.
struct Killed {};

class Machine {
 public:
  Machine(std::vector<Disturbance> plan, unsigned order);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  // The one that runs: the seams have no other way to find it.
  static Machine* current();

  Process& start(std::string name, std::function<int()> main);
  // Until nothing can happen any more or `limit` has passed.
  void run(Nanoseconds limit);
  // Called before time moves on, with the time it moves to. False: enough was seen.
  std::function<bool(Nanoseconds until)> before_time_passes;

  Nanoseconds monotonic() const { return now_; }
  Nanoseconds boot() const { return now_ + suspended_; }
  Process& self() { return *running_; }
  Process* find(int number);

  // Whoever calls may be disturbed here. True: the message is lost.
  bool step(std::string what, bool sends = false);
  void wait(std::vector<std::pair<int, bool>> descriptors, Nanoseconds until);
  bool readable(int descriptor) const;
  void kill(Process& process);

  int add(ObjectRef object);
  ObjectRef get(int descriptor) const;
  void close(int descriptor);
  static bool is_ours(int descriptor) { return descriptor >= kFirstDescriptor; }

  const std::vector<StepInfo>& steps() const { return steps_; }
  // No later than this any fault must be gone, given its deadline and when it was armed (boot
  // clock).
  Nanoseconds allowed_until(Nanoseconds deadline, Nanoseconds armed) const;
  bool stop_recording = false;

 private:
  static constexpr int kFirstDescriptor = 1'000'000;
  static void enter();
  bool ready(const Object& object) const;
  bool can_run(const Process& process) const;
  Process* next();
  Nanoseconds next_event() const;
  void resume(Process& process);
  void pause();
  void disturb(Action action, const std::string& what);

  std::vector<Disturbance> plan_;
  std::size_t next_disturbance_ = 0;
  unsigned order_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::map<int, ObjectRef> descriptors_;
  int next_descriptor_ = kFirstDescriptor;
  int next_number_ = 100;
  Nanoseconds now_ = 3600 * kSecond;
  Nanoseconds suspended_ = 0;
  int turns_ = 0;  // in this instant
  Process* running_ = nullptr;
  ucontext_t scheduler_{};
  std::vector<StepInfo> steps_;
  std::size_t step_count_ = 0;
  Nanoseconds last_disturbance_ = 0;
  Nanoseconds patience_ = 0;  // what the disturbances so far may cost
  bool must_end_ = false;     // somebody is missing: the fault ends at once, not at its deadline
};

}  // namespace squall::lease_protocol
