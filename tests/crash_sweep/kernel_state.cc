#include "kernel_state.h"

#include <fmt/format.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/inet_diag.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd.h"
#include "base/text.h"

namespace squall::crash_sweep {

namespace {

struct Question {
  const char* about;
  int protocol;
  std::uint16_t type;
  std::size_t header;                  // of each answer, before its attributes
  std::array<std::uint16_t, 3> apart;  // attributes that count or pass
};

constexpr std::uint16_t nft(std::uint16_t message) {
  return NFNL_SUBSYS_NFTABLES << 8 | message;
}

constexpr std::array<Question, 11> kQuestions{{
    {"links",
     NETLINK_ROUTE,
     RTM_GETLINK,
     sizeof(ifinfomsg),
     {IFLA_STATS, IFLA_STATS64, IFLA_AF_SPEC}},
    {"addresses", NETLINK_ROUTE, RTM_GETADDR, sizeof(ifaddrmsg), {IFA_CACHEINFO}},
    {"routes", NETLINK_ROUTE, RTM_GETROUTE, sizeof(rtmsg), {RTA_CACHEINFO}},
    {"routing rules", NETLINK_ROUTE, RTM_GETRULE, sizeof(fib_rule_hdr), {}},
    {"qdiscs", NETLINK_ROUTE, RTM_GETQDISC, sizeof(tcmsg), {TCA_STATS, TCA_STATS2, TCA_XSTATS}},
    {"nft tables", NETLINK_NETFILTER, nft(NFT_MSG_GETTABLE), sizeof(nfgenmsg), {}},
    {"nft chains", NETLINK_NETFILTER, nft(NFT_MSG_GETCHAIN), sizeof(nfgenmsg), {}},
    {"nft rules", NETLINK_NETFILTER, nft(NFT_MSG_GETRULE), sizeof(nfgenmsg), {}},
    {"nft sets", NETLINK_NETFILTER, nft(NFT_MSG_GETSET), sizeof(nfgenmsg), {}},
    {"nft objects", NETLINK_NETFILTER, nft(NFT_MSG_GETOBJ), sizeof(nfgenmsg), {}},
    {"nft flow tables", NETLINK_NETFILTER, nft(NFT_MSG_GETFLOWTABLE), sizeof(nfgenmsg), {}},
}};

std::string hexadecimal(const char* bytes, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i)
    text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[i]));
  return text;
}

std::string line_of(const Question& question, const char* bytes, std::size_t count) {
  std::string line = hexadecimal(bytes, std::min(count, question.header));
  std::size_t at = NLMSG_ALIGN(question.header);
  while (at + sizeof(nlattr) <= count) {
    nlattr attribute{};
    std::memcpy(&attribute, bytes + at, sizeof attribute);
    if (attribute.nla_len < sizeof attribute || at + attribute.nla_len > count) break;
    const std::uint16_t type = attribute.nla_type & NLA_TYPE_MASK;
    if (type == 0 ||
        std::find(question.apart.begin(), question.apart.end(), type) == question.apart.end())
      line += fmt::format(
          " {}:{}", type,
          hexadecimal(bytes + at + sizeof attribute, attribute.nla_len - sizeof attribute));
    at += NLA_ALIGN(attribute.nla_len);
  }
  return line;
}

// False: to be asked again, for it changed meanwhile.
template <typename Take>
bool take_answers(int socket, const Take& take) {
  alignas(nlmsghdr) std::array<char, 64 * 1024> buffer;
  while (true) {
    const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    std::size_t at = 0;
    while (at + sizeof(nlmsghdr) <= static_cast<std::size_t>(got)) {
      nlmsghdr header{};
      std::memcpy(&header, buffer.data() + at, sizeof header);
      if ((header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) return false;
      if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) return true;
      if (header.nlmsg_len < NLMSG_HDRLEN) return false;
      take(buffer.data() + at + NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
      at += NLMSG_ALIGN(header.nlmsg_len);
    }
  }
}

bool ask(const Question& question, std::string& text) {
  const base::UniqueFd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, question.protocol)};
  struct {
    nlmsghdr header;
    std::array<char, 32> body;
  } request{};
  request.header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_LENGTH(question.header));
  request.header.nlmsg_type = question.type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  if (::send(socket.get(), &request, request.header.nlmsg_len, 0) < 0) return false;
  std::vector<std::string> lines;
  const bool all = take_answers(socket.get(), [&](const char* bytes, std::size_t count) {
    lines.push_back(line_of(question, bytes, count));
  });
  std::sort(lines.begin(), lines.end());
  text = base::join(lines, "\n");
  return all;
}

// TCP sockets that listen, and UDP ones that are connected to nobody: address, port and user. Not
// from /proc/net/tcp, for which the kernel looks through all connections.
bool ask_for_sockets(int family, int protocol, std::vector<std::string>& lines) {
  const base::UniqueFd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
  constexpr unsigned kUnconnected = 7;  // TCP_CLOSE
  constexpr unsigned kListens = 10;     // TCP_LISTEN
  struct {
    nlmsghdr header;
    inet_diag_req_v2 body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<std::uint8_t>(family);
  request.body.sdiag_protocol = static_cast<std::uint8_t>(protocol);
  request.body.idiag_states = 1u << (protocol == IPPROTO_TCP ? kListens : kUnconnected);
  if (::send(socket.get(), &request, sizeof request, 0) < 0) return false;
  return take_answers(socket.get(), [&](const char* bytes, std::size_t count) {
    inet_diag_msg found{};
    if (count < sizeof found) return;
    std::memcpy(&found, bytes, sizeof found);
    lines.push_back(fmt::format(
        "protocol {} port {} address {} user {}", protocol, ntohs(found.id.idiag_sport),
        hexadecimal(reinterpret_cast<const char*>(found.id.idiag_src), sizeof found.id.idiag_src),
        found.idiag_uid));
  });
}

std::string listening_sockets() {
  std::vector<std::string> lines;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const int protocol : {IPPROTO_TCP, IPPROTO_UDP}) {
      if (!ask_for_sockets(family, protocol, lines)) lines.emplace_back("the kernel does not tell");
    }
  }
  std::sort(lines.begin(), lines.end());
  return base::join(lines, "\n");
}

}  // namespace

std::map<std::string, std::string> network_state() {
  std::map<std::string, std::string> state;
  for (const Question& question : kQuestions) {
    std::string& text = state[question.about];
    for (int tries = 0; tries < 10 && !ask(question, text); ++tries) text = "no answer";
  }
  state["listening sockets"] = listening_sockets();
  return state;
}

}  // namespace squall::crash_sweep
