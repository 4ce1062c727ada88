#pragma once
// The host's policy: what others than root may break on this host. Root writes it, the privileged
// side reads it, engines never do. docs/files.md has the keys.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "inject/caller.h"

namespace squall::inject {

inline constexpr std::string_view kPolicyFile = "/etc/squall/policy.yaml";

struct PolicyRule {
  int line = 0;  // of the file, for messages
  std::vector<uid_t> users;
  std::vector<gid_t> groups;
  std::vector<std::string> kinds;    // a kind or a family
  std::vector<uid_t> targets;        // users whose processes may be touched, beside one's own
  std::vector<std::string> paths;    // folders whose filesystems may be filled, and files be hit
  std::vector<std::string> units;    // of systemd, that may be stopped
  std::uint64_t memory = 0;          // bytes of the host's that may be held
  std::vector<std::uint16_t> ports;  // empty: any but SSH's
  bool start = false;                // may the map's `start` run as a user of `targets`?
  base::Duration longest_fault{};
  bool is_for(const Account& caller) const;
  bool names(std::string_view kind) const;
};

struct Policy {
  std::string file;
  base::Duration longest_fault = std::chrono::hours(1);  // of anybody but root
  std::vector<PolicyRule> rules;
};

// No file: no rules. kPermission when somebody else than root could have written it, kBadFile with
// all mistakes and their places; then nobody but root may do anything.
base::Result<Policy> read_policy(const std::string& path);
base::Result<Policy> parse_policy(std::string_view text, const std::string& file);

}  // namespace squall::inject
