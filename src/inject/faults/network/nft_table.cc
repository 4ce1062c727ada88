#include "inject/faults/network/nft_table.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_NFQUEUE.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "inject/json_fields.h"
#include "inject/scratch_network.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr std::size_t kMessageLimit = 64 * 1024;
constexpr std::size_t kBufferSize = 4 * kMessageLimit;
constexpr std::uint8_t kSyn = 0x02;
constexpr std::uint8_t kSynAndAck = 0x12;
// Before every table of others: what a partition cuts, nobody else gets to see.
constexpr std::int32_t kPriority = -400;

struct TableDeleter {
  void operator()(nftnl_table* table) const { nftnl_table_free(table); }
};
struct ChainDeleter {
  void operator()(nftnl_chain* chain) const { nftnl_chain_free(chain); }
};
struct RuleDeleter {
  void operator()(nftnl_rule* rule) const { nftnl_rule_free(rule); }
};
using TablePointer = std::unique_ptr<nftnl_table, TableDeleter>;
using ChainPointer = std::unique_ptr<nftnl_chain, ChainDeleter>;
using RulePointer = std::unique_ptr<nftnl_rule, RuleDeleter>;

const char* chain_name(PacketRule::Chain chain) {
  switch (chain) {
    case PacketRule::Chain::kMark:
      return "mark";
    case PacketRule::Chain::kIncoming:
      return "incoming";
    case PacketRule::Chain::kOutgoing:
      return "outgoing";
    case PacketRule::Chain::kArriving:
      return "arriving";
  }
  return "incoming";
}

std::uint32_t hook_of(PacketRule::Chain chain) {
  switch (chain) {
    case PacketRule::Chain::kIncoming:
      return NF_INET_LOCAL_IN;
    case PacketRule::Chain::kArriving:
      return NF_INET_PRE_ROUTING;
    case PacketRule::Chain::kMark:
    case PacketRule::Chain::kOutgoing:
      break;
  }
  return NF_INET_LOCAL_OUT;
}

// Two ways to the same queue. A kernel may lack the expression (CONFIG_NFT_QUEUE), or have the
// older target of xtables, which iptables-nft uses, as a module that it does not load by itself
// here.
enum class QueueBy { kTarget, kExpression };

// Adds expressions to one rule, all through register 1.
class RuleBuilder {
 public:
  RuleBuilder(const std::string& table, PacketRule::Chain chain) : rule_(nftnl_rule_alloc()) {
    SQUALL_CHECK(rule_ != nullptr);
    nftnl_rule_set_u32(rule_.get(), NFTNL_RULE_FAMILY, NFPROTO_INET);
    nftnl_rule_set_str(rule_.get(), NFTNL_RULE_TABLE, table.c_str());
    nftnl_rule_set_str(rule_.get(), NFTNL_RULE_CHAIN, chain_name(chain));
  }

