#pragma once
// What the network kinds that act between two services share: the parameters that name the pair,
// the rules for its packets, the binding.

#include <optional>
#include <string>
#include <vector>

#include "inject/client.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair_marker.h"
#include "inject/faults/network/scope.h"
#include "model/vocabulary.h"

namespace squall::inject {

constexpr model::ParameterDescriptor from_parameter(bool required) {
  return {.name = "from",
          .type = model::ValueType::kService,
          .required = required,
          .summary =
              "The service that opens the connections: its processes at bind and their children "
              "where others share its user, group and address; an external one stands for all "
              "callers from outside, and for the probes that say so."};
}
constexpr model::ParameterDescriptor to_parameter(bool required) {
  return {.name = "to",
          .type = model::ValueType::kService,
          .required = required,
          .summary = "The service that it speaks to, by the addresses on which it listens."};
}
inline constexpr model::ParameterDescriptor kPortParameter{
    .name = "port",
    .type = model::ValueType::kInteger,
    .minimum = 1,
    .maximum = 65535,
    .summary = "Only this one of the ports on which `to` listens."};

inline constexpr std::string_view kDirectionChoices[] = {"both", "requests", "replies"};
inline constexpr model::ParameterDescriptor kDirectionParameter{
    .name = "direction",
    .type = model::ValueType::kChoice,
    .default_text = "both",
    .summary =
        "Which packets: `requests` are those that `from` sends, `replies` those that `to` "
        "sends, acknowledgements included.",
    .choices = kDirectionChoices};

enum class Direction { kBoth, kRequests, kReplies };
Direction direction_of(const model::Parameters& parameters);  // both, when it has none
// "packets between api and db", "packets from db to api"
std::string describe_packets(const std::string& from, const std::string& to, Direction direction);

// Fills in target and services from the parameters `from` and `to`.
void describe_pair(const model::SystemMap& map, const model::FaultSpecification& fault,
                   model::PlannedFault& planned);

// Two services, or two members of one, and where the second listens.
struct PacketPair {
  Party from;
  Party to;
  std::vector<PacketEndpoint> endpoints;
  Telling telling;
};
// The pair that the parameters `from`, `to` and `port` name; kUsage when it is none.
// `replies`: their telling covers what `to` sends, too, also where `direction` does not ask for it.
base::Result<PacketPair> find_pair(const BindRequest& request, bool replies = false);
// Only the services and endpoints: how their packets are told apart is left open.
base::Result<PacketPair> find_pair_ends(const BindRequest& request);

// Whose packets have to be marked, when nothing less tells them apart.
std::optional<Marking> marking_of(const PacketPair& pair);

// The rules that drop the packets of the pair where they arrive, so that the sender sees silence.
// A `share` of a million (0: all). `exactly`: each packet of the directions meets a rule once, or
// kUnsupported with the reason.
struct Cut {
  Direction direction = Direction::kBoth;
  std::uint32_t share = 0;
  bool exactly = false;
  bool refuse = false;  // instead: new TCP connections are answered with a reset
};
base::Result<std::vector<PacketRule>> drop_rules(const PacketPair& pair, const Cut& cut);

// A binding to the owner table, one target an endpoint.
model::FaultBinding pair_binding(const BindRequest& request, const PacketPair& pair,
                                 Direction direction, const std::vector<PacketRule>& rules);

}  // namespace squall::inject
