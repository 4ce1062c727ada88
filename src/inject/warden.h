#pragma once
// The keeper as a service of the host (`squall warden`): undoes at its start what a dead warden or
// a power cut left, then serves every engine on this host that runs as root.

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "inject/state_directory.h"

namespace squall::inject {

struct WardenOptions {
  std::string state_directory;           // empty: the default
  std::vector<std::string> holder_argv;  // empty: our own executable with `holder`; for tests
};

// Until SIGTERM, SIGINT or SIGHUP; then every run is reverted first. Returns the exit status.
int warden_main(const WardenOptions& options);

// A connection to this host's warden; kUnavailable when none runs.
base::Result<base::UniqueFd> connect_to_warden(const StateDirectory& directory);

// Whether somebody listens there; only root may ask, for others it is false.
bool warden_runs(const std::string& state_directory = {});

}  // namespace squall::inject
