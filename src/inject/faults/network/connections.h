#pragma once
// Live TCP connections between two services, and ending them (sock_diag(7), SOCK_DESTROY).

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "host/host.h"
#include "inject/faults/network/nft_table.h"

namespace squall::inject {

struct ConnectionScope {
  std::vector<PacketEndpoint> endpoints;
  // Only connections that these or their descendants opened; empty: all at the endpoints.
  std::vector<base::ProcessIdentity> callers;
};

// Of each established connection in the scope one end: the called one if it is on this host, so
// that its caller gets a reset from there; else the caller's.
base::Result<std::vector<host::Socket>> find_connections(const host::Host& host,
                                                         const ConnectionScope& scope);

// Ends it at once: this end fails with ECONNABORTED, the other one is sent a reset. kNotFound when
// that very socket is gone, kPermission without CAP_NET_ADMIN, kUnsupported when the kernel cannot
// (CONFIG_INET_DIAG_DESTROY).
base::Status destroy_connection(const host::Socket& socket);

// "127.0.0.1:40000 to 127.0.0.1:5432"
std::string describe_connection(const host::Socket& socket);

}  // namespace squall::inject
