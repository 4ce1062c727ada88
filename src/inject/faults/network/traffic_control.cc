#include "inject/faults/network/traffic_control.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/gen_stats.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace squall::inject {

namespace {

constexpr std::size_t kMessageLimit = 64 * 1024;
// As the kernel's own `pfifo_fast` and a new `prio` sort by type of service.
constexpr std::array<std::uint8_t, TC_PRIO_MAX + 1> kDefaultBands{1, 2, 2, 2, 1, 2, 0, 0,
                                                                  1, 1, 1, 1, 1, 1, 1, 1};
constexpr std::uint32_t kFastBands = 3;
constexpr std::uint32_t kTick = 64;  // nanoseconds of the scheduler's unit

base::Error control_error(std::string what, int error_number) {
  base::Error error = base::system_error(std::move(what), error_number);
  switch (error_number) {
    case EPERM:
      error.code = base::ErrorCode::kPermission;
      error.hint =
          "CAP_NET_ADMIN is needed: run as root, and in a container with --cap-add NET_ADMIN";
      break;
    case ENODEV:
      error.code = base::ErrorCode::kNotFound;
      break;
    case EEXIST:
      error.code = base::ErrorCode::kConflict;
      break;
    case ENOENT:
    case EOPNOTSUPP:
      error.code = base::ErrorCode::kUnsupported;
      break;
    default:
      break;
  }
  return error;
}

struct Message {
  std::array<char, 4096> buffer{};
  nlmsghdr* header = nullptr;

  template <typename Payload>
  Message(std::uint16_t type, std::uint16_t flags, const Payload& payload) {
    header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = type;
    header->nlmsg_flags = NLM_F_REQUEST | flags;
    std::memcpy(mnl_nlmsg_put_extra_header(header, sizeof payload), &payload, sizeof payload);
  }
};

Message queue_message(std::uint16_t type, std::uint16_t flags, int interface, std::uint32_t parent,
                      std::uint32_t handle) {
  tcmsg message{};
  message.tcm_family = AF_UNSPEC;
  message.tcm_ifindex = interface;
  message.tcm_parent = parent;
  message.tcm_handle = handle;
  return {type, flags, message};
}

int read_statistics(const nlattr* attribute, void* data) {
  auto& found = *static_cast<QueueDiscipline*>(data);
  const void* payload = mnl_attr_get_payload(attribute);
  const std::size_t size = mnl_attr_get_payload_len(attribute);
  if (mnl_attr_get_type(attribute) == TCA_STATS_BASIC && size >= sizeof(std::uint64_t) + 4) {
    std::uint32_t packets = 0;  // behind the count of bytes
    std::memcpy(&packets, static_cast<const char*>(payload) + sizeof(std::uint64_t), 4);
    found.packets = packets;
  }
  if (mnl_attr_get_type(attribute) == TCA_STATS_QUEUE && size >= sizeof(gnet_stats_queue)) {
    gnet_stats_queue queue{};
    std::memcpy(&queue, payload, sizeof queue);
    found.waiting = queue.qlen;
    found.dropped = queue.drops;
  }
  return MNL_CB_OK;
}

int read_attribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<QueueDiscipline*>(data);
  if (mnl_attr_get_type(attribute) == TCA_KIND) found.kind = mnl_attr_get_str(attribute);
  if (mnl_attr_get_type(attribute) == TCA_STATS2)
    mnl_attr_parse_nested(attribute, read_statistics, data);
  return MNL_CB_OK;
}

struct Listing {
  int interface;
  std::vector<QueueDiscipline> found;
};

// A dump lists every interface's.
int read_discipline(const nlmsghdr* header, void* data) {
  auto& listing = *static_cast<Listing*>(data);
  const auto* message = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(header));
  if (header->nlmsg_type != RTM_NEWQDISC || message->tcm_ifindex != listing.interface)
    return MNL_CB_OK;
  QueueDiscipline found{.handle = message->tcm_handle, .parent = message->tcm_parent, .kind = {}};
  mnl_attr_parse(header, sizeof *message, read_attribute, &found);
  listing.found.push_back(std::move(found));
  return MNL_CB_OK;
}