  template <typename T>
  void meta_equals(std::uint32_t key, T value, std::uint32_t operation = NFT_CMP_EQ) {
    load_meta(key);
    compare(&value, sizeof value, operation);
  }
  void load_meta(std::uint32_t key) {
    nftnl_expr* expression = add("meta");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, NFT_REG_1);
  }
  void store_meta(std::uint32_t key) {
    nftnl_expr* expression = add("meta");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_SREG, NFT_REG_1);
  }
  void set_meta(std::uint32_t key, std::uint32_t value) {
    nftnl_expr* expression = add("immediate");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
    nftnl_expr_set(expression, NFTNL_EXPR_IMM_DATA, &value, sizeof value);
    store_meta(key);
  }
  void load_payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length) {
    nftnl_expr* expression = add("payload");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_LEN, length);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
  }
  void load_socket_group(std::uint32_t level) {
    nftnl_expr* expression = add("socket");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_KEY, NFT_SOCKET_CGROUPV2);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_DREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_LEVEL, level);
  }
  template <typename T>
  void mask(T and_mask, T xor_mask) {
    nftnl_expr* expression = add("bitwise");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, sizeof(T));
    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, &and_mask, sizeof and_mask);
    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, &xor_mask, sizeof xor_mask);
  }
  void compare(const void* value, std::size_t size, std::uint32_t operation = NFT_CMP_EQ) {
    nftnl_expr* expression = add("cmp");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_OP, operation);
    nftnl_expr_set(expression, NFTNL_EXPR_CMP_DATA, value, static_cast<std::uint32_t>(size));
  }
  void count() { add("counter"); }
  // Goes on for `share` of a million packets only.
  void draw(std::uint32_t share) {
    nftnl_expr* expression = add("numgen");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_DREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_MODULUS, kShareWhole);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_TYPE, NFT_NG_RANDOM);
    // Registers are compared byte by byte, so the number must be in network order.
    expression = add("byteorder");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BYTEORDER_SREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BYTEORDER_DREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BYTEORDER_LEN, sizeof share);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BYTEORDER_SIZE, sizeof share);
    const std::uint32_t limit = htonl(share);
    compare(&limit, sizeof limit, NFT_CMP_LT);
  }
  void drop() {
    nftnl_expr* expression = add("immediate");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_VERDICT, NF_DROP);
  }
  void reset() {
    nftnl_expr* expression = add("reject");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
    nftnl_expr_set_u8(expression, NFTNL_EXPR_REJECT_CODE, 0);
  }
  void queue(std::uint16_t number, QueueBy way) {
    if (way == QueueBy::kExpression) {
      nftnl_expr* expression = add("queue");
      nftnl_expr_set_u16(expression, NFTNL_EXPR_QUEUE_NUM, number);
      nftnl_expr_set_u16(expression, NFTNL_EXPR_QUEUE_TOTAL, 1);
      nftnl_expr_set_u16(expression, NFTNL_EXPR_QUEUE_FLAGS, NFT_QUEUE_FLAG_BYPASS);
      return;
    }
    auto* info = static_cast<xt_NFQ_info_v3*>(std::calloc(1, sizeof(xt_NFQ_info_v3)));
    SQUALL_CHECK(info != nullptr);
    info->queuenum = number;
    info->queues_total = 1;
    info->flags = NFQ_FLAG_BYPASS;
    nftnl_expr* expression = add("target");
    nftnl_expr_set_str(expression, NFTNL_EXPR_TG_NAME, "NFQUEUE");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_TG_REV, 3);
    nftnl_expr_set(expression, NFTNL_EXPR_TG_INFO, info, sizeof *info);  // the expression frees it
  }

  RulePointer take() { return std::move(rule_); }

 private:
  nftnl_expr* add(const char* name) {
    nftnl_expr* expression = nftnl_expr_alloc(name);
    SQUALL_CHECK(expression != nullptr);
    nftnl_rule_add_expr(rule_.get(), expression);
    return expression;
  }
  RulePointer rule_;
};

enum class Side { kSource, kDestination };

void match_endpoint(RuleBuilder& builder, const PacketEndpoint& endpoint, Side side) {
  const bool source = side == Side::kSource;
  if (endpoint.address.size() == 4) {
    builder.meta_equals<std::uint8_t>(NFT_META_NFPROTO, NFPROTO_IPV4);
    builder.load_payload(NFT_PAYLOAD_NETWORK_HEADER, source ? 12 : 16, 4);  // RFC 791
    builder.compare(endpoint.address.data(), 4);
  } else if (endpoint.address.size() == 16) {
    builder.meta_equals<std::uint8_t>(NFT_META_NFPROTO, NFPROTO_IPV6);
    builder.load_payload(NFT_PAYLOAD_NETWORK_HEADER, source ? 8 : 24, 16);  // RFC 8200
    builder.compare(endpoint.address.data(), 16);
  }
  if (endpoint.port == 0) return;
  const std::uint16_t port = htons(endpoint.port);
  builder.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, source ? 0 : 2, 2);
  builder.compare(&port, sizeof port);
}

