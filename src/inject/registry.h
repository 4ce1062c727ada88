#pragma once
// Which leases exist on this host, and who may add one.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "inject/fault.h"
#include "inject/journal.h"
#include "inject/state_directory.h"

namespace squall::inject {

// What no second lease may touch: each target process, and what the kind adds in the binding's
// details under `resources`. Keys that start with "service/" may be shared within one run; others
// when both bindings say `overlap` and the kinds can tell their own changes apart.
std::vector<std::string> resources_of(const model::FaultBinding& binding);

// kCorrupt unless the binding locks all of `keys`. Callers other than root write their bindings
// themselves: what a kind puts back must be locked, whatever they left out.
base::Status check_locks(const model::FaultBinding& binding, const std::vector<std::string>& keys);

// Refuses when the kill switch is engaged (kBlocked), when another lease of a living or dead holder
// has one of the resources (kConflict, names who), or when the target is Squall itself. Else writes
// the lease's journal. `record.resources` must be set.
base::Result<LeaseJournal> acquire(const StateDirectory& directory, const LeaseRecord& record,
                                   const FaultKind& kind);

// The same for a process that joins the fault of a lease that runs: `note` writes it to the lease's
// journal, whereupon no other lease gets it.
base::Status claim(const StateDirectory& directory, const LeaseRecord& record,
                   const base::ProcessIdentity& process, const std::function<base::Status()>& note);

// Would acquire() find another lease in the way (kConflict)? For who asks before it is time.
base::Status check_free(const StateDirectory& directory, const LeaseRecord& record);

bool alive(const base::ProcessIdentity& identity, const std::string& boot_id);

// A run's holder, as its run file says.
struct RunFile {
  std::string path;
  std::string socket;  // its stop socket
  std::string run;
  std::string experiment;
  std::string owner;
  std::string boot_id;
  base::ProcessIdentity holder;
  base::ProcessIdentity engine = {};
};
base::Status write_run_file(const StateDirectory& directory, const RunFile& run);
std::vector<RunFile> run_files(const StateDirectory& directory);
// Connects to the run's stop socket and says who wants its end; never blocks. The holder's last
// word (Finished) comes over what is returned.
base::Result<base::UniqueFd> tell_holder_to_stop(const RunFile& run, std::string_view who,
                                                 std::string_view why);
// Run ids become file names.
base::Status check_run_id(const std::string& run);

}  // namespace squall::inject
