#include "inject/faults/network/place.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "inject/faults/network/scope.h"
#include "inject/faults/process/targets.h"
#include "inject/json_fields.h"
#include "inject/network_namespace.h"

namespace squall::inject {

namespace {

using base::Json;
using Place = std::optional<NetworkNamespace>;

// The one namespace, not ours, in which all members run; nothing when they run in ours, or are not
// to be found here.
base::Result<Place> place_of(const BindRequest& request, const model::Service* service) {
  if (service == nullptr || service->external) return Place{};
  const auto members = host::find_members(request.host, *service);
  if (!members.ok() || members->empty()) return Place{};  // the kind itself says why that is wrong
  SQUALL_ASSIGN(const std::uint64_t ours, current_network_namespace());
  const auto foreign = [&](const host::Member& member) {
    const std::uint64_t inode = member.process.network_namespace;
    return inode != 0 && inode != ours;
  };
  if (std::none_of(members->begin(), members->end(), foreign)) return Place{};
  const host::Process& first = members->front().process;
  for (const host::Member& member : *members) {
    if (member.process.network_namespace == first.network_namespace) continue;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message =
            fmt::format("the members of {} are in several network namespaces: {} is not in "
                        "that of {}",
                        service->name, describe_member(member), describe_member(members->front())),
        .hint = "make the one that is meant a service of its own in the map"};
  }
  return Place{NetworkNamespace{
      .process = first.identity,
      .inode = first.network_namespace,
      .text = fmt::format("{} ({})", service->name,
                          first.container.empty() ? "a network namespace of its own"
                                                  : "container " + first.container.substr(0, 12))}};
}

// A published port is met on this host.
bool is_published(const model::Service& service) {
  const auto local = [](const std::optional<model::ListenAddress>& listens) {
    if (!listens || listens->port == 0) return false;
    const auto endpoint = PacketEndpoint::parse(listens->address, listens->port);
    return endpoint.ok() && is_local(*endpoint);
  };
  return local(service.listens) ||
         std::any_of(service.members.begin(), service.members.end(),
                     [&](const model::MemberSelector& member) { return local(member.listens); });
}

base::Result<Place> find_place(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const auto service = [&](const char* name) {
    return request.map.service(parameters.optional_text(name).value_or(""));
  };
  const model::Service* from = service("from");
  SQUALL_ASSIGN(Place place, place_of(request, from));
  if (place) return place;
  if (from != nullptr && !from->external) return Place{};
  const model::Service* to = service(parameters.has("to") ? "to" : "service");
  if (to == nullptr || is_published(*to)) return Place{};
  return place_of(request, to);
}

}  // namespace

base::Result<model::FaultBinding> bind_in_place(const FaultKind& kind, const BindRequest& request) {
  SQUALL_ASSIGN(const Place place, find_place(request));
  if (!place) return kind.bind(request);
  auto binding = [&]() -> base::Result<model::FaultBinding> {
    SQUALL_ASSIGN(const InNamespace inside, InNamespace::enter(*place));
    return kind.bind(request);
  }();
  if (!binding.ok()) return std::move(binding).error().within("in the network of " + place->text);
  Json details = binding->details.json();
  details["network_namespace"] = to_json(*place);
  // The same address may be in use in every container.
  for (Json& resource : details["resources"]) {
    if (resource.is_string())
      resource = fmt::format("namespace/{}/{}", place->inode, resource.get<std::string>());
  }
  binding->details = model::Parameters{std::move(details)};
  for (model::BoundTarget& target : binding->targets)
    target.description += ", in the network of " + place->text;
  return binding;
}

}  // namespace squall::inject