RulePointer build(const std::string& table, const PacketRule& rule, QueueBy way) {
  RuleBuilder builder{table, rule.chain};
  builder.meta_equals<std::uint8_t>(NFT_META_L4PROTO, static_cast<std::uint8_t>(rule.protocol));
  const bool arriving = hook_of(rule.chain) != NF_INET_LOCAL_OUT;
  if (rule.off_host || rule.loopback)
    builder.meta_equals<std::uint32_t>(arriving ? NFT_META_IIF : NFT_META_OIF,
                                       ::if_nametoindex("lo"),
                                       rule.loopback ? NFT_CMP_EQ : NFT_CMP_NEQ);
  if (rule.source) match_endpoint(builder, *rule.source, Side::kSource);
  if (rule.destination) match_endpoint(builder, *rule.destination, Side::kDestination);
  if (rule.user) builder.meta_equals<std::uint32_t>(NFT_META_SKUID, *rule.user);
  if (rule.group) {
    builder.load_socket_group(rule.group->level);
    builder.compare(&rule.group->id, sizeof rule.group->id);
  }
  if (rule.marked) {
    builder.load_meta(NFT_META_MARK);
    builder.mask<std::uint32_t>(kMarkBit, 0);
    const std::uint32_t bit = kMarkBit;
    builder.compare(&bit, sizeof bit);
  }
  if (rule.opening) {
    builder.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1);  // TCP flags, RFC 9293
    builder.mask<std::uint8_t>(kSynAndAck, 0);
    builder.compare(&kSyn, 1);
  }
  if (rule.action == PacketRule::Action::kQueue) {
    const std::uint32_t none = 0;
    builder.load_meta(NFT_META_MARK);
    builder.mask<std::uint32_t>(kCopyBit, 0);
    builder.compare(&none, sizeof none);
  }
  builder.count();
  if (rule.share != 0) {
    builder.draw(rule.share);
    builder.count();
  }
  switch (rule.action) {
    case PacketRule::Action::kDrop:
      builder.drop();
      break;
    case PacketRule::Action::kReset:
      builder.reset();
      break;
    case PacketRule::Action::kMark:
      builder.load_meta(NFT_META_MARK);
      builder.mask<std::uint32_t>(~kMarkBit, kMarkBit);
      builder.store_meta(NFT_META_MARK);
      break;
    case PacketRule::Action::kQueue:
      builder.queue(rule.queue, way);
      break;
    case PacketRule::Action::kPriority:
      builder.set_meta(NFT_META_PRIORITY, rule.priority);
      break;
  }
  return builder.take();
}

base::Error nft_error(std::string what, int error_number) {
  base::Error error = base::system_error(std::move(what), error_number);
  if (error_number == EPERM) {
    error.code = base::ErrorCode::kPermission;
    error.hint =
        "CAP_NET_ADMIN is needed: run as root, and in a container with --cap-add NET_ADMIN";
  }
  if (error_number == ENOENT || error_number == EOPNOTSUPP || error_number == EINVAL) {
    error.code = base::ErrorCode::kUnsupported;
    error.hint =
        "the kernel lacks a part of nf_tables (5.12 or newer is needed); see `squall doctor`";
  }
  return error;
}

