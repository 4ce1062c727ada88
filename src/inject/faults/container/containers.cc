#include "inject/faults/container/containers.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kLookLimit = std::chrono::seconds(5);

// Ids go into request lines.
bool is_container_id(std::string_view id) {
  return id.size() == 64 && id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

base::Error engine_error(const base::Error& error, const ContainerTarget& target) {
  base::Error result = error;
  result.message = fmt::format("asking the engine of {}: {}", target.main.description,
                               base::printable(error.message));
  if (result.hint.empty())
    result.hint = fmt::format("is the container engine at {} running?", target.engine);
  return result;
}

base::Result<ContainerState> state_of(const EngineRound::Answer& answer,
                                      const ContainerTarget& target) {
  if (!answer.ok()) return engine_error(answer.error(), target);
  if (answer->status == 404) {
    ContainerState gone;
    gone.exists = false;
    gone.status = "removed";
    return gone;
  }
  SQUALL_TRY(check_answer(answer, target, "inspect"));
  auto state = parse_container_state(answer->body);
  if (!state.ok()) return engine_error(state.error(), target);
  return state;
}

base::Result<ContainerTarget> target_of(const host::Member& member,
                                        const std::vector<host::Container>& containers) {
  const std::string& id = member.process.container;
  if (id.empty()) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} runs in no container", describe_member(member)),
                       .hint = "use the process kinds for it"};
  }
  for (const host::Container& container : containers) {
    if (container.id != id) continue;
    return ContainerTarget{
        .main = {.member = member.name,
                 .identity = member.process.identity,
                 .description = fmt::format("container {} (pid {})", container.name,
                                            member.process.identity.pid)},
        .engine = container.engine,
        .id = id,
        .name = container.name};
  }
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message = fmt::format("no container engine that we reach knows the container {} of {}",
                             id.substr(0, 12), describe_member(member)),
      .hint =
          "start its API socket (`podman system service`, dockerd), and say where it is: "
          "DOCKER_HOST=unix:///PATH"};
}

// For bind, in the engine: waits.
ContainerLook::States look_now(const std::vector<ContainerTarget>& targets) {
  ContainerLook look;
  while (true) {
    if (auto states = look.look(targets)) return std::move(*states);
    const Step step = look.waiting();
    std::vector<pollfd> requests;
    for (const int fd : step.descriptors)
      requests.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    ::poll(requests.data(), requests.size(), 100);
  }
}

}  // namespace

Json to_json(const ContainerTarget& target) {
  Json json = to_json(target.main);
  json["engine"] = target.engine;
  json["id"] = target.id;
  json["name"] = target.name;
  return json;
}

base::Result<std::vector<ContainerTarget>> containers_of(const model::FaultBinding& binding) {
  std::vector<ContainerTarget> targets;
  for (const Json& item : field(binding.details.json(), "containers")) {
    ContainerTarget target{.main = target_from_json(item),
                           .engine = text_field(item, "engine"),
                           .id = text_field(item, "id"),
                           .name = text_field(item, "name")};
    if (!is_container_id(target.id) || !target.engine.starts_with('/') ||
        target.main.identity.pid <= 1)
      targets.clear();
    else
      targets.push_back(std::move(target));
    if (targets.empty()) break;
  }
  if (targets.empty())
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no container"};
  return targets;
}

std::string describe_containers(const std::vector<ContainerTarget>& targets) {
  std::vector<std::string> parts;
  for (const ContainerTarget& target : targets) parts.push_back(target.main.description);
  return base::enumerate(parts);
}

base::Result<ContainerState> parse_container_state(std::string_view json) {
  SQUALL_ASSIGN(const Json document, base::parse_json(json));
  const Json& found = field(document, "State");
  if (!found.is_object()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the engine does not say in which state the container is"};
  }
  ContainerState state;
  state.paused = boolean_field(found, "Paused");
  // Podman says of a paused container that it does not run.
  state.running = boolean_field(found, "Running") || state.paused;
  state.removes_itself = boolean_field(field(document, "HostConfig"), "AutoRemove");
  state.pid = static_cast<pid_t>(integer_field(found, "Pid"));
  state.status = base::printable(text_field(found, "Status"));
  state.started_at = base::printable(text_field(found, "StartedAt"));
  return state;
}

bool same_life(const ContainerTarget& target, const ContainerState& state) {
  if (!state.exists || !state.running || state.pid != target.main.identity.pid) return false;
  const auto now = base::identify_process(state.pid);
  return now.ok() && *now == target.main.identity;
}

std::string describe_change(const ContainerTarget& target, const ContainerState& state) {
  if (!state.exists) return fmt::format("container {} was removed", target.name);
  if (!state.running) return fmt::format("container {} is {}", target.name, state.status);
  if (!same_life(target, state))
    return fmt::format("container {} was started anew (pid {}, at {})", target.name, state.pid,
                       state.started_at);
  return fmt::format("container {} is {}", target.name, state.paused ? "paused" : state.status);
}

void EngineRound::begin(const std::vector<ContainerTarget>& targets, std::string_view method,
                        std::string_view path, base::Duration limit) {
  calls_.clear();
  deadline_ = base::BootClock::now() + limit;
  for (const ContainerTarget& target : targets) {
    calls_.push_back({.exchange = host::UnixHttpExchange{{.socket = target.engine,
                                                          .method = std::string(method),
                                                          .target = fmt::format("/containers/{}{}",
                                                                                target.id, path)}},
                      .answer = {}});
  }
}