int read_out_interface(const nlattr* attribute, void* data) {
  if (mnl_attr_get_type(attribute) == RTA_OIF)
    *static_cast<int*>(data) = static_cast<int>(mnl_attr_get_u32(attribute));
  return MNL_CB_OK;
}

int read_route(const nlmsghdr* header, void* data) {
  mnl_attr_parse(header, sizeof(rtmsg), read_out_interface, data);
  return MNL_CB_OK;
}

base::Error absent(std::string_view what, base::Error error) {
  if (error.code != base::ErrorCode::kUnsupported) return error;
  error.message = fmt::format("this kernel has no queueing discipline {}", what);
  error.hint = "leave `mechanism` out, or load the modules: modprobe -a sch_netem sch_prio";
  return error;
}

std::uint32_t handle_of(std::uint16_t tree) {
  return static_cast<std::uint32_t>(tree) << 16;
}

// The options of netem: a structure with attributes behind it.
std::vector<char> netem_options(const SlowBand& band) {
  const auto ticks = [](base::Duration time) {
    return static_cast<std::uint32_t>(std::min<std::int64_t>(time.count() / kTick, UINT32_MAX));
  };
  tc_netem_qopt options{};
  options.latency = ticks(band.delay);
  options.jitter = ticks(band.jitter);
  options.limit = band.limit;
  std::vector<char> bytes(MNL_ALIGN(sizeof options));
  std::memcpy(bytes.data(), &options, sizeof options);
  for (const auto& [type, value] : {std::pair{TCA_NETEM_LATENCY64, band.delay.count()},
                                    std::pair{TCA_NETEM_JITTER64, band.jitter.count()}}) {
    nlattr attribute{};
    attribute.nla_type = static_cast<std::uint16_t>(type);
    attribute.nla_len = sizeof attribute + sizeof value;
    const auto* head = reinterpret_cast<const char*>(&attribute);
    bytes.insert(bytes.end(), head, head + sizeof attribute);
    const auto* body = reinterpret_cast<const char*>(&value);
    bytes.insert(bytes.end(), body, body + sizeof value);
  }
  return bytes;
}

}  // namespace

std::uint32_t band_priority(std::uint16_t tree, std::size_t band) {
  return handle_of(tree) | static_cast<std::uint32_t>(kFastBands + band + 1);
}

struct TrafficControl::Socket {
  mnl_socket* handle = nullptr;
  std::uint32_t sequence = 0;
  Socket() = default;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (handle != nullptr) mnl_socket_close(handle);
  }

  base::Status ask(Message& message, mnl_cb_t callback, void* data, const std::string& what) {
    message.header->nlmsg_seq = ++sequence;
    if (mnl_socket_sendto(handle, message.header, message.header->nlmsg_len) < 0)
      return control_error(what, errno);
    std::vector<char> buffer(kMessageLimit);
    while (true) {
      const ssize_t got = mnl_socket_recvfrom(handle, buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return control_error(what, errno);
      const int more = mnl_cb_run(buffer.data(), static_cast<std::size_t>(got), sequence,
                                  mnl_socket_get_portid(handle), callback, data);
      if (more < 0) return control_error(what, errno);
      if (more == 0) return {};
    }
  }
};

TrafficControl::TrafficControl(std::unique_ptr<Socket> socket) : socket_(std::move(socket)) {}
TrafficControl::TrafficControl(TrafficControl&&) noexcept = default;
TrafficControl& TrafficControl::operator=(TrafficControl&&) noexcept = default;
TrafficControl::~TrafficControl() = default;

base::Result<TrafficControl> TrafficControl::open() {
  auto socket = std::make_unique<Socket>();
  socket->handle = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (socket->handle == nullptr || mnl_socket_bind(socket->handle, 0, MNL_SOCKET_AUTOPID) < 0)
    return control_error("open a route netlink socket", errno);
  return TrafficControl{std::move(socket)};
}