// The messages of one transaction.
class Batch {
 public:
  Batch() : buffer_(kBufferSize), batch_(mnl_nlmsg_batch_start(buffer_.data(), kBufferSize / 2)) {
    nftnl_batch_begin(static_cast<char*>(mnl_nlmsg_batch_current(batch_)), sequence_++);
    mnl_nlmsg_batch_next(batch_);
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() { mnl_nlmsg_batch_stop(batch_); }

  nlmsghdr* add(std::uint16_t type, std::uint16_t flags) {
    ++messages_;
    return nftnl_nlmsg_build_hdr(static_cast<char*>(mnl_nlmsg_batch_current(batch_)), type,
                                 NFPROTO_INET, flags | NLM_F_ACK, sequence_++);
  }
  // False when the transaction is full.
  bool next() { return mnl_nlmsg_batch_next(batch_); }
  void end() {
    nftnl_batch_end(static_cast<char*>(mnl_nlmsg_batch_current(batch_)), sequence_++);
    mnl_nlmsg_batch_next(batch_);
  }
  const void* data() const { return mnl_nlmsg_batch_head(batch_); }
  std::size_t size() const { return mnl_nlmsg_batch_size(batch_); }
  int messages() const { return messages_; }

 private:
  std::vector<char> buffer_;
  std::uint32_t sequence_ = 1;
  int messages_ = 0;
  mnl_nlmsg_batch* batch_;
};

// A rule's counters in their order: the first sees all that the rule describes, the last what it
// cuts.
int read_counter(nftnl_expr* expression, void* data) {
  const char* name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);
  if (std::strcmp(name, "counter") == 0)
    static_cast<std::vector<std::uint64_t>*>(data)->push_back(
        nftnl_expr_get_u64(expression, NFTNL_EXPR_CTR_PACKETS));
  return 0;
}

int count_rule(const nlmsghdr* message, void* data) {
  const RulePointer rule{nftnl_rule_alloc()};
  if (rule == nullptr || nftnl_rule_nlmsg_parse(message, rule.get()) < 0) return MNL_CB_OK;
  const char* chain = nftnl_rule_get_str(rule.get(), NFTNL_RULE_CHAIN);
  if (chain == nullptr || std::strcmp(chain, chain_name(PacketRule::Chain::kMark)) == 0)
    return MNL_CB_OK;
  std::vector<std::uint64_t> counters;
  nftnl_expr_foreach(rule.get(), read_counter, &counters);
  if (counters.empty()) return MNL_CB_OK;
  auto& counts = *static_cast<PacketCounts*>(data);
  counts.matched += counters.front();
  counts.hit += counters.back();
  return MNL_CB_OK;
}

}  // namespace

// ---- the netlink socket
// ---------------------------------------------------------------------------

struct NftTable::Socket {
  mnl_socket* handle = nullptr;
  std::uint32_t sequence = 1000;

  static base::Result<std::unique_ptr<Socket>> open() {
    auto socket = std::make_unique<Socket>();
    socket->handle = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (socket->handle == nullptr) return nft_error("open a netlink socket", errno);
    if (mnl_socket_bind(socket->handle, 0, MNL_SOCKET_AUTOPID) < 0)
      return nft_error("bind a netlink socket", errno);
    return socket;
  }
  Socket() = default;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (handle != nullptr) mnl_socket_close(handle);
  }

  // The kernel works on a request while it is sent, so every answer waits already when that
  // returns.
  base::Status send_batch(const Batch& batch, const std::string& what) {
    if (mnl_socket_sendto(handle, batch.data(), batch.size()) < 0) return nft_error(what, errno);
    std::vector<char> buffer(kMessageLimit);
    for (int acknowledged = 0; acknowledged < batch.messages();) {
      const ssize_t got =
          ::recv(mnl_socket_get_fd(handle), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return nft_error(what + ": no answer", errno);
      int left = static_cast<int>(got);
      for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
           mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
        if (message->nlmsg_type != NLMSG_ERROR) continue;
        const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message));
        if (error->error != 0) return nft_error(what, -error->error);
        ++acknowledged;
      }
    }
    return {};
  }

  // Sends one request and hands every message of the answer to `callback`.
  base::Status ask(nlmsghdr* request, mnl_cb_t callback, void* data, const std::string& what) {
    request->nlmsg_seq = ++sequence;
    if (mnl_socket_sendto(handle, request, request->nlmsg_len) < 0) return nft_error(what, errno);
    std::vector<char> buffer(kMessageLimit);
    while (true) {
      const ssize_t got = mnl_socket_recvfrom(handle, buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return nft_error(what, errno);
      const int more = mnl_cb_run(buffer.data(), static_cast<std::size_t>(got), sequence,
                                  mnl_socket_get_portid(handle), callback, data);
      if (more < 0) return nft_error(what, errno);
      if (more == 0) return {};
    }
  }
};

