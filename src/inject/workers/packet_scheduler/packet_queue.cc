#include "inject/workers/packet_scheduler/packet_queue.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace squall::inject {

namespace {

constexpr std::size_t kBatch = 64;         // packets a system call
constexpr int kBatchesAtOnce = 4;          // then what is due gets its turn
constexpr std::uint32_t kStartBytes = 64;  // IPv6 header, ports, and some
constexpr std::size_t kStartSlot = 1024;
constexpr std::uint32_t kWholeBytes = 0xffff;
constexpr std::size_t kWholeSlot = 68 * 1024;
constexpr std::size_t kVerdictsLimit = 48 * 1024;
constexpr std::size_t kVerdictBytes = 32;
constexpr int kReceiveBuffer = 16 * 1024 * 1024;
// Where others rarely look for theirs; a number that is taken is passed over.
constexpr std::uint16_t kFirstNumber = 21'000;
constexpr std::uint16_t kLastNumber = 29'000;

base::Error queue_error(std::string what, int error_number) {
  base::Error error = base::system_error(std::move(what), error_number);
  if (error_number == EPERM) {
    error.code = base::ErrorCode::kPermission;
    error.hint =
        "CAP_NET_ADMIN is needed: run as root, and in a container with --cap-add NET_ADMIN";
  }
  if (error_number == EINVAL || error_number == ENOENT || error_number == EPROTONOSUPPORT ||
      error_number == EOPNOTSUPP) {
    error.code = base::ErrorCode::kUnsupported;
    error.hint = "the kernel lacks nfnetlink_queue; see `squall doctor`";
  }
  return error;
}

nlmsghdr* begin(void* buffer, std::uint8_t type, std::uint16_t number, std::uint16_t flags) {
  nlmsghdr* header = mnl_nlmsg_put_header(buffer);
  header->nlmsg_type = static_cast<std::uint16_t>(NFNL_SUBSYS_QUEUE << 8 | type);
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  auto* general = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  general->nfgen_family = AF_UNSPEC;
  general->version = NFNETLINK_V0;
  general->res_id = htons(number);
  return header;
}

struct Attributes {
  const nlattr* packet_header = nullptr;
  const nlattr* payload = nullptr;
  const nlattr* whole_length = nullptr;
};

int take_attribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<Attributes*>(data);
  const std::uint16_t length = mnl_attr_get_payload_len(attribute);
  switch (mnl_attr_get_type(attribute)) {
    case NFQA_PACKET_HDR:
      if (length >= sizeof(nfqnl_msg_packet_hdr)) found.packet_header = attribute;
      break;
    case NFQA_PAYLOAD:
      found.payload = attribute;
      break;
    case NFQA_CAP_LEN:
      if (length >= sizeof(std::uint32_t)) found.whole_length = attribute;
      break;
    default:
      break;
  }
  return MNL_CB_OK;
}

}  // namespace

PacketQueues::PacketQueues(base::UniqueFd socket, const PacketQueueOptions& options)
    : socket_(std::move(socket)), options_(options) {
  received_.resize(kBatch * (options.whole ? kWholeSlot : kStartSlot));
  verdicts_.reserve(kVerdictsLimit + kWholeSlot);
}

base::Result<PacketQueues> PacketQueues::open(const PacketQueueOptions& options) {
  base::UniqueFd socket{
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER)};
  if (!socket) return queue_error("open a netlink socket", errno);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return queue_error("bind a netlink socket", errno);
  // Failing either only makes a burst pass unheld earlier.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer);
  const int on = 1;
  ::setsockopt(socket.get(), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
  // Without it the kernel copies each refused verdict back to us.
  ::setsockopt(socket.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  PacketQueues queues{std::move(socket), options};
  std::uint16_t bound = 0;
  base::Status taken;
  for (std::uint16_t number = kFirstNumber; number < kLastNumber; ++number) {
    taken = queues.command(number, NFQNL_CFG_CMD_BIND);
    // Another socket has this number: EPERM. It is also what a process without CAP_NET_ADMIN gets,
    // for every number then.
    if (!taken.ok() && taken.error().code == base::ErrorCode::kPermission) {
      for (; bound > 0; --bound)
        SQUALL_TRY(
            queues.command(static_cast<std::uint16_t>(number - bound), NFQNL_CFG_CMD_UNBIND));
      continue;
    }
    SQUALL_TRY(taken);
    SQUALL_TRY(queues.configure(number));
    if (++bound < options.queues) continue;
    queues.first_ = static_cast<std::uint16_t>(number + 1 - bound);
    return queues;
  }
  return std::move(taken).error();
}

base::Status PacketQueues::command(std::uint16_t number, std::uint8_t command) {
  std::array<char, 256> buffer{};
  nlmsghdr* header = begin(buffer.data(), NFQNL_MSG_CONFIG, number, NLM_F_ACK);
  nfqnl_msg_config_cmd what{};
  what.command = command;
  mnl_attr_put(header, NFQA_CFG_CMD, sizeof what, &what);
  return send_and_wait(header);
}

base::Status PacketQueues::configure(std::uint16_t number) {
  std::array<char, 256> buffer{};
  nlmsghdr* header = begin(buffer.data(), NFQNL_MSG_CONFIG, number, NLM_F_ACK);
  nfqnl_msg_config_params parameters{};
  parameters.copy_range = htonl(options_.whole ? kWholeBytes : kStartBytes);
  parameters.copy_mode = NFQNL_COPY_PACKET;
  mnl_attr_put(header, NFQA_CFG_PARAMS, sizeof parameters, &parameters);
  mnl_attr_put_u32(header, NFQA_CFG_QUEUE_MAXLEN, htonl(options_.limit));
  const std::uint32_t large = options_.whole ? 0 : NFQA_CFG_F_GSO;
  mnl_attr_put_u32(header, NFQA_CFG_MASK, htonl(NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO));
  mnl_attr_put_u32(header, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_FAIL_OPEN | large));
  return send_and_wait(header);
}

