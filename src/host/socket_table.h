#pragma once
// The kernel's socket tables, by sock_diag(7).

#include <vector>

#include "base/result.h"
#include "host/host.h"

namespace squall::host {

// All sockets of our network namespace as Host::sockets says, without owners.
base::Result<std::vector<Socket>> read_socket_table();

// Fills in the owners by walking the descriptors of all processes that we may look into.
void resolve_owners(std::vector<Socket>& sockets);

}  // namespace squall::host