bool EngineRound::advance() {
  bool all = true;
  for (Call& call : calls_) {
    if (call.answer) continue;
    auto answer = call.exchange.advance();
    if (!answer.ok()) {
      call.answer = std::move(answer).error();
    } else if (*answer) {
      call.answer = std::move(**answer);
    } else if (base::BootClock::now() >= deadline_) {
      call.answer = base::Error{.code = base::ErrorCode::kTimeout,
                                .message = fmt::format("the container engine at {} does not answer",
                                                       call.exchange.request().socket)};
    } else {
      all = false;
    }
  }
  return all;
}

Step EngineRound::waiting() const {
  std::vector<int> descriptors;
  for (const Call& call : calls_) {
    if (!call.answer) descriptors.push_back(call.exchange.fd());
  }
  const base::Duration left = deadline_ - base::BootClock::now();
  return Step::wait_for(std::move(descriptors),
                        std::max<base::Duration>(left, std::chrono::milliseconds(1)));
}

std::optional<ContainerLook::States> ContainerLook::look(
    const std::vector<ContainerTarget>& targets) {
  if (!round_.begun()) round_.begin(targets, "GET", "/json", kLookLimit);
  if (!round_.advance()) return std::nullopt;
  States states;
  for (std::size_t i = 0; i < round_.size(); ++i)
    states.push_back(state_of(round_.answer(i), targets[i]));
  round_.forget();
  return states;
}

base::Status check_answer(const EngineRound::Answer& answer, const ContainerTarget& target,
                          std::string_view what) {
  if (!answer.ok()) return engine_error(answer.error(), target);
  if (answer->status < 300 || answer->status == 304) return {};
  const auto json = base::parse_json(answer->body);
  const std::string said = json.ok() ? text_field(*json, "message") : std::string{};
  return base::Error{
      .code = answer->status == 404 ? base::ErrorCode::kNotFound : base::ErrorCode::kConflict,
      .message = fmt::format("the engine answers {} to `{}` of {}{}{}", answer->status, what,
                             target.main.description, said.empty() ? "" : ": ",
                             base::printable(said.substr(0, 300))),
      .hint = fmt::format("look at the container: docker inspect {} (or podman)", target.name)};
}

bool is_unreachable(const base::Error& error) {
  return error.code == base::ErrorCode::kUnavailable || error.code == base::ErrorCode::kTimeout ||
         error.code == base::ErrorCode::kNotFound;
}

base::Result<BoundContainers> bind_containers(const BindRequest& request) {
  BoundContainers bound;
  SQUALL_ASSIGN(bound.members, choose_members(request));
  SQUALL_ASSIGN(const std::vector<host::Container> containers, request.host.containers());
  for (const host::Member& member : bound.members.chosen) {
    SQUALL_ASSIGN(ContainerTarget target, target_of(member, containers));
    bound.targets.push_back(std::move(target));
  }
  ContainerLook::States states = look_now(bound.targets);
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (!states[i].ok()) return std::move(states[i]).error();
    const ContainerTarget& target = bound.targets[i];
    if (states[i]->paused) {
      return base::Error{
          .code = base::ErrorCode::kConflict,
          .message = fmt::format("container {} is paused already, by somebody else", target.name),
          .hint = fmt::format("look why; `docker unpause {}` lets it run", target.name)};
    }
    // A program in the container that is not its first process: a member by process selector.
    if (states[i]->running && states[i]->pid != target.main.identity.pid) {
      SQUALL_TRY(check_not_ourselves(states[i]->pid));
      SQUALL_ASSIGN(bound.targets[i].main.identity, base::identify_process(states[i]->pid));
    }
    bound.states.push_back(std::move(*states[i]));
  }
  return bound;
}

model::FaultBinding container_binding(const BindRequest& request, const BoundContainers& bound,
                                      model::LifetimeClass lifetime, const Json& extra) {
  Json containers = Json::array();
  Json resources = Json::array();
  for (const ContainerTarget& target : bound.targets) {
    containers.push_back(to_json(target));
    resources.push_back("container/" + target.id);
  }
  Json details = {{"containers", containers}, {"resources", resources}};
  details.update(extra);
  model::FaultBinding binding =
      process_binding(request, bound.members, std::string(kContainerEngine), lifetime, details);
  for (std::size_t i = 0; i < binding.targets.size(); ++i) {
    binding.targets[i].process = bound.targets[i].main.identity;
    binding.targets[i].description =
        fmt::format("{} ({})", binding.targets[i].member, bound.targets[i].main.description);
  }
  return binding;
}

base::Result<std::string> rehearse_containers(const model::FaultBinding& binding, FaultContext&) {
  SQUALL_ASSIGN(const auto targets, containers_of(binding));
  const ContainerLook::States states = look_now(targets);
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (!states[i].ok()) return states[i].error();
    if (same_life(targets[i], *states[i])) continue;
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = describe_change(targets[i], *states[i]) + " since it was bound"};
  }
  return fmt::format(
      "the engine answers and knows {}; nothing was done to it, and a scratch "
      "container would run its program",
      describe_containers(targets));
}

}  // namespace squall::inject
