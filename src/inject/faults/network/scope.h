#pragma once
// Which packets belong to a pair of services, and by what they can be told apart from everybody
// else's on this host.

#include <optional>
#include <string>
#include <vector>

#include "inject/client.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair_marker.h"

namespace squall::inject {

// Where the service listens: its `listens` and its members', else what its processes listen on
// (TCP). `port` 0: all. kUnsupported when it listens on a UNIX socket only, or on SSH's port.
base::Result<std::vector<PacketEndpoint>> endpoints_of(const BindRequest& request,
                                                       const model::Service& service,
                                                       std::uint16_t port);

// The same for one member: `listens`, else what its process listens on.
base::Result<std::vector<PacketEndpoint>> endpoints_of_member(
    const BindRequest& request, const std::string& name,
    const std::optional<model::ListenAddress>& listens, const host::Process* process);

// kUnsupported when SSH listens at one of them.
base::Status check_ssh(const host::Host& host, const std::vector<PacketEndpoint>& endpoints);

// Does this end of a socket lie at one of the endpoints?
bool lies_at(const host::Endpoint& end, const std::vector<PacketEndpoint>& endpoints);

// Is it an address of this host? Then packets to it arrive here.
bool is_local(const PacketEndpoint& endpoint);

// Probes of the map that ask the service but stand for none of its callers: Squall's own evidence,
// which no fault may touch.
std::vector<std::string> evidence_probes(const model::SystemMap& map, const model::Service& service,
                                         const std::vector<PacketEndpoint>& endpoints,
                                         std::string_view stands_for);

// Can packets to or from it only pass the loopback interface?
bool is_loopback(const PacketEndpoint& endpoint);

// One end of a pair: a service, or one of its members.
struct Party {
  std::string name;  // "api", "db/primary"
  std::string service;
  bool external = false;
  bool member = false;                   // the other members of `service` are others, too
  std::vector<host::Process> processes;  // on this host
  // Where a member listens, if that is an address of its own: what comes from there may be its.
  std::vector<std::uint8_t> address;
  std::string joining = {};  // who else may become one of `processes`: see MarkedPair
};
// kNotFound when a service that is not external matches no process.
base::Result<Party> calling_party(const BindRequest& request, const model::Service& service);

// How the packets of `from` are told apart from those of others who speak to the same endpoints.
struct Telling {
  enum class Way {
    kAlone,
    kUser,
    kGroup,
    kAddress,
    kSockets,  // PairMarker marks them, in both directions
  };
  Way way = Way::kAlone;
  std::uint32_t user = 0;
  PacketRule::Group group;
  std::vector<std::uint8_t> address;
  TaskLayout layout;
  std::string text;  // for people: "nobody else speaks to it"
};
// kUnsupported, naming the others and what would make it possible, when they cannot be told apart.
// `replies`: also what `to` sends to `from`, which the user of a sender does not tell.
base::Result<Telling> tell_apart(const BindRequest& request, const Party& from, const Party& to,
                                 const std::vector<PacketEndpoint>& endpoints,
                                 bool replies = false);

}  // namespace squall::inject
