#include "inject/service_json.h"

#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

Json listens_to_json(const std::optional<model::ListenAddress>& listens) {
  if (!listens) return nullptr;
  return {{"address", listens->address}, {"port", listens->port}, {"path", listens->unix_path}};
}

std::optional<model::ListenAddress> listens_from_json(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  model::ListenAddress listens;
  listens.address = text_field(json, "address");
  listens.port = static_cast<std::uint16_t>(unsigned_field(json, "port"));
  listens.unix_path = text_field(json, "path");
  return listens;
}

Json selector_to_json(const model::ProcessSelector& selector) {
  return {{"exe", selector.exe},
          {"argv_contains", selector.argv_contains},
          {"user", selector.user},
          {"cgroup", selector.cgroup}};
}

model::ProcessSelector selector_from_json(const Json& json) {
  return {.exe = text_field(json, "exe"),
          .argv_contains = text_field(json, "argv_contains"),
          .user = text_field(json, "user"),
          .cgroup = text_field(json, "cgroup")};
}

Json container_to_json(const model::ContainerSelector& selector) {
  return {{"name", selector.name}, {"label", selector.label}, {"image", selector.image}};
}

model::ContainerSelector container_from_json(const Json& json) {
  return {.name = text_field(json, "name"),
          .label = text_field(json, "label"),
          .image = text_field(json, "image")};
}

}  // namespace

Json to_json(const model::Service& service) {
  Json members = Json::array();
  for (const model::MemberSelector& member : service.members) {
    members.push_back({{"name", member.name},
                       {"role", member.role},
                       {"listens", listens_to_json(member.listens)},
                       {"process", selector_to_json(member.process)},
                       {"container", container_to_json(member.container)},
                       {"start", member.start}});
  }
  return {{"name", service.name},
          {"kind", service.kind},
          {"process", selector_to_json(service.process)},
          {"container", container_to_json(service.container)},
          {"listens", listens_to_json(service.listens)},
          {"start", service.start},
          {"expected_members", service.expected_members},
          {"members", members}};
}

base::Result<model::Service> service_from_json(const Json& json) {
  model::Service service;
  service.name = text_field(json, "name");
  if (service.name.empty()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no service"};
  }
  service.kind = text_field(json, "kind");
  service.process = selector_from_json(field(json, "process"));
  service.container = container_from_json(field(json, "container"));
  service.listens = listens_from_json(field(json, "listens"));
  service.start = texts_field(json, "start");
  service.expected_members = static_cast<int>(integer_field(json, "expected_members"));
  const Json& members = field(json, "members");
  if (!members.is_array()) return service;
  for (const Json& item : members) {
    service.members.push_back({.name = text_field(item, "name"),
                               .role = text_field(item, "role"),
                               .listens = listens_from_json(field(item, "listens")),
                               .process = selector_from_json(field(item, "process")),
                               .container = container_from_json(field(item, "container")),
                               .start = texts_field(item, "start")});
  }
  return service;
}

}  // namespace squall::inject
