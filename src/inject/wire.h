#pragma once
// What engine and holder say to one another over their SOCK_SEQPACKET pair: one frame a packet,
// payload JSON. The same codec speaks on a run's stop socket.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "inject/client.h"

namespace squall::inject {

// ---- engine to holder ----
struct Hello {
  enum class Mode { kHold, kReplay };  // kReplay: undo what the dead holder of this run left
  Mode mode = Mode::kHold;
  HolderOptions options;
  std::string owner;
  base::ProcessIdentity engine;
};
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
// ---- stop socket, and the holder's word of it to the engine ----
struct StopMessage {
  std::string who;
  std::string why;
  std::string cause = "stopped";
};

using Message =
    std::variant<Hello, ArmMessage, RenewMessage, RevertMessage, RehearseMessage, EndMessage, Ready,
                 LeaseEvent, RehearsedMessage, Finished, StopMessage>;

// The largest packet: Linux's default limit for one is 208 KiB.
inline constexpr std::size_t kPacketLimit = 160 * 1024;

// kExhausted when it would not fit a packet.
base::Result<std::vector<std::byte>> encode(const Message& message);
// Never trusts the bytes. kCorrupt when they are not exactly one message.
base::Result<Message> decode(std::span<const std::byte> packet);

// Non-blocking. kExhausted when the peer's buffer is full, kUnavailable when it is gone.
base::Status send_packet(int socket, std::span<const std::byte> packet);
// Empty when nothing waits; kUnavailable when the peer is gone.
base::Result<std::vector<std::byte>> receive_packet(int socket);

std::optional<LeaseState> lease_state_from(std::string_view text);
std::optional<base::LeaseId> lease_id_from(std::string_view text);

}  // namespace squall::inject
