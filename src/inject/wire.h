#pragma once
// What engine, keeper and holder say to one another over SOCK_SEQPACKET: one frame a packet,
// payload JSON. The same codec speaks on a run's stop socket.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "inject/caller.h"
#include "inject/client.h"
#include "inject/packet_socket.h"

namespace squall::inject {

// ---- engine to keeper, and on to the holder ----
struct Hello {
  enum class Mode { kHold, kReplay };  // kReplay: undo what the dead holder of this run left
  Mode mode = Mode::kHold;
  HolderOptions options;
  // The keeper puts what the kernel says in their place; what an engine says here is not believed.
  std::string owner;
  base::ProcessIdentity engine;
  Account caller;
  std::string policy_file;  // empty: the host's
};
// Instead of a greeting: takes the kill switch back.
struct ReleaseMessage {};
// ---- engine to holder ----
struct ArmMessage {
  base::LeaseId lease;
  LeaseRequest request;
};
struct RenewMessage {};
struct RevertMessage {
  base::LeaseId lease;  // 0: all
  std::string cause;
};
struct RehearseMessage {
  std::uint64_t id = 0;
  model::FaultBinding binding;
};
struct EndMessage {};
// ---- holder to engine ----
// Also the keeper's word that it has started a holder, which carries the socket to it. A second one
// means that the first holder died and this one undoes its faults.
struct Ready {
  base::ProcessIdentity holder;
};
struct RehearsedMessage {
  std::uint64_t id = 0;
  std::string text;
  std::optional<base::Error> error;
};
struct Finished {  // the last message: nothing is held any more, or `left` says what is
  int leases = 0;  // ended since the start
  std::vector<std::string> left;
};
// ---- stop sockets, and the holder's word of it to the engine ----
struct StopMessage {
  std::string who;
  std::string why;
  std::string cause = "stopped";
  // To the warden's public socket only.
  std::string run = {};     // empty: every run of this host
  bool everything = false;  // and refuse new leases from now on
};
struct StatusMessage {};
struct StatusReply {
  std::vector<ActiveLease> leases;
  bool complete = true;  // false: there are more than fit
};

using Message = std::variant<Hello, ArmMessage, RenewMessage, RevertMessage, RehearseMessage,
                             EndMessage, Ready, LeaseEvent, RehearsedMessage, Finished, StopMessage,
                             ReleaseMessage, StatusMessage, StatusReply>;

// kExhausted when it would not fit a packet.
base::Result<std::vector<std::byte>> encode(const Message& message);
// Never trusts the bytes. kCorrupt when they are not exactly one message.
base::Result<Message> decode(std::span<const std::byte> packet);

std::optional<LeaseState> lease_state_from(std::string_view text);
std::optional<base::LeaseId> lease_id_from(std::string_view text);

}  // namespace squall::inject