NftTable::NftTable(std::unique_ptr<Socket> socket, std::string name)
    : socket_(std::move(socket)), name_(std::move(name)) {}
NftTable::NftTable(NftTable&&) noexcept = default;
NftTable& NftTable::operator=(NftTable&&) noexcept = default;
NftTable::~NftTable() = default;

namespace {

// Table, chains and rules.
base::Status fill(Batch& batch, const std::string& name, const std::vector<PacketRule>& rules,
                  QueueBy way) {
  const TablePointer table{nftnl_table_alloc()};
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, NFPROTO_INET);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name.c_str());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FLAGS, NFT_TABLE_F_OWNER);
  nftnl_table_nlmsg_build_payload(batch.add(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL),
                                  table.get());
  bool room = batch.next();
  for (const PacketRule::Chain which :
       {PacketRule::Chain::kMark, PacketRule::Chain::kIncoming, PacketRule::Chain::kOutgoing,
        PacketRule::Chain::kArriving}) {
    const bool used = std::any_of(rules.begin(), rules.end(),
                                  [&](const PacketRule& rule) { return rule.chain == which; });
    if (!used) continue;
    const ChainPointer chain{nftnl_chain_alloc()};
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, NFPROTO_INET);
    nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, name.c_str());
    nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, chain_name(which));
    nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, "filter");
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, hook_of(which));
    nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, kPriority);
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
    nftnl_chain_nlmsg_build_payload(batch.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE), chain.get());
    room = room && batch.next();
  }
  for (const PacketRule& rule : rules) {
    if (!room) break;
    const RulePointer built = build(name, rule, way);
    nftnl_rule_nlmsg_build_payload(batch.add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND),
                                   built.get());
    room = batch.next();
  }
  if (!room) {
    return base::Error{.code = base::ErrorCode::kExhausted,
                       .message = fmt::format("{} rules do not fit one transaction", rules.size()),
                       .hint = "name fewer addresses"};
  }
  batch.end();
  return {};
}

}  // namespace

base::Result<NftTable> NftTable::create(const std::string& name,
                                        const std::vector<PacketRule>& rules) {
  SQUALL_ASSIGN(auto socket, Socket::open());
  const std::string what = "create nftables table " + name;
  const bool queues = std::any_of(rules.begin(), rules.end(), [](const PacketRule& rule) {
    return rule.action == PacketRule::Action::kQueue;
  });
  Batch batch;
  SQUALL_TRY(fill(batch, name, rules, QueueBy::kTarget));
  auto created = socket->send_batch(batch, what);
  if (!created.ok() && queues && created.error().code == base::ErrorCode::kUnsupported) {
    // A refused transaction leaves its other answers behind: another socket.
    SQUALL_ASSIGN(socket, Socket::open());
    Batch again;
    SQUALL_TRY(fill(again, name, rules, QueueBy::kExpression));
    created = socket->send_batch(again, what);
  }
  SQUALL_TRY(std::move(created));
  return NftTable{std::move(socket), name};
}

base::Result<PacketCounts> NftTable::packets() const {
  std::array<char, 4096> buffer{};
  nlmsghdr* request =
      nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP, 0);
  const RulePointer filter{nftnl_rule_alloc()};
  nftnl_rule_set_u32(filter.get(), NFTNL_RULE_FAMILY, NFPROTO_INET);
  nftnl_rule_set_str(filter.get(), NFTNL_RULE_TABLE, name_.c_str());
  nftnl_rule_nlmsg_build_payload(request, filter.get());
  PacketCounts counts;
  SQUALL_TRY(socket_->ask(request, count_rule, &counts, "read the counters of " + name_));
  return counts;
}

