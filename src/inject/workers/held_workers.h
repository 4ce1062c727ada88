#pragma once
// What the faults share whose whole effect is what workers hold or do: these are started, noted,
// watched and ended together, and die with the holder.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inject/fault.h"
#include "inject/workers/worker_watch.h"

namespace squall::inject {

inline constexpr std::string_view kWorkerProcesses = "worker processes";
inline constexpr std::array<std::string_view, 1> kWorkerMechanisms{kWorkerProcesses};

class HeldWorkers {
 public:
  // `what`: "the worker that holds memory", for texts. `silence_limit` as in WorkerWatch; how long
  // the kernel may take to free what they held: `end_limit`.
  HeldWorkers(FaultContext& context, std::string what, base::Duration silence_limit,
              base::Duration end_limit);

  bool empty() const { return workers_.empty(); }
  std::size_t size() const { return workers_.size(); }
  // Starts one more.
  void start(const std::string& name, const base::Json& configuration);
  // Done when each has said something; from then on they are in the journal, and processes() knows
  // them in their order. Failed when one cannot work.
  Step await_ready();
  // Their reports; those that are in trouble come with `trouble`.
  std::vector<WorkerReport> look();
  std::optional<base::Error> trouble();
  void tell(const std::string& text);
  const std::vector<base::ProcessIdentity>& processes() const { return processes_; }
  int fd() const { return context_.programs().fd(); }

  // Ends all of them, also those of a dead holder that were recalled. Idempotent.
  void end();
  // Done when none is left.
  Step await_gone();
  void recall(const base::Json& found);
  bool recalled() const { return recalled_; }

 private:
  FaultContext& context_;
  std::string what_;
  base::Duration silence_limit_;
  base::Duration end_limit_;
  std::vector<WorkerWatch> workers_;
  std::vector<base::ProcessIdentity> processes_;
  bool recalled_ = false;
  bool ended_ = false;
  std::optional<base::Instant> gone_wait_since_;
};

}  // namespace squall::inject
