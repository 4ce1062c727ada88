#pragma once
// The kernel's packet queues (NFQUEUE): packets wait in the kernel until we give their verdict.
// When this socket closes, the queues and what waits in them are gone, and rules with bypass let
// packets through.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

struct QueuedPacket {
  std::uint16_t queue = 0;              // index among ours
  std::uint32_t id = 0;                 // for the verdict
  std::uint64_t bytes = 0;              // its whole length
  std::span<const std::uint8_t> start;  // its first bytes, from the IP header on; valid in the call
};

struct PacketQueueOptions {
  std::uint16_t queues = 1;
  // Most packets that wait in one queue. What comes then passes at once (fail open).
  std::uint32_t limit = 1024;
  // Bytes of each packet that are handed to us. All of them: `whole`, and large sends are then cut
  // into packets of the network's size, with finished checksums, before they are queued.
  bool whole = false;
};

class PacketQueues {
 public:
  // Binds queues with consecutive numbers that nobody else serves. kPermission without
  // CAP_NET_ADMIN, kUnsupported without nfnetlink_queue.
  static base::Result<PacketQueues> open(const PacketQueueOptions& options);

  std::uint16_t first() const { return first_; }  // number of the first queue
  int fd() const { return socket_.get(); }        // readable when packets wait

  // Hands over what waits, at most some hundred packets. Never blocks.
  base::Status receive(const std::function<void(const QueuedPacket&)>& take);
  // Verdicts are collected and sent by flush(), many in one system call.
  void accept(std::uint16_t queue, std::uint32_t id);
  void accept_changed(std::uint16_t queue, std::uint32_t id, std::span<const std::uint8_t> packet);
  void drop(std::uint16_t queue, std::uint32_t id);
  void flush();
  // Packets that the kernel took out of a queue before their verdict.
  std::uint64_t vanished() const { return vanished_; }

 private:
  explicit PacketQueues(base::UniqueFd socket, const PacketQueueOptions& options);
  base::Status command(std::uint16_t number, std::uint8_t command);
  base::Status configure(std::uint16_t number);
  base::Status send_and_wait(void* message);
  void verdict(std::uint16_t queue, std::uint32_t id, std::uint32_t verdict,
               std::span<const std::uint8_t> packet);
  void take_message(const void* message, const std::function<void(const QueuedPacket&)>& take);

  base::UniqueFd socket_;
  PacketQueueOptions options_;
  std::uint16_t first_ = 0;
  std::vector<std::uint8_t> received_;  // one slot a packet
  std::vector<std::uint8_t> verdicts_;
  std::uint64_t vanished_ = 0;
};

}  // namespace squall::inject