base::Status NftTable::clear_rules() {
  Batch batch;
  const RulePointer all{nftnl_rule_alloc()};
  nftnl_rule_set_u32(all.get(), NFTNL_RULE_FAMILY, NFPROTO_INET);
  nftnl_rule_set_str(all.get(), NFTNL_RULE_TABLE, name_.c_str());
  nftnl_rule_nlmsg_build_payload(batch.add(NFT_MSG_DELRULE, 0), all.get());
  batch.next();
  batch.end();
  return socket_->send_batch(batch, "take the rules out of nftables table " + name_);
}

base::Status NftTable::remove() {
  Batch batch;
  const TablePointer table{nftnl_table_alloc()};
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, NFPROTO_INET);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name_.c_str());
  nftnl_table_nlmsg_build_payload(batch.add(NFT_MSG_DELTABLE, 0), table.get());
  batch.next();
  batch.end();
  auto removed = socket_->send_batch(batch, "remove nftables table " + name_);
  if (!removed.ok() && removed.error().message.find(std::strerror(ENOENT)) != std::string::npos)
    return {};  // gone already
  return removed;
}

base::Result<bool> NftTable::ask_for_table(Socket& socket, const std::string& name) {
  std::array<char, 4096> buffer{};
  nlmsghdr* request =
      nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETTABLE, NFPROTO_INET, NLM_F_ACK, 0);
  const TablePointer table{nftnl_table_alloc()};
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, NFPROTO_INET);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name.c_str());
  nftnl_table_nlmsg_build_payload(request, table.get());
  const auto ignore = [](const nlmsghdr*, void*) { return MNL_CB_OK; };
  auto answer = socket.ask(request, ignore, nullptr, "look for nftables table " + name);
  if (answer.ok()) return true;
  if (answer.error().message.find(std::strerror(ENOENT)) != std::string::npos) return false;
  return std::move(answer).error();
}

base::Result<bool> NftTable::there() const {
  return ask_for_table(*socket_, name_);
}

base::Result<bool> NftTable::exists(const std::string& name) {
  SQUALL_ASSIGN(auto socket, Socket::open());
  return ask_for_table(*socket, name);
}

base::Status check_packet_queues() {
  SQUALL_ASSIGN(const ScratchNetwork network, ScratchNetwork::create());
  PacketRule rule{.chain = PacketRule::Chain::kArriving,
                  .action = PacketRule::Action::kQueue,
                  .source = {},
                  .destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = 1},
                  .user = {},
                  .group = {}};
  SQUALL_TRY(NftTable::create("squall_scratch", {rule}));
  return {};
}

// ---- endpoints and rules as values
// ----------------------------------------------------------------

base::Result<PacketEndpoint> PacketEndpoint::parse(const std::string& address, std::uint16_t port) {
  PacketEndpoint endpoint;
  endpoint.port = port;
  if (address.empty() || address == "*" || address == "0.0.0.0" || address == "::") return endpoint;
  std::array<std::uint8_t, 16> bytes{};
  const bool six = address.find(':') != std::string::npos;
  if (::inet_pton(six ? AF_INET6 : AF_INET, address.c_str(), bytes.data()) != 1) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = fmt::format("`{}` is not an IP address", address),
                       .hint = "write `listens:` as 127.0.0.1:5432 or [::1]:5432"};
  }
  constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (six && std::equal(kMapped.begin(), kMapped.end(), bytes.begin()))
    endpoint.address.assign(bytes.begin() + kMapped.size(), bytes.end());
  else
    endpoint.address.assign(bytes.begin(), bytes.begin() + (six ? 16 : 4));
  return endpoint;
}

