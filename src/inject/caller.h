#pragma once
// For whom the privileged side works, and what it may do for him. Root's runs are not restricted;
// everybody else's are: see docs/decisions/0007-callers.md.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace squall::inject {

// Whose rights a program has.
struct Account {
  uid_t user = 0;
  gid_t group = 0;
  std::vector<gid_t> groups{};  // supplementary

  bool is_root() const { return user == 0; }
  bool in_group(gid_t wanted) const;
  bool operator==(const Account&) const = default;
};

// Who connected to this UNIX socket, by what the kernel says. kPermission for a user of another
// user namespace, whom this host does not know.
base::Result<Account> peer_account(int socket);

// With whose rights a process runs. kNotFound when it is gone, kPermission when its user ids are
// not all the same (a setuid program).
base::Result<Account> account_of(const base::ProcessIdentity& process);

// "alice (user 1000)", by /etc/passwd alone: no name service is asked, which could take its time.
std::string user_text(uid_t user);

// What the gate let a lease do. The journal holds it, so that a replay does no more.
struct Grant {
  Account caller;
  std::vector<uid_t> targets{};          // whose processes, beside the caller's own
  std::optional<Account> start_as = {};  // whose rights a service gets that is started again
  std::optional<Account> trace_as = {};  // whose rights a tracer has
};

// May a fault with this grant touch the process? For what it was bound to, and again for whatever
// it finds later.
base::Status check_process(const Grant& grant, const base::ProcessIdentity& process);

base::Json to_json(const Account& account);
Account account_from_json(const base::Json& json);
base::Json to_json(const Grant& grant);
// Absent (a journal of an older version): root's.
Grant grant_from_json(const base::Json& json);

}  // namespace squall::inject
