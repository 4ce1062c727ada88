#pragma once
// Marks the packets between chosen processes and chosen endpoints with kMarkBit, so that the rules
// of an owner table meet them and nobody else's: by the sockets that the processes and their
// children made, live ones and new ones, in both directions (pair_marker.bpf.c). The mark is there
// from where a packet leaves its sender; it survives the loopback interface, and nothing else.
// Needs cgroup v2, BPF and BTF. Kernel-held: it ends when this object's descriptors close, however
// the process ends, and by itself at its deadline.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "inject/fault.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/process/successors.h"

namespace squall::inject {

inline constexpr std::string_view kSocketMarks = "BPF socket marks";

// Processes, with their descendants, and where they speak to.
struct MarkedPair {
  std::vector<base::ProcessIdentity> callers;
  std::vector<PacketEndpoint> endpoints;
  // The callers' service and its members at bind, as JSON: who is restarted is marked, too. Empty:
  // nobody joins them.
  std::string joining = {};
};

// Where the running kernel keeps a task's numbers, by its BTF.
struct TaskLayout {
  std::uint32_t pid = 0;
  std::uint32_t tgid = 0;

  static base::Result<TaskLayout> of_this_kernel();
};

// What there is to mark; nothing without pairs.
struct Marking {
  std::vector<MarkedPair> pairs;
  TaskLayout layout;
};
base::Json to_json(const Marking& marking);
// kCorrupt when it holds something else; null is nothing to mark.
base::Result<Marking> marking_from_json(const base::Json& json);
// For a rehearsal: the same for packets of our own process to a port.
base::Result<Marking> scratch_marking(const Marking& marking, std::uint16_t port);

class PairMarker {
 public:
  // Into the kernel, where it does nothing yet. At most 63 pairs. kUnsupported with the reason when
  // this host cannot do it, kPermission without CAP_BPF and CAP_NET_ADMIN.
  static base::Result<PairMarker> load(const Marking& marking, base::Instant deadline);
  PairMarker(PairMarker&&) noexcept;
  PairMarker& operator=(PairMarker&&) noexcept;
  ~PairMarker();  // nothing is marked any more when it returns

  // The kernel's numbers of the programs, which it does not give out again before long.
  const std::vector<std::uint32_t>& programs() const { return programs_; }
  // From now on new sockets are marked, and what is open already, too. kNotFound when no caller
  // runs any more.
  base::Status attach();
  // One more caller of these pairs, by their numbers.
  base::Status join(const std::vector<std::size_t>& pairs, const base::ProcessIdentity& caller);
  std::size_t processes() const { return processes_; }  // known after attach()
  std::size_t sockets() const { return sockets_; }      // live ones that were found then

  // Does the kernel still have one of them?
  static base::Result<bool> any_left(const std::vector<std::uint32_t>& programs);

  // Does it work here, for these processes? Tried on a socket of our own; sockets of theirs are
  // only looked at. Takes some 20 ms.
  static base::Result<TaskLayout> check(const std::vector<base::ProcessIdentity>& callers);

 private:
  struct Loaded;
  explicit PairMarker(std::unique_ptr<Loaded> loaded);
  base::Status enter_processes(const std::vector<MarkedPair>& pairs);
  base::Status enter_sockets_of(const base::ProcessIdentity& process, std::uint64_t pairs);

  std::unique_ptr<Loaded> loaded_;
  std::vector<MarkedPair> pairs_;
  std::vector<std::uint32_t> programs_;
  std::size_t processes_ = 0;
  std::size_t sockets_ = 0;
};

// The marker in the life of a fault that has an owner table as well. Without pairs all of it does
// nothing.
class FaultMarks {
 public:
  FaultMarks(Marking marking, FaultContext& context)
      : marking_(std::move(marking)), context_(context) {}

  // For arm(): load() adds to what is noted, attach() follows the note and precedes the table.
  base::Status load(base::Json& noted);
  base::Status attach();
  // For hold(): marks callers that are restarted, and tells of them and of those that end. Done
  // when none is left or there is nothing to mark.
  Step hold();
  void recall(const base::Json& found);
  void add_proof(base::Json& proof) const;
  // For revert(), after the table.
  void end();
  // For verify(): does the kernel still have the programs?
  base::Result<bool> any_left() const { return PairMarker::any_left(programs_); }
  static base::Error left_behind();
  // "; marked are the packets of 3 processes, 12 sockets of which were open"
  std::string text() const;

 private:
  Marking marking_;
  FaultContext& context_;
  std::optional<PairMarker> marker_;
  std::vector<std::uint32_t> programs_;
  // Callers of a service, with the numbers of its pairs.
  struct Followed {
    std::vector<std::size_t> pairs;
    Successors members;
  };
  base::Status follow();
  Step tell_ends();
  std::vector<Followed> followed_;
  std::vector<base::PidFd> callers_;  // the others that live
};

}  // namespace squall::inject