std::string PacketEndpoint::text() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (address.size() == 4)
    return fmt::format("{}:{}", ::inet_ntop(AF_INET, address.data(), buffer.data(), buffer.size()),
                       port);
  if (address.size() == 16)
    return fmt::format("[{}]:{}",
                       ::inet_ntop(AF_INET6, address.data(), buffer.data(), buffer.size()), port);
  return fmt::format("*:{}", port);
}

Json to_json(const PacketEndpoint& endpoint) {
  return {{"address", endpoint.address}, {"port", endpoint.port}};
}

std::optional<PacketEndpoint> endpoint_from_json(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  PacketEndpoint endpoint;
  endpoint.port = static_cast<std::uint16_t>(unsigned_field(json, "port"));
  const Json& address = field(json, "address");
  if (!address.is_array()) return endpoint;
  for (const Json& byte : address) {
    if (byte.is_number_unsigned() && endpoint.address.size() < 16)
      endpoint.address.push_back(static_cast<std::uint8_t>(byte.get<std::uint64_t>()));
  }
  return endpoint;
}

namespace {

Json optional_to_json(const std::optional<PacketEndpoint>& endpoint) {
  return endpoint ? to_json(*endpoint) : Json(nullptr);
}

}  // namespace

Json to_json(const PacketRule& rule) {
  Json json = {{"chain", static_cast<int>(rule.chain)},
               {"action", static_cast<int>(rule.action)},
               {"protocol", static_cast<int>(rule.protocol)},
               {"source", optional_to_json(rule.source)},
               {"destination", optional_to_json(rule.destination)},
               {"marked", rule.marked},
               {"opening", rule.opening},
               {"off_host", rule.off_host},
               {"loopback", rule.loopback},
               {"queue", rule.queue},
               {"priority", rule.priority},
               {"share", rule.share}};
  if (rule.user) json["user"] = *rule.user;
  if (rule.group) json["group"] = {{"id", rule.group->id}, {"level", rule.group->level}};
  return json;
}

base::Result<PacketRule> rule_from_json(const Json& json) {
  const std::int64_t chain = integer_field(json, "chain");
  const std::int64_t action = integer_field(json, "action");
  const std::int64_t protocol = integer_field(json, "protocol");
  PacketRule rule;
  rule.source = endpoint_from_json(field(json, "source"));
  rule.destination = endpoint_from_json(field(json, "destination"));
  const std::uint64_t share = unsigned_field(json, "share");
  // Without an address or port a rule would cut everything.
  const auto aims = [](const std::optional<PacketEndpoint>& endpoint) {
    return endpoint &&
           (endpoint->port != 0 || endpoint->address.size() == 4 || endpoint->address.size() == 16);
  };
  const bool aimed = aims(rule.source) || aims(rule.destination);
  if (share > kShareWhole || chain < 0 || chain > 3 || action < 0 || action > 4 ||
      (protocol != 6 && protocol != 17) || !aimed)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding holds a packet rule that makes no sense"};
  rule.chain = static_cast<PacketRule::Chain>(chain);
  rule.action = static_cast<PacketRule::Action>(action);
  rule.protocol = static_cast<PacketRule::Protocol>(protocol);
  rule.marked = boolean_field(json, "marked");
  rule.opening = boolean_field(json, "opening");
  rule.off_host = boolean_field(json, "off_host");
  rule.share = static_cast<std::uint32_t>(share);
  rule.loopback = boolean_field(json, "loopback");
  rule.queue = static_cast<std::uint16_t>(unsigned_field(json, "queue"));
  rule.priority = static_cast<std::uint32_t>(unsigned_field(json, "priority"));
  if (field(json, "user").is_number())
    rule.user = static_cast<std::uint32_t>(unsigned_field(json, "user"));
  if (field(json, "group").is_object()) {
    rule.group = PacketRule::Group{
        .id = unsigned_field(json["group"], "id"),
        .level = static_cast<std::uint32_t>(unsigned_field(json["group"], "level"))};
  }
  return rule;
}

}  // namespace squall::inject
