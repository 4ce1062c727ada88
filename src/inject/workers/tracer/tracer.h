#pragma once
// What the tracer is told: whose system calls it stands in the way of, and of which.

#include <string>
#include <vector>

#include "base/fd.h"
#include "inject/workers/interception/interception.h"

namespace squall::inject {

struct TracerConfiguration : InterceptionOrder {
  bool children = true;  // what descends from them, too, also what is born later
  // The call is made, and its caller is told that it failed.
  bool afterwards = false;
  std::vector<int> calls;  // hit wherever they are made
  // Calls on files in `path`, told by their first argument, a descriptor: `known_calls` on
  // descriptors that were open when the tracer came (and copies of them), `any_calls` on all.
  std::string path;
  std::vector<int> known_calls;
  std::vector<int> any_calls;
};

base::Json to_json(const TracerConfiguration& configuration);
base::Result<TracerConfiguration> tracer_configuration_from_json(const base::Json& json);

// Why this process could not be traced; nothing is changed. kUnsupported, kPermission or kConflict
// with the remedy.
base::Status check_traceable(pid_t process, bool fails_calls);

}  // namespace squall::inject