// Only while no packets come yet: it reads what waits until the answer.
base::Status PacketQueues::send_and_wait(void* message) {
  auto* header = static_cast<nlmsghdr*>(message);
  const std::string what = "set up a packet queue";
  if (::send(socket_.get(), header, header->nlmsg_len, 0) < 0) return queue_error(what, errno);
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return queue_error(what + ": no answer", errno);
    const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer.data());
    if (!mnl_nlmsg_ok(answer, static_cast<int>(got)) || answer->nlmsg_type != NLMSG_ERROR) continue;
    const int error = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error;
    if (error == 0) return {};
    return queue_error(what, error);
  }
}

base::Status PacketQueues::receive(const std::function<void(const QueuedPacket&)>& take) {
  const std::size_t slot = received_.size() / kBatch;
  for (int batch = 0; batch < kBatchesAtOnce; ++batch) {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> places{};
    for (std::size_t i = 0; i < kBatch; ++i) {
      places[i] = {.iov_base = received_.data() + i * slot, .iov_len = slot};
      messages[i].msg_hdr.msg_iov = &places[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int got = ::recvmmsg(socket_.get(), messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) return {};
    if (got < 0) return queue_error("receive packets", errno);
    for (int i = 0; i < got; ++i) {
      const auto index = static_cast<std::size_t>(i);
      int left = static_cast<int>(messages[index].msg_len);
      for (const auto* message = reinterpret_cast<const nlmsghdr*>(places[index].iov_base);
           mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
        take_message(message, take);
    }
    if (got < static_cast<int>(kBatch)) return {};
  }
  return {};
}

void PacketQueues::take_message(const void* data,
                                const std::function<void(const QueuedPacket&)>& take) {
  const auto* message = static_cast<const nlmsghdr*>(data);
  if (message->nlmsg_type == NLMSG_ERROR) {
    ++vanished_;  // a verdict for a packet that is no more
    return;
  }
  if (message->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET)) return;
  Attributes found;
  if (mnl_attr_parse(message, sizeof(nfgenmsg), take_attribute, &found) < 0) return;
  if (found.packet_header == nullptr) return;
  nfqnl_msg_packet_hdr header{};
  std::memcpy(&header, mnl_attr_get_payload(found.packet_header), sizeof header);
  const auto* general = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(message));
  const int index = ntohs(general->res_id) - first_;
  if (index < 0 || index >= options_.queues) return;
  QueuedPacket packet;
  packet.queue = static_cast<std::uint16_t>(index);
  packet.id = ntohl(header.packet_id);
  if (found.payload != nullptr) {
    packet.start = {static_cast<const std::uint8_t*>(mnl_attr_get_payload(found.payload)),
                    mnl_attr_get_payload_len(found.payload)};
    packet.bytes = packet.start.size();
  }
  if (found.whole_length != nullptr) packet.bytes = ntohl(mnl_attr_get_u32(found.whole_length));
  take(packet);
}

void PacketQueues::accept(std::uint16_t queue, std::uint32_t id) {
  verdict(queue, id, NF_ACCEPT, {});
}

void PacketQueues::accept_changed(std::uint16_t queue, std::uint32_t id,
                                  std::span<const std::uint8_t> packet) {
  verdict(queue, id, NF_ACCEPT, packet);
}

void PacketQueues::drop(std::uint16_t queue, std::uint32_t id) {
  verdict(queue, id, NF_DROP, {});
}

void PacketQueues::verdict(std::uint16_t queue, std::uint32_t id, std::uint32_t verdict,
                           std::span<const std::uint8_t> packet) {
  const std::size_t start = verdicts_.size();
  verdicts_.resize(start + kVerdictBytes + (packet.empty() ? 0 : packet.size() + 8));
  nlmsghdr* header = begin(verdicts_.data() + start, NFQNL_MSG_VERDICT,
                           static_cast<std::uint16_t>(first_ + queue), 0);
  const nfqnl_msg_verdict_hdr what{.verdict = htonl(verdict), .id = htonl(id)};
  mnl_attr_put(header, NFQA_VERDICT_HDR, sizeof what, &what);
  if (!packet.empty()) mnl_attr_put(header, NFQA_PAYLOAD, packet.size(), packet.data());
  verdicts_.resize(start + NLMSG_ALIGN(header->nlmsg_len));
  if (verdicts_.size() >= kVerdictsLimit) flush();
}

void PacketQueues::flush() {
  if (verdicts_.empty()) return;
  // The kernel works on it while it is sent; only a lack of memory can refuse it as a whole, and
  // then the packets wait until the fault ends.
  const ssize_t sent = ::send(socket_.get(), verdicts_.data(), verdicts_.size(), 0);
  if (sent < 0 && errno == EINTR) return;
  verdicts_.clear();
}

}  // namespace squall::inject
