#pragma once
// An nftables table that this process owns (flag `owner`, Linux 5.12): nobody else can change it,
// and the kernel removes it when the netlink socket closes, however the process ends. Built from
// typed messages (libnftnl), never from rule text.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace squall::inject {

// An address and port as rules match them. An empty address matches every one of both families, and
// port 0 every port.
struct PacketEndpoint {
  std::vector<std::uint8_t> address;  // 0, 4 or 16 bytes, network order
  std::uint16_t port = 0;

  // kUsage when `address` is no IP address. "0.0.0.0" and "::" are every address; an IPv4 address
  // mapped into IPv6 is the IPv4 address, as its packets are.
  static base::Result<PacketEndpoint> parse(const std::string& address, std::uint16_t port);
  std::string text() const;  // "127.0.0.1:5432", "[::1]:80", "*:80"
  bool operator==(const PacketEndpoint&) const = default;
};

base::Json to_json(const PacketEndpoint& endpoint);
// Nothing when it is none.
std::optional<PacketEndpoint> endpoint_from_json(const base::Json& json);

struct PacketRule {
  enum class Chain {
    kMark,      // where packets leave their sender: marks those of one sender
    kIncoming,  // where packets arrive: cuts
    kOutgoing,  // where packets leave for other hosts: cuts
    kArriving,  // where packets come in, before anything looks at them: queues
  };
  enum class Action { kDrop, kReset, kMark, kQueue, kPriority };
  enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17 };

  Chain chain = Chain::kIncoming;
  Action action = Action::kDrop;
  Protocol protocol = Protocol::kTcp;
  std::optional<PacketEndpoint> source;
  std::optional<PacketEndpoint> destination;
  std::optional<std::uint32_t> user;  // of the sending socket
  struct Group {
    std::uint64_t id = 0;     // inode number of the group's folder
    std::uint32_t level = 0;  // its depth below the root
    bool operator==(const Group&) const = default;
  };
  std::optional<Group> group;  // of the sending socket, or in kIncoming of the receiving one
  bool marked = false;         // only packets that kMark marked
  bool opening = false;        // TCP: SYN without ACK
  bool off_host = false;       // not through the loopback interface
  // How many of a million such packets, each drawn by the kernel at random; 0: all of them.
  std::uint32_t share = 0;
  bool loopback = false;  // only through the loopback interface; not in kMark
  // kQueue: the packet waits in this NFQUEUE for the verdict of a worker. It passes when nobody
  // serves the queue.
  std::uint16_t queue = 0;
  // kPriority: the packet gets this one, which names a class of the interface's queues.
  std::uint32_t priority = 0;
  bool operator==(const PacketRule&) const = default;
};
base::Json to_json(const PacketRule& rule);
base::Result<PacketRule> rule_from_json(const base::Json& json);

// A rule's share counts per million packets.
inline constexpr std::uint32_t kShareWhole = 1'000'000;

// What the cutting rules have met so far.
struct PacketCounts {
  std::uint64_t matched = 0;  // packets that the rules describe
  std::uint64_t hit = 0;      // those of them that were cut: fewer when a rule has a share
};

// The bit of skb->mark that kMark sets; other bits stay as they are.
inline constexpr std::uint32_t kMarkBit = 1u << 29;
// The bit on copies of packets that a worker makes. kQueue lets them pass.
inline constexpr std::uint32_t kCopyBit = 1u << 30;

// Can this host put packets into queues for a worker? Tried in a network namespace of our own.
base::Status check_packet_queues();

class NftTable {
 public:
  // Creates table, chains and rules in one transaction. kPermission without CAP_NET_ADMIN,
  // kUnsupported when the kernel lacks something.
  static base::Result<NftTable> create(const std::string& name,
                                       const std::vector<PacketRule>& rules);
  NftTable(NftTable&&) noexcept;
  NftTable& operator=(NftTable&&) noexcept;
  ~NftTable();  // closes the socket; the kernel then removes the table within some 30 ms

  base::Result<PacketCounts> packets() const;
  // Takes all rules out of the chains; counters go with them. What waits in a queue stays there:
  // remove() makes the kernel drop it.
  base::Status clear_rules();
  // In force no more when it returns.
  base::Status remove();

  // Does the kernel list it? Asked through our own socket: to open and close another one would wait
  // for the kernel's cleaning up after a removal.
  base::Result<bool> there() const;
  // Is there a table of this name, whoever's?
  static base::Result<bool> exists(const std::string& name);

 private:
  struct Socket;
  static base::Result<bool> ask_for_table(Socket& socket, const std::string& name);
  explicit NftTable(std::unique_ptr<Socket> socket, std::string name);
  std::unique_ptr<Socket> socket_;
  std::string name_;
};

}  // namespace squall::inject
