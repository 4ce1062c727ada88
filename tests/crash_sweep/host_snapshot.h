#pragma once
// Everything of a host that a fault could change, as text that can be compared.

#include <map>
#include <string>
#include <vector>

#include "model/system_map.h"

namespace squall::crash_sweep {

using Snapshot = std::map<std::string, std::string>;  // what, and how it is

// Rules, links, addresses, routes, qdiscs and listening sockets of this network namespace, mounts,
// the files in `folder`, and state, limits and control groups of the members of `service`.
Snapshot take_snapshot(const model::Service& service, const std::string& folder);
// Those of the whole host, whoever made them.
void add_bpf_links(Snapshot& snapshot);

// What differs, one line each; empty: nothing.
std::vector<std::string> differences(const Snapshot& before, const Snapshot& after);

}  // namespace squall::crash_sweep
