#pragma once
// The engine's thin client of the holder: the process that installs and holds faults. The engine
// asks, renews and listens; it never touches the system itself.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"
#include "host/host.h"
#include "model/plan.h"
#include "model/system_map.h"

namespace squall::inject {

struct LeaseRequest {
  model::FaultBinding binding;
  base::Duration duration{};  // from armed; the holder reverts then without being asked
};

enum class LeaseState { kArming, kArmed, kEffective, kReverting, kReverted, kVerified, kFailed };
std::string_view to_string(LeaseState state);

// What the holder reports. `at` is when it happened, on the boot clock, as the holder saw it.
struct LeaseEvent {
  base::LeaseId lease;
  std::string fault;
  LeaseState state = LeaseState::kArming;
  base::Instant at;
  std::string text;   // proof or reason, one sentence
  std::string proof;  // JSON object as text: what was read back
  // kReverting: why ("deadline", "asked", "engine gone", "heartbeat missing", "signal",
  // "fault broke": what kept it up is gone).
  std::string cause;
  // kFailed: the fault is not active (arming failed and was undone) or its revert is not verified.
  bool still_active = false;
  // True: the state did not change; `text` tells what happened to a target meanwhile (it died while
  // paused, a replacement appeared).
  bool notice = false;
};

struct HolderOptions {
  std::string run;               // run id, for status and journal
  std::string experiment;        // name, for status
  std::string reason;            // scenario, for status
  std::string system_directory;  // folder of the map: start argv run there
  base::Duration renewal_limit = std::chrono::seconds(3);  // no renewal for this long: revert
  std::string state_directory;           // where journal and lease files lie; empty: the default
  std::vector<std::string> keeper_argv;  // empty: our own executable with `keeper`; for tests
};

// Somebody other than the engine ended the run: `squall stop`, or a signal to the holder. All
// leases are being reverted, and no new one is accepted.
struct StopNotice {
  std::string who;
  std::string why;
  std::string cause;  // "stopped" or "signal"
};

class HolderClient {
 public:
  // Asks this host's warden for a holder; root without one, a keeper that it starts as a child of
  // this process. kPermission when the warden does not serve us, with the hint.
  static base::Result<std::unique_ptr<HolderClient>> start(const HolderOptions& options);
  // Ends the holder in order; all leases are reverted first.
  virtual ~HolderClient() = default;

  // Readable when events wait or the holder died.
  virtual int fd() const = 0;
  // Does the same change and its revert on a scratch target of our own, with the same mechanism.
  virtual base::Result<std::string> rehearse(const model::FaultBinding& binding) = 0;
  // Returns at once; progress comes as events.
  virtual base::Result<base::LeaseId> arm(const LeaseRequest& request) = 0;
  // Proof that the engine lives, and a look whether the holder does. Call it six times within
  // `renewal_limit` or more often while leases run: it says no more than it must.
  virtual base::Status renew() = 0;
  // Returns at once. Reverting what is reverted is not an error.
  virtual base::Status revert(base::LeaseId lease, std::string_view cause) = 0;
  virtual base::Status revert_all(std::string_view cause) = 0;
  // Non-blocking; empty when nothing waits. kUnavailable when the holder died.
  //
  // When the holder dies with faults active, the keeper starts a second one that undoes them from
  // the journal; its events (cause "holder gone") come here too, and kUnavailable only after them.
  // When both died, a second keeper is started for that.
  virtual base::Result<std::vector<LeaseEvent>> take_events() = 0;
  // Known after take_events().
  virtual std::optional<StopNotice> stop_notice() const = 0;
  // What the holder said at its end that it could not undo; empty is the rule.
  virtual std::vector<std::string> left_behind() const = 0;
};

// Resolves a planned fault to exact targets and the strongest permitted mechanism on this host.
// `seed` decides random choices. Errors say why it cannot be bound and what to do.
struct BindRequest {
  const model::SystemMap& map;
  const model::FaultSpecification& fault;
  const model::PlannedFault& planned;
  const host::Host& host;
  std::uint64_t seed = 0;
  // What no fault may starve: Squall's state (as in HolderOptions) and the folder of the records.
  std::string state_directory = {};
  std::string record_directory = {};
};
base::Result<model::FaultBinding> bind(const BindRequest& request);

// The plan's view of a fault: changes beside their reverts, permitted mechanisms, class. Pure.
model::PlannedFault describe(const model::SystemMap& map, const model::FaultSpecification& fault);

// Descriptors of all kinds, for the Vocabulary.
std::span<const model::FaultKindDescriptor* const> fault_kinds();

// ---- What is active on this host, without any engine
// ----------------------------------------------

struct ActiveLease {
  base::LeaseId lease;
  std::string run;
  std::string experiment;
  std::string fault;
  std::string kind;
  std::string reason;
  std::vector<std::string> targets;
  std::vector<base::ProcessIdentity> processes;  // those of the targets that are processes
  std::string owner;                             // user name that started it
  LeaseState state = LeaseState::kArmed;
  base::Instant ends;  // deadline
  base::ProcessIdentity holder;
  bool holder_alive = true;  // false: what is left needs `squall cleanup`
  bool overlap = false;      // its plan lets others share its targets
};
base::Result<std::vector<ActiveLease>> active_leases(const std::string& state_directory = {});

// Asks every holder (`run` empty) or the one of `run` to revert and end, and waits until they did.
// Anybody may. A holder that does not answer is killed and its journal replayed, which needs root.
// Returns how many leases were ended. kNotFound when `run` has no holder here; kRevertNotVerified
// when something is left. To refuse new leases as well, engage the kill switch first.
base::Result<int> stop(const std::string& run, std::string_view who, std::string_view why,
                       const std::string& state_directory = {});

// Replays the revert journals of dead holders. Returns one line a revert; kRevertNotVerified when
// something could not be undone, with what to do by hand.
base::Result<std::vector<std::string>> cleanup(const std::string& state_directory = {});
// For faults that cannot or need not be undone, as when their target is gone for good: sets their
// journals aside. `run`: a part of its id. kNotFound when it has left nothing, kConflict when its
// holder lives. One line for each fault.
base::Result<std::vector<std::string>> forget(const std::string& run,
                                              const std::string& state_directory = {});

// Ends every run of this host, also of those that nobody answers for any more, and refuses new ones
// until release_kill_switch(). Anybody may; without a warden the refusal needs root. As stop().
base::Result<int> stop_everything(std::string_view who, std::string_view why,
                                  const std::string& state_directory = {});

// Kill switch: set by `squall stop --all`, ended by `squall release`.
struct KillSwitch {
  bool engaged = false;
  std::string who;
  std::string why;
  std::string since;
};
base::Result<KillSwitch> kill_switch(const std::string& state_directory = {});
base::Status engage_kill_switch(std::string_view who, std::string_view why,
                                const std::string& state_directory = {});
// For root, and through the warden for its group.
base::Status release_kill_switch(const std::string& state_directory = {});

// Entry of the holder process (`squall holder`, hidden), which the keeper starts: serves the engine
// on descriptor 3 until told to end, or until engine or keeper die. Returns the exit status.
int holder_main();

// Mechanisms tried on this host, for `squall doctor`.
struct MechanismReport {
  std::string mechanism;
  bool works = false;
  std::string detail;          // what was done, or why it does not work
  std::string precision = {};  // what was asked and what was measured
  std::string remedy = {};
  std::vector<std::string> kinds = {};  // that use it
  model::LifetimeClass lifetime = model::LifetimeClass::kOneWay;
};
std::vector<MechanismReport> probe_mechanisms();

}  // namespace squall::inject
