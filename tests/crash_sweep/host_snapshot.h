#pragma once
// Everything of a host that a fault could change, as text that can be compared.

#include <map>
#include <string>
#include <vector>

#include "model/system_map.h"
#include "stage.h"

namespace squall::crash_sweep {

using Snapshot = std::map<std::string, std::string>;  // what, and how it is

// nft's tables, links, addresses, routes, qdiscs and listening sockets of this network namespace,
// mounts, the files in the stage's folder, its control groups' values, and state, limits and
// control groups of the members of `service`. `by_tools`: the network as nft, ip, tc and ss show
// it, without the numbers that the kernel gave.
Snapshot take_snapshot(const Stage& stage, const model::Service& service, bool by_tools = false);
// How many members of `service` there are, and state, limits and control groups of each: one that
// was killed and brought back is another process, so its number does not count.
std::string members_text(const model::Service& service);
// BPF links of the whole host, whoever made them.
void add_bpf_links(Snapshot& snapshot);
// What nft, ip, tc and ss show now, for people.
std::string shown_by_tools();

// What differs, one line each; empty: nothing.
std::vector<std::string> differences(const Snapshot& before, const Snapshot& after);

}  // namespace squall::crash_sweep
