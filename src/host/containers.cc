#include "host/containers.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"

namespace squall::host {

namespace {

constexpr base::Duration kAnswerLimit = std::chrono::seconds(2);
constexpr std::size_t kAnswerSizeLimit = 16u << 20;

base::Result<base::UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return base::Error{.message = fmt::format("{} is too long for a socket", path)};
  std::memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd.valid()) return base::system_error("create a socket", errno);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::system_error(fmt::format("connect to {}", path), errno);
  return fd;
}

base::Status wait_for_input(int fd, base::Instant deadline, const std::string& path) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::BootClock::now());
  pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
  const int ready = left.count() > 0 ? ::poll(&request, 1, static_cast<int>(left.count())) : 0;
  if (ready > 0 || (ready < 0 && errno == EINTR)) return {};
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = fmt::format("the container engine at {} does not answer", path),
                     .hint = "check that it is running"};
}

// HTTP/1.0, so that the answer comes in one piece and ends with the connection.
base::Result<std::string> ask(const base::UniqueFd& fd, const std::string& path) {
  constexpr std::string_view kRequest = "GET /containers/json HTTP/1.0\r\nHost: localhost\r\n\r\n";
  if (::send(fd.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kRequest.size()))
    return base::system_error(fmt::format("write to {}", path), errno);
  const base::Instant deadline = base::BootClock::now() + kAnswerLimit;
  std::string answer;
  std::array<char, 16384> buffer;
  while (true) {
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got == 0) break;
    if (got > 0) {
      answer.append(buffer.data(), static_cast<std::size_t>(got));
      if (answer.size() > kAnswerSizeLimit)
        return base::Error{.message = fmt::format("the answer of {} is too long", path)};
    } else if (errno == EAGAIN || errno == EINTR) {
      SQUALL_TRY(wait_for_input(fd.get(), deadline, path));
    } else {
      return base::system_error(fmt::format("read from {}", path), errno);
    }
  }
  const auto body = answer.find("\r\n\r\n");
  const std::string_view first = std::string_view(answer).substr(0, answer.find("\r\n"));
  if (!first.starts_with("HTTP/1.") || first.find(" 200") == std::string_view::npos ||
      body == std::string::npos) {
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = fmt::format("{} is no container engine that we know", path)};
  }
  return answer.substr(body + 4);
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
    Container container{.id = text_in(entry, "Id"), .image = text_in(entry, "Image")};
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
    if (!container.id.empty()) containers.push_back(std::move(container));
  }
  return containers;
}

base::Result<std::vector<Container>> read_containers(const std::vector<std::string>& sockets) {
  std::map<std::string, Container> by_id;  // two sockets may lead to the same engine
  std::optional<base::Error> refusal;
  for (const std::string& path : sockets) {
    auto fd = connect_to(path);
    if (!fd.ok()) {
      // No socket, or one left behind by an engine that does not run.
      const base::ErrorCode code = fd.error().code;
      if (code == base::ErrorCode::kNotFound || code == base::ErrorCode::kUnavailable) continue;
      if (!refusal) refusal = std::move(fd).error();
      continue;
    }
    SQUALL_ASSIGN(const std::string answer, ask(*fd, path));
    SQUALL_ASSIGN(std::vector<Container> found, parse_containers(answer));
    for (Container& container : found) by_id[container.id] = std::move(container);
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
