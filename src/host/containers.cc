#include "host/containers.h"

#include <fmt/format.h>
#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "host/unix_http.h"

namespace squall::host {

namespace {

constexpr base::Duration kAnswerLimit = std::chrono::seconds(2);
constexpr std::size_t kAnswerSizeLimit = 16u << 20;

base::Status wait_for_input(int fd, base::Instant deadline, const std::string& path) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::BootClock::now());
  pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
  const int ready = left.count() > 0 ? ::poll(&request, 1, static_cast<int>(left.count())) : 0;
  if (ready > 0 || (ready < 0 && errno == EINTR)) return {};
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = fmt::format("the container engine at {} does not answer", path),
                     .hint = "check that it is running"};
}

// All of them: Podman counts a paused container among those that do not run.
base::Result<std::string> ask(const std::string& path) {
  UnixHttpExchange exchange{{.socket = path,
                             .method = "GET",
                             .target = "/containers/json?all=true",
                             .answer_limit = kAnswerSizeLimit}};
  const base::Instant deadline = base::BootClock::now() + kAnswerLimit;
  while (true) {
    auto answer = exchange.advance();
    if (!answer.ok() && answer.error().code == base::ErrorCode::kCorrupt) break;
    if (!answer.ok()) return std::move(answer).error();
    if (*answer && (*answer)->status == 200) return std::move((*answer)->body);
    if (*answer) break;
    SQUALL_TRY(wait_for_input(exchange.fd(), deadline, path));
  }
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = fmt::format("{} is no container engine that we know", path)};
}

std::string text_in(const base::Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::vector<std::string> default_engine_sockets() {
  std::vector<std::string> sockets{"/run/docker.sock", "/run/podman/podman.sock"};
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime == '/') {
    sockets.push_back(base::join_path(runtime, "docker.sock"));
    sockets.push_back(base::join_path(runtime, "podman/podman.sock"));
  }
  // Where a user has said to find it; other forms (tcp, ssh) are not this host.
  if (const char* given = std::getenv("DOCKER_HOST");
      given != nullptr && std::string_view(given).starts_with("unix://"))
    sockets.emplace_back(given + std::strlen("unix://"));
  return sockets;
}

base::Result<std::vector<Container>> parse_containers(std::string_view json) {
  SQUALL_ASSIGN(const base::Json document, base::parse_json(json));
  if (!document.is_array())
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = "the container engine's answer is not a list"};
  std::vector<Container> containers;
  for (const base::Json& entry : document) {
    if (!entry.is_object()) continue;
    Container container;
    container.id = text_in(entry, "Id");
    container.image = text_in(entry, "Image");
    if (const auto names = entry.find("Names");
        names != entry.end() && names->is_array() && !names->empty() && (*names)[0].is_string()) {
      container.name = (*names)[0].get<std::string>();
      if (container.name.starts_with('/')) container.name.erase(0, 1);
    }
    if (const auto labels = entry.find("Labels"); labels != entry.end() && labels->is_object()) {
      for (const auto& [key, value] : labels->items()) {
        if (value.is_string()) container.labels[key] = value.get<std::string>();
      }
    }
    const std::string state = text_in(entry, "State");
    const bool runs = state.empty() || state == "running" || state == "paused";
    if (runs && !container.id.empty()) containers.push_back(std::move(container));
  }
  return containers;
}

bool selects(const model::ContainerSelector& selector, const Container& container) {
  if (!selector.name.empty() && container.name != selector.name) return false;
  if (!selector.image.empty() && container.image != selector.image &&
      container.image.substr(0, container.image.rfind(':')) != selector.image)
    return false;
  if (selector.label.empty()) return true;
  const auto equals = selector.label.find('=');
  const auto label = container.labels.find(selector.label.substr(0, equals));
  if (label == container.labels.end()) return false;
  return equals == std::string::npos || label->second == selector.label.substr(equals + 1);
}

base::Result<std::vector<Container>> read_containers(const std::vector<std::string>& sockets) {
  std::map<std::string, Container> by_id;  // two sockets may lead to the same engine
  std::optional<base::Error> refusal;
  for (const std::string& path : sockets) {
    auto answer = ask(path);
    if (!answer.ok()) {
      // No socket, or one left behind by an engine that does not run.
      const base::ErrorCode code = answer.error().code;
      if (code == base::ErrorCode::kNotFound || code == base::ErrorCode::kUnavailable) continue;
      if (code != base::ErrorCode::kPermission) return std::move(answer).error();
      if (!refusal) refusal = std::move(answer).error();
      continue;
    }
    SQUALL_ASSIGN(std::vector<Container> found, parse_containers(*answer));
    for (Container& container : found) {
      container.engine = path;
      by_id[container.id] = std::move(container);
    }
  }
  if (by_id.empty() && refusal) {
    if (refusal->code == base::ErrorCode::kPermission)
      refusal->hint = "run as root, or join the group that owns the socket";
    return *std::move(refusal);
  }
  std::vector<Container> containers;
  containers.reserve(by_id.size());
  for (auto& [id, container] : by_id) containers.push_back(std::move(container));
  return containers;
}

}  // namespace squall::host
