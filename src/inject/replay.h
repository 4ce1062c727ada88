#pragma once
// Undoing what dead holders left, from their journals.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "inject/lease.h"
#include "inject/state_directory.h"

namespace squall::inject {

struct DamagedJournal {
  LeaseJournal journal;
  std::string text;  // which lease, and what is wrong with it
};

struct DeadLeases {
  std::vector<std::unique_ptr<Lease>> leases;  // to be undone: call revert()
  std::vector<DamagedJournal> damaged;         // of some of them: set aside when all is done
  std::vector<std::string> lines;              // what there was to say about the others
  std::vector<std::string> left;  // what nobody can undo automatically, with what to do
};

// Takes up every journal whose holder is dead (of `run`, or of all runs when empty), and removes
// what needs no undoing: unfinished journals and those that a reboot made moot. May have to wait
// some seconds for a dead holder's starter; `about_to_wait` is called first.
DeadLeases take_up_dead_leases(const StateDirectory& directory, const std::string& run,
                               const Lease::Means& means,
                               const std::function<void()>& about_to_wait = {});

// Sets the damaged ones aside and says so, one line each.
std::vector<std::string> set_aside(std::vector<DamagedJournal> damaged);

// Sets aside the journals of dead holders whose run's id contains `run`, without undoing anything.
// kConflict when one of the holders lives. One line for each.
base::Result<std::vector<std::string>> forget_dead_leases(const StateDirectory& directory,
                                                          const std::string& run);

// Removes run files and stop sockets of dead holders.
void remove_dead_run_files(const StateDirectory& directory);

// "worker-outage (process.pause) of run ...: text"
std::string describe_lease(const LeaseRecord& record, std::string_view text);

}  // namespace squall::inject
