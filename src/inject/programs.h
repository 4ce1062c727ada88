#pragma once
// Programs that faults need started: a service that is brought back, a `command` fault and its
// revert. The holder never forks while it holds faults (a forked child would keep their descriptors
// open), so a *starter* does it: a process forked from the holder before the first fault is armed.
// See docs/decisions/starter.md.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "inject/caller.h"

namespace squall::inject {

struct ProgramRequest {
  enum class Purpose {
    kService,  // runs on for ever, whatever becomes of us: own session, nobody's child
    kCommand,  // runs to its end, is killed with its process group at `limit` or when we die
    kScratch,  // no program: a child of ours that only sleeps, for rehearsals
    kWorker,   // no program: one of workers/workers.h in a process of its own, until end() or until
               // the starter or the holder is gone; argv is its name and its configuration
  };
  Purpose purpose = Purpose::kCommand;
  std::vector<std::string> argv;
  std::string directory;
  base::Duration limit{};  // kCommand
  // Absent: ours, with our environment. Else with a clean environment and no way to new privileges.
  std::optional<Account> account{};
  // kService and kCommand: what it has in its environment besides.
  std::map<std::string, std::string> environment = {};
};

struct ProgramOutcome {
  std::optional<base::ProcessIdentity> started;
  std::optional<base::Error> error;  // could not be started, or ran longer than its limit
  std::optional<int> exit_status;    // it has ended; 128 + signal when killed
  std::string output;                // kCommand: the end of what it wrote, at most 4 KiB
  std::string report;                // kWorker: the last thing it said
};

class Programs {
 public:
  virtual ~Programs() = default;
  // Returns a number by which outcome() knows it. An unusable starter shows as an outcome's error.
  virtual std::uint64_t start(const ProgramRequest& request) = 0;
  // What is known of it now; never blocks.
  virtual ProgramOutcome outcome(std::uint64_t id) = 0;
  // Readable when an outcome may have changed; -1 when the starter is gone. Wait for a time beside
  // it: the next look finds what has not been sent yet, and what the starter said last.
  virtual int fd() const = 0;
  // The process that starts them. When it has ended, none of its commands runs any more, and what
  // it was asked to start has been started.
  virtual base::ProcessIdentity process() const = 0;
  // That process is gone: nothing can be started any more.
  virtual bool lost() const { return false; }
  // Ends a kScratch, kCommand or kWorker program.
  virtual void end(std::uint64_t id) = 0;
  // Says something to a kWorker; what comes back, if anything, is its next report.
  virtual void tell(std::uint64_t id, const std::string& text) = 0;
};

// The programs of one lease: whatever a kind asks for, it runs with the rights of the lease's
// caller, and a service with those that the gate found for it. Nothing else lets a kind start any.
class GrantedPrograms final : public Programs {
 public:
  // Both must outlive it.
  GrantedPrograms(Programs& programs, const Grant& grant) : programs_(programs), grant_(grant) {}
  std::uint64_t start(const ProgramRequest& request) override;
  ProgramOutcome outcome(std::uint64_t id) override;
  int fd() const override { return programs_.fd(); }
  base::ProcessIdentity process() const override { return programs_.process(); }
  bool lost() const override { return programs_.lost(); }
  void end(std::uint64_t id) override { programs_.end(id); }
  void tell(std::uint64_t id, const std::string& text) override { programs_.tell(id, text); }

 private:
  std::uint64_t start_forked(const ProgramRequest& request);
  std::uint64_t refuse(std::string_view what);

  Programs& programs_;
  const Grant& grant_;
  std::map<std::uint64_t, base::Error> refused_;
};

// Forks the starter. Call it while this process has one thread and holds no fault descriptor.
// Destroying the owner ends the starter and the commands that still run; services run on.
base::Result<std::unique_ptr<Programs>> fork_starter();

}  // namespace squall::inject
