#pragma once
// What the container kinds share: which containers a fault hits, asking their engine without
// waiting, and what it says of a container.

#include <optional>
#include <string>
#include <vector>

#include "host/unix_http.h"
#include "inject/fault.h"
#include "inject/faults/process/targets.h"

namespace squall::inject {

inline constexpr std::string_view kContainerEngine = "container engine";

inline constexpr std::string_view kEnginesAreRoots =
    "a container engine does for whoever speaks to its socket all that root could do, and the "
    "socket's path and the container's processes are the binding's word. Use the process, resource "
    "and network kinds on what runs in the container";

// A container that a fault was bound to. `main` is its first process.
struct ContainerTarget {
  Target main;
  std::string engine;  // path of its engine's socket
  std::string id;      // 64 hex digits
  std::string name;
};
base::Json to_json(const ContainerTarget& target);
// kCorrupt when the binding holds no containers.
base::Result<std::vector<ContainerTarget>> containers_of(const model::FaultBinding& binding);
std::string describe_containers(const std::vector<ContainerTarget>& targets);

// What the engine says of it.
struct ContainerState {
  bool exists = true;
  bool running = false;  // also when paused
  bool paused = false;
  bool removes_itself = false;  // when it ends (--rm)
  pid_t pid = 0;
  std::string status;      // "running", "exited"
  std::string started_at;  // as the engine writes times
};
base::Result<ContainerState> parse_container_state(std::string_view json);
// Is the container still in the life in which it was bound?
bool same_life(const ContainerTarget& target, const ContainerState& state);
// "was removed", "was started anew (pid 4711)", "exited": how it differs from what was bound.
std::string describe_change(const ContainerTarget& target, const ContainerState& state);

// One request to each of several containers' engines, all at once.
class EngineRound {
 public:
  using Answer = base::Result<host::HttpAnswer>;

  // `path` follows the container in the target: "/pause". Answers that take longer than `limit` are
  // kTimeout.
  void begin(const std::vector<ContainerTarget>& targets, std::string_view method,
             std::string_view path, base::Duration limit);
  bool begun() const { return !calls_.empty(); }
  void forget() { calls_.clear(); }
  // True when each has an answer, or failed.
  bool advance();
  Step waiting() const;
  const Answer& answer(std::size_t index) const { return *calls_[index].answer; }
  std::size_t size() const { return calls_.size(); }

 private:
  struct Call {
    host::UnixHttpExchange exchange;
    std::optional<Answer> answer;
  };
  std::vector<Call> calls_;
  base::Instant deadline_;
};

// What the engines say of the targets now; absent while an answer is missing. Asks anew after that.
class ContainerLook {
 public:
  using States = std::vector<base::Result<ContainerState>>;
  std::optional<States> look(const std::vector<ContainerTarget>& targets);
  Step waiting() const { return round_.waiting(); }

 private:
  EngineRound round_;
};

// An error with what the engine says, unless the answer is one of success: 2xx, or 304 (it is so
// already).
base::Status check_answer(const EngineRound::Answer& answer, const ContainerTarget& target,
                          std::string_view what);
// Nobody answers at the engine's socket.
bool is_unreachable(const base::Error& error);

// The chosen members' containers, each asked of its engine. kUnsupported when a member is in no
// container, or in one of an engine that we cannot reach; kConflict when one is paused already.
struct BoundContainers {
  ChosenMembers members;
  std::vector<ContainerTarget> targets;
  std::vector<ContainerState> states;  // in the same order
};
base::Result<BoundContainers> bind_containers(const BindRequest& request);
model::FaultBinding container_binding(const BindRequest& request, const BoundContainers& bound,
                                      model::LifetimeClass lifetime, const base::Json& extra);

// The engines answer and know the containers. Nothing else can be tried without touching them: a
// scratch container would run the image's own program.
base::Result<std::string> rehearse_containers(const model::FaultBinding& binding,
                                              FaultContext& context);

}  // namespace squall::inject
