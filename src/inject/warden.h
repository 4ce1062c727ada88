#pragma once
// The keeper as a service of the host (`squall warden`): undoes at its start what a dead warden or
// a power cut left, then serves root's engines and those of the group `squall`; everybody may ask
// it what is active, and end it.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "inject/state_directory.h"

namespace squall::inject {

struct WardenOptions {
  std::string state_directory;           // empty: the default
  std::vector<std::string> holder_argv;  // empty: our own executable with `holder`; for tests
  std::optional<gid_t> group;            // absent: the group `squall`, if this host has one
  std::string policy_file;               // empty: the host's
};

// Until SIGTERM, SIGINT or SIGHUP; then every run is reverted first. Returns the exit status.
int warden_main(const WardenOptions& options);

inline constexpr const char* kWardenGroup = "squall";

// A connection to this host's warden. kUnavailable when none runs, kPermission when it runs and we
// may not use it; both say what to do.
base::Result<base::UniqueFd> connect_to_warden(const StateDirectory& directory);
// To its socket for everybody (public_socket.h).
base::Result<base::UniqueFd> connect_to_public(const StateDirectory& directory);

// What `squall doctor` says about the warden and who may use it.
struct WardenReport {
  bool runs = false;
  bool usable = false;  // by us
  std::string text;
  std::string remedy;  // empty: nothing is wrong
};
WardenReport examine_warden(const std::string& state_directory = {});

}  // namespace squall::inject
