#pragma once
// What a worker gives up before it starts to work.

#include <cstdint>
#include <span>

#include "base/result.h"

namespace squall::inject {

// A system call that may be made with one value of one argument only.
struct RestrictedCall {
  int number = 0;
  unsigned argument = 0;  // counted from 0
  std::uint64_t value = 0;
};

struct Confinement {
  std::span<const int> capabilities;  // CAP_* that it keeps; all others go, also from the bounds
  std::span<const int> system_calls;  // numbers that it may make beside the common ones
  bool unnamed_files = false;         // may make files without a name (O_TMPFILE), and no others
  std::span<const RestrictedCall> restricted = {};
};

// For the calling process, which must have one thread; cannot be undone. Afterwards it gains no
// privilege by any means, opens no file that exists, starts no program, and is killed by the kernel
// at the first system call that is not on its list.
base::Status confine(const Confinement& needs);

}  // namespace squall::inject
