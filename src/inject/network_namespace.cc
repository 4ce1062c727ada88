#include "inject/network_namespace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>

#include <cerrno>

#include "inject/json_fields.h"

namespace squall::inject {

namespace {

thread_local bool is_away = false;

base::UniqueFd open_own() {
  return base::UniqueFd{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
}

std::uint64_t inode_of(const base::UniqueFd& file) {
  struct stat info {};
  return ::fstat(file.get(), &info) == 0 ? info.st_ino : 0;
}

base::Error gone(const NetworkNamespace& place) {
  return base::Error{
      .code = base::ErrorCode::kNotFound,
      .message = fmt::format("the network namespace of {} is gone: it was restarted", place.text),
      .hint = "bind the fault anew"};
}

}  // namespace

base::Json to_json(const NetworkNamespace& place) {
  base::Json json = to_json(place.process);
  json["inode"] = place.inode;
  json["text"] = place.text;
  return json;
}

std::optional<NetworkNamespace> namespace_from_json(const base::Json& json) {
  NetworkNamespace place{.process = identity_of(json),
                         .inode = unsigned_field(json, "inode"),
                         .text = text_field(json, "text")};
  if (place.process.pid <= 0 || place.inode == 0) return std::nullopt;
  return place;
}

base::Result<std::uint64_t> current_network_namespace() {
  const base::UniqueFd own = open_own();
  if (!own) return base::system_error("open our network namespace", errno);
  return inode_of(own);
}

base::Status move_to_namespace(const NetworkNamespace& place) {
  const std::string path = fmt::format("/proc/{}/ns/net", place.process.pid);
  const base::UniqueFd away{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!away && errno == ENOENT) return gone(place);
  if (!away) return base::system_error("open " + path, errno);
  if (inode_of(away) != place.inode) return gone(place);
  if (::setns(away.get(), CLONE_NEWNET) != 0) {
    base::Error error = base::system_error("enter the network namespace of " + place.text, errno);
    if (errno == EPERM) error.hint = "CAP_SYS_ADMIN is needed: run as root with it";
    return error;
  }
  return {};
}

base::Result<InNamespace> InNamespace::enter(const NetworkNamespace& place) {
  base::UniqueFd home = open_own();
  if (!home) return base::system_error("open our network namespace", errno);
  SQUALL_TRY(move_to_namespace(place));
  is_away = true;
  return InNamespace{std::move(home)};
}

InNamespace::~InNamespace() {
  if (!home_) return;
  // To go on in somebody else's namespace would hit the wrong packets.
  SQUALL_CHECK(::setns(home_.get(), CLONE_NEWNET) == 0);
  is_away = false;
}

bool InNamespace::entered() {
  return is_away;
}

}  // namespace squall::inject
