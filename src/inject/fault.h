#pragma once
// What a fault kind is to the rest of this room: a descriptor, four functions that run in the
// engine (describe, bind) or in the holder (create, rehearse), and an object with the life of one
// fault. A kind is one file under faults/<family>/, its test, and one line in faults/kinds.cc.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/programs.h"
#include "model/plan.h"

namespace squall::inject {

// The outcome of one call of a step. A step never blocks: the holder has one thread, which must
// keep the deadlines of all leases. What takes time returns kWaiting and is called again.
struct Step {
  enum class State { kDone, kWaiting, kFailed };
  State state = State::kDone;
  std::string text;              // what was proved, or a notice while waiting; one sentence
  std::string proof;             // JSON object as text
  base::Error error;             // kFailed
  bool is_broken = false;        // kFailed: the fault has come to an end by itself; revert it now
  std::vector<int> descriptors;  // kWaiting: call again when one of them is readable,
  base::Duration again{};        // or after this time; zero: only by descriptor

  static Step done(std::string text, std::string proof = "{}");
  static Step wait_for(std::vector<int> descriptors, base::Duration again = {});
  static Step wait(base::Duration again);
  static Step failed(base::Error error);
  // From effective() and hold() only: what kept the fault up is gone.
  static Step broken(base::Error error);
};

// Two things of which hold() or effective() wait for either; done when both are.
Step either(Step first, Step second);

// What a fault may use. Lives as long as the fault.
class FaultContext {
 public:
  virtual ~FaultContext() = default;
  // Writes `found` (a JSON object: the state found, and what is about to be changed) to the revert
  // journal. On disk when it returns; a fault changes nothing that it has not noted before.
  virtual base::Status note(const base::Json& found) = 0;
  virtual const host::Host& host() = 0;
  virtual Programs& programs() = 0;
  // For names of kernel objects, so that they can be told apart and found again.
  virtual base::LeaseId lease() const = 0;
  // How long the fault may last from armed; zero when that is not known (a rehearsal, a replay).
  virtual base::Duration duration() const { return {}; }
  // May the fault touch this process? To be asked for every process that it did not get from its
  // binding: children, members that came up later. kBlocked when it may not.
  virtual base::Status check_process(const base::ProcessIdentity& process) const = 0;
  // Takes a process into the fault that came up later in place of a target: check_process(), and
  // kConflict when another fault holds it. From then on no other can; in the journal.
  virtual base::Status claim(const base::ProcessIdentity& process) {
    return check_process(process);
  }
  // The user for whom it is done. What he may not see must not be seen for him.
  virtual uid_t caller() const = 0;
};

// What a binding would touch, read from the very fields that create() uses. The gate (gate.h)
// decides by it whether somebody other than root may.
struct Reach {
  std::vector<base::ProcessIdentity> processes{};  // stopped, signalled, limited
  bool starts = false;                             // runs the map's `start` for them
  std::vector<std::string> cgroups{};              // folders whose files are written: full paths
  std::vector<std::string> filesystems{};          // folders on filesystems that are filled
  std::vector<std::string> files{};                // files and folders of which accesses are held
  std::vector<uid_t> users{};                      // whatever they run, now or later
  std::vector<std::string> units{};                // of systemd, by their whole names
  std::uint64_t memory = 0;                        // bytes of the host's, held
  bool traces = false;                             // stands in the way of their system calls
  std::vector<std::uint16_t> ports{};              // of the network; 0: all
};

// One fault. Created from its binding; used by one thread. The order of calls is
//   arm, effective, hold, revert, verify    in the holder
//   recall..., revert, verify               in a replay of a dead holder's journal
// revert and verify may come at any moment, also after a failed arm, and more than once.
class Fault {
 public:
  virtual ~Fault() = default;
  virtual Step arm() = 0;
  // Done when the target was touched, by what the kernel says. Sends the target nothing.
  virtual Step effective() = 0;
  // Called after effective until done: watches the targets and does what the fault does later. A
  // waiting step with a text is told as a notice.
  virtual Step hold() { return Step::done({}); }
  virtual Step revert() = 0;
  virtual Step verify() = 0;
  // Takes up one note of the journal again.
  virtual void recall(const base::Json& found) = 0;
};

// The run's seed, made different for each fault: two faults of one plan must not choose alike only
// because they share it.
std::uint64_t seed_of(const BindRequest& request);

// The request's fault and kind, bound by this mechanism; targets and details are the caller's.
model::FaultBinding new_binding(const BindRequest& request, std::string_view mechanism,
                                model::LifetimeClass lifetime);

inline constexpr std::string_view kRestoresRunning = "whether its processes run on";
inline constexpr std::string_view kRestoresService = "which process does the service's work";

struct FaultKind {
  const model::FaultKindDescriptor* descriptor = nullptr;
  // Pure. Fills target, services, processes_max, changes; the caller has filled the rest.
  void (*describe)(const model::SystemMap& map, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) = nullptr;
  base::Result<model::FaultBinding> (*bind)(const BindRequest& request) = nullptr;
  // kCorrupt when the binding's details are not what bind() of this kind makes.
  base::Result<std::unique_ptr<Fault>> (*create)(const model::FaultBinding& binding,
                                                 FaultContext& context) = nullptr;
  // The same change and its revert on a scratch target of our own; one sentence about it.
  base::Result<std::string> (*rehearse)(const model::FaultBinding& binding,
                                        FaultContext& context) = nullptr;
  // kCorrupt as create(). Null: for root only, whatever the policy says; the descriptor says why.
  base::Result<Reach> (*reach)(const model::FaultBinding& binding) = nullptr;
  // What of its targets it changes and puts back, as the end of a sentence; empty: nothing that
  // another fault's revert could take for its own. Two leases never share a target of which both
  // put back the same, whatever their plans say.
  std::string_view restores = {};
  // Must its revert survive a reboot? Then its journal lies on disk, synced.
  bool survives_reboot = false;
};

// Calls `step` until it is done or failed, waiting as it asks, at most until `limit` from now
// (kTimeout). For rehearsals and replays; never used while leases run. `poke`, if given, runs
// before each call.
base::Result<Step> drive(Fault& fault, Step (Fault::*step)(), base::Duration limit,
                         void (*poke)(void*) = nullptr, void* poke_argument = nullptr);

// arm, effective, revert, verify, each driven to its end; reverts whatever happens. The sentence
// says how long each took.
base::Result<std::string> rehearse_life(Fault& fault, std::string_view what,
                                        void (*poke)(void*) = nullptr,
                                        void* poke_argument = nullptr);

}  // namespace squall::inject