base::Result<std::vector<QueueDiscipline>> TrafficControl::list(int interface) const {
  std::array<char, IF_NAMESIZE> name{};
  if (::if_indextoname(static_cast<unsigned>(interface), name.data()) == nullptr)
    return control_error(fmt::format("look at interface {}", interface), ENODEV);
  Message message = queue_message(RTM_GETQDISC, NLM_F_DUMP, interface, 0, 0);
  Listing listing{.interface = interface, .found = {}};
  SQUALL_TRY(socket_->ask(message, read_discipline, &listing, "list the queues of interfaces"));
  return listing.found;
}

base::Result<std::optional<QueueDiscipline>> TrafficControl::foreign_root(int interface) const {
  SQUALL_ASSIGN(const auto all, list(interface));
  for (const QueueDiscipline& found : all) {
    if (found.parent == TC_H_ROOT && found.handle != 0)
      return std::optional<QueueDiscipline>{found};
  }
  return std::optional<QueueDiscipline>{};
}

base::Status TrafficControl::add_tree(int interface, std::uint16_t tree,
                                      const std::vector<SlowBand>& bands) {
  // Without NLM_F_REPLACE the kernel refuses (EEXIST) when the root is not its default.
  constexpr std::uint16_t kNew = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
  Message root = queue_message(RTM_NEWQDISC, kNew, interface, TC_H_ROOT, handle_of(tree));
  mnl_attr_put_strz(root.header, TCA_KIND, "prio");
  tc_prio_qopt options{};
  options.bands = static_cast<int>(kFastBands + bands.size());
  std::copy(kDefaultBands.begin(), kDefaultBands.end(), options.priomap);
  mnl_attr_put(root.header, TCA_OPTIONS, sizeof options, &options);
  if (auto put = socket_->ask(root, nullptr, nullptr, "put a tree of queues at the root");
      !put.ok())
    return absent("prio (CONFIG_NET_SCH_PRIO), without which netem cannot be aimed at packets",
                  std::move(put).error());
  for (std::size_t band = 0; band < bands.size(); ++band) {
    // The kernel chooses their handles; they go with the tree.
    Message netem = queue_message(RTM_NEWQDISC, kNew, interface, band_priority(tree, band), 0);
    mnl_attr_put_strz(netem.header, TCA_KIND, "netem");
    const std::vector<char> settings = netem_options(bands[band]);
    mnl_attr_put(netem.header, TCA_OPTIONS, settings.size(), settings.data());
    auto added = socket_->ask(netem, nullptr, nullptr, "add netem to it");
    if (added.ok()) continue;
    return absent("netem (CONFIG_NET_SCH_NETEM)", std::move(added).error());
  }
  return {};
}

base::Result<bool> TrafficControl::remove_tree(int interface, std::uint16_t tree) {
  SQUALL_ASSIGN(const auto root, foreign_root(interface));
  if (!root || root->handle != handle_of(tree) || root->kind != "prio") return false;
  // With handle and kind the kernel deletes that one only, even if it is replaced in this moment.
  Message message = queue_message(RTM_DELQDISC, NLM_F_ACK, interface, TC_H_ROOT, handle_of(tree));
  mnl_attr_put_strz(message.header, TCA_KIND, "prio");
  SQUALL_TRY(socket_->ask(message, nullptr, nullptr, "remove the tree of queues"));
  return true;
}

base::Result<int> TrafficControl::interface_towards(
    const std::vector<std::uint8_t>& address) const {
  rtmsg route{};
  route.rtm_family = address.size() == 4 ? AF_INET : AF_INET6;
  route.rtm_dst_len = static_cast<std::uint8_t>(address.size() * 8);
  Message message{RTM_GETROUTE, 0, route};
  mnl_attr_put(message.header, RTA_DST, address.size(), address.data());
  int interface = 0;
  // One answer without an end to it: one message is taken.
  message.header->nlmsg_flags |= NLM_F_ACK;
  SQUALL_TRY(socket_->ask(message, read_route, &interface, "look up a route"));
  if (interface == 0)
    return base::Error{.code = base::ErrorCode::kNotFound, .message = "there is no route"};
  return interface;
}

}  // namespace squall::inject
