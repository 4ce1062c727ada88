#pragma once
// What becomes of a call of the target that a worker stands in the way of: which ones are hit, how
// long they wait, with which error they fail. The same seed and the same calls give the same fates.

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/random.h"
#include "base/result.h"

namespace squall::inject {

struct Interception {
  double share = 1;         // of the calls; the others go through at once
  base::Duration delay{};   // before the call is made
  base::Duration jitter{};  // up to this much more or less, all alike likely
  int error = 0;            // an errno, or 0: the call is made
};

// kCorrupt when a value is missing, outside its range, or when there is neither delay nor error.
base::Result<Interception> interception_from_json(const base::Json& json);
base::Json to_json(const Interception& interception);

// What every worker that stands in the way is told: how, for how long, and before whom.
struct InterceptionOrder {
  Interception interception;
  std::uint64_t seed = 0;
  base::Duration lifetime{};  // then it ends by itself; zero: without end
  std::vector<base::ProcessIdentity> processes;
};
// kCorrupt, naming `worker`, when a value makes no sense or a process is the system's first.
base::Result<InterceptionOrder> order_from_json(const base::Json& json, std::string_view worker);
base::Json order_to_json(const InterceptionOrder& order);

class InterceptionModel {
 public:
  InterceptionModel(const Interception& interception, std::uint64_t seed)
      : interception_(interception), random_(seed) {}

  struct Fate {
    bool hit = false;
    base::Duration delay{};
    int error = 0;
  };
  Fate decide();
  const Interception& interception() const { return interception_; }

 private:
  Interception interception_;
  base::Random random_;
};

}  // namespace squall::inject
