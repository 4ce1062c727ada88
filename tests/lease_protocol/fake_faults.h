#pragma once
// Two kinds of fault of which a test can see whether they are in force: one that the kernel takes
// away with its holder, and one that stays until somebody undoes it from the journal.

#include <memory>
#include <span>

#include "inject/fault.h"
#include "simulation.h"

namespace squall::lease_protocol {

// What the faults do to the world.
struct World {
  std::weak_ptr<Object> held;  // kernel-held: as long as somebody has its descriptor
  bool changed = false;        // journaled
  Nanoseconds armed_at = 0;    // on the boot clock
  bool in_force() const { return changed || !held.expired(); }
};
World& world();

std::span<const inject::FaultKind* const> fake_kinds();

}  // namespace squall::lease_protocol
