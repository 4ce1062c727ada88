#include "inject/workers/dns_answers/dns_message.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "inject/workers/packet_scheduler/packet_fields.h"

namespace squall::inject {

namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kHeader = 12;
constexpr std::size_t kLongestLabel = 63;
constexpr std::size_t kLongestName = 255;  // with the length of each label
constexpr std::uint8_t kResponse = 0x80;
constexpr std::uint8_t kOperation = 0x78;
constexpr std::uint8_t kRecursionDesired = 0x01;
constexpr std::uint8_t kRecursionAvailable = 0x80;
constexpr std::uint16_t kInternet = 1;
constexpr std::size_t kFourHeader = 20;
constexpr std::size_t kSixHeader = 40;
constexpr std::size_t kUdpHeader = 8;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kHops = 64;

std::uint16_t number_at(Bytes bytes, std::size_t at) {
  return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

void put(std::vector<std::uint8_t>& bytes, std::size_t number) {
  bytes.push_back(static_cast<std::uint8_t>(number >> 8));
  bytes.push_back(static_cast<std::uint8_t>(number));
}

char lower(std::uint8_t byte) {
  return static_cast<char>(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

std::size_t udp_start(Bytes packet) {
  return version_of(packet) == 6 ? kSixHeader : static_cast<std::size_t>(packet[0] & 0x0f) * 4;
}

// RFC 1071.
std::uint32_t sum_of(Bytes bytes, std::uint32_t sum) {
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) sum += number_at(bytes, i);
  if (bytes.size() % 2 == 1) sum += static_cast<std::uint32_t>(bytes.back()) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

}  // namespace

std::string DnsQuestion::text() const {
  return labels.empty() ? "." : base::join(labels, ".");
}

std::optional<DnsQuestion> read_dns_question(Bytes message) {
  if (message.size() < kHeader) return std::nullopt;
  const bool asks = (message[2] & (kResponse | kOperation)) == 0;
  // One question, no answer, no authority; what stands behind (EDNS) does not matter here.
  if (!asks || number_at(message, 4) != 1 || number_at(message, 6) != 0 ||
      number_at(message, 8) != 0)
    return std::nullopt;
  DnsQuestion question;
  std::size_t at = kHeader;
  while (true) {
    if (at >= message.size()) return std::nullopt;
    const std::size_t length = message[at++];
    if (length == 0) break;
    // Larger values are pointers, which have nothing to point at here.
    if (length > kLongestLabel || at + length > message.size() ||
        at + length - kHeader >= kLongestName)
      return std::nullopt;
    std::string label;
    for (const std::uint8_t byte : message.subspan(at, length)) label.push_back(lower(byte));
    question.labels.push_back(std::move(label));
    at += length;
  }
  if (at + 4 > message.size()) return std::nullopt;
  question.type = number_at(message, at);
  question.address_class = number_at(message, at + 2);
  question.end = at + 4;
  return question;
}

base::Result<DnsPattern> DnsPattern::parse(std::string_view text) {
  const base::Error wrong{
      .code = base::ErrorCode::kBadFile,
      .message = fmt::format("`{}` is no name of a host and no pattern for one", text),
      .hint = "write `db.internal`, `*.internal` for all names below, or `*` for all"};
  DnsPattern pattern;
  if (text.ends_with('.') && text.size() > 1) text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return wrong;
  if (text == "*" || text.starts_with("*.")) {
    pattern.below_ = true;
    if (text.size() == 1) return pattern;
    text.remove_prefix(2);
  }
  for (std::string& label : base::split(std::string(text), '.')) {
    const bool fits = !label.empty() && label.size() <= kLongestLabel &&
                      std::all_of(label.begin(), label.end(), [](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                               (c >= '0' && c <= '9') || c == '-' || c == '_';
                      });
    if (!fits) return wrong;
    std::transform(label.begin(), label.end(), label.begin(),
                   [](char c) { return lower(static_cast<std::uint8_t>(c)); });
    pattern.labels_.push_back(std::move(label));
  }
  return pattern;
}

bool DnsPattern::matches(const DnsQuestion& question) const {
  const auto& labels = question.labels;
  if (below_ ? labels.size() <= labels_.size() : labels.size() != labels_.size()) return false;
  return std::equal(labels_.rbegin(), labels_.rend(), labels.rbegin());
}

std::vector<std::uint8_t> make_dns_answer(Bytes query, const DnsQuestion& question, DnsCode code,
                                          const std::vector<std::vector<std::uint8_t>>& addresses) {
  const std::size_t size = question.type == kDnsTypeA ? 4 : question.type == kDnsTypeAaaa ? 16 : 0;
  std::vector<std::vector<std::uint8_t>> told;
  for (const auto& address : addresses) {
    if (code == DnsCode::kFine && question.address_class == kInternet && address.size() == size)
      told.push_back(address);
  }
  std::vector<std::uint8_t> answer(query.begin(), query.begin() + 2);
  answer.push_back(static_cast<std::uint8_t>(kResponse | (query[2] & kRecursionDesired)));
  answer.push_back(static_cast<std::uint8_t>(kRecursionAvailable | static_cast<unsigned>(code)));
  put(answer, 1);
  put(answer, told.size());
  put(answer, 0);
  put(answer, 0);
  const Bytes asked = query.subspan(kHeader, question.end - kHeader);
  answer.insert(answer.end(), asked.begin(), asked.end());
  for (const auto& address : told) {
    put(answer, 0xc000 | kHeader);  // the name of the question
    put(answer, question.type);
    put(answer, question.address_class);
    put(answer, 0);  // time to live, 32 bits
    put(answer, 0);
    put(answer, address.size());
    answer.insert(answer.end(), address.begin(), address.end());
  }
  return answer;
}

std::optional<Bytes> udp_payload(Bytes packet) {
  const int version = version_of(packet);
  if (version == 0) return std::nullopt;
  if ((version == 4 ? packet[9] : packet[6]) != kUdp) return std::nullopt;
  // No part of a larger packet.
  if (version == 4 && ((packet[6] & 0x3f) | packet[7]) != 0) return std::nullopt;
  const std::size_t start = udp_start(packet);
  if ((version == 4 && start < kFourHeader) || packet.size() < start + kUdpHeader)
    return std::nullopt;
  const std::size_t length = number_at(packet, start + 4);
  if (length < kUdpHeader || start + length != packet.size()) return std::nullopt;
  return packet.subspan(start + kUdpHeader);
}

std::vector<std::uint8_t> make_udp_reply(Bytes packet, Bytes payload) {
  const bool six = version_of(packet) == 6;
  const std::size_t start = udp_start(packet);
  const std::size_t length = kUdpHeader + payload.size();
  const Bytes from = six ? packet.subspan(24, 16) : packet.subspan(16, 4);
  const Bytes to = six ? packet.subspan(8, 16) : packet.subspan(12, 4);
  std::vector<std::uint8_t> reply;
  if (six) {
    reply = {0x60, 0, 0, 0};
    put(reply, length);
    reply.push_back(kUdp);
    reply.push_back(kHops);
  } else {
    reply = {0x45, 0};
    put(reply, kFourHeader + length);
    put(reply, 0);
    put(reply, 0);
    reply.push_back(kHops);
    reply.push_back(kUdp);
    put(reply, 0);  // the checksum; the kernel fills it in
  }
  reply.insert(reply.end(), from.begin(), from.end());
  reply.insert(reply.end(), to.begin(), to.end());
  const std::size_t segment = reply.size();
  put(reply, number_at(packet, start + 2));
  put(reply, number_at(packet, start));
  put(reply, length);
  put(reply, 0);
  reply.insert(reply.end(), payload.begin(), payload.end());
  std::uint32_t sum = sum_of(from, static_cast<std::uint32_t>(kUdp + length));
  sum = sum_of(to, sum);
  sum = ~sum_of(Bytes{reply}.subspan(segment), sum) & 0xffff;
  if (sum == 0) sum = 0xffff;
  reply[segment + 6] = static_cast<std::uint8_t>(sum >> 8);
  reply[segment + 7] = static_cast<std::uint8_t>(sum);
  if (!six) {
    const std::uint32_t header = ~sum_of(Bytes{reply}.first(kFourHeader), 0) & 0xffff;
    reply[10] = static_cast<std::uint8_t>(header >> 8);
    reply[11] = static_cast<std::uint8_t>(header);
  }
  return reply;
}

}  // namespace squall::inject
