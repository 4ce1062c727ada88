#pragma once
// Network namespaces other than our own: those of containers. A socket belongs for life to the
// namespace in which it was made, so it is enough to be there for a moment.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace squall::inject {

struct NetworkNamespace {
  base::ProcessIdentity process;  // one that is in it
  std::uint64_t inode = 0;
  std::string text;  // for people: "container queue-1"
};
base::Json to_json(const NetworkNamespace& place);
// Nothing when it is none.
std::optional<NetworkNamespace> namespace_from_json(const base::Json& json);

// The inode of the one that this thread is in.
base::Result<std::uint64_t> current_network_namespace();

// For good: for a worker, before it opens its sockets. Errors as of InNamespace::enter().
base::Status move_to_namespace(const NetworkNamespace& place);

// While it lives, this thread is in the namespace. Not to be nested.
class InNamespace {
 public:
  // kNotFound when the process is gone, or is in another namespace by now; kPermission without
  // CAP_SYS_ADMIN.
  static base::Result<InNamespace> enter(const NetworkNamespace& place);
  InNamespace(InNamespace&& other) noexcept : home_(std::move(other.home_)) {}
  InNamespace& operator=(InNamespace&&) = delete;
  ~InNamespace();
  // Is this thread in one?
  static bool entered();

 private:
  explicit InNamespace(base::UniqueFd home) : home_(std::move(home)) {}
  base::UniqueFd home_;
};

}  // namespace squall::inject
