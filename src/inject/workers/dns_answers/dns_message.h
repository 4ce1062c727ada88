#pragma once
// Questions to name servers (RFC 1035): read strictly, answered briefly. Never trusts the bytes.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace squall::inject {

inline constexpr std::uint16_t kDnsTypeA = 1;
inline constexpr std::uint16_t kDnsTypeAaaa = 28;

struct DnsQuestion {
  std::vector<std::string> labels;  // in lower case, else as they came; the root has none
  std::uint16_t type = 0;
  std::uint16_t address_class = 0;  // 1: the Internet
  std::size_t end = 0;              // of the question in the message
  std::string text() const;         // for people: "db.internal"
};

// Of a message that asks one question and holds no answer. Nothing when it is anything else, or
// cut, or its name is not as RFC 1035 has it.
std::optional<DnsQuestion> read_dns_question(std::span<const std::uint8_t> message);

// Which names are meant: one name, all below one ("*.internal"), or all ("*"). Case does not
// matter.
class DnsPattern {
 public:
  static base::Result<DnsPattern> parse(std::string_view text);
  bool matches(const DnsQuestion& question) const;

 private:
  std::vector<std::string> labels_;
  bool below_ = false;  // only names with more labels before these
};

enum class DnsCode : std::uint8_t { kFine = 0, kServerFailed = 2, kNoSuchName = 3 };

// The answer to the question of `query`, whose `question` was read. `addresses`: 4 or 16 bytes
// each, network order; those of the question's type are told. They may not be kept (a time to live
// of 0), so that no cache outlives the fault.
std::vector<std::uint8_t> make_dns_answer(std::span<const std::uint8_t> query,
                                          const DnsQuestion& question, DnsCode code,
                                          const std::vector<std::vector<std::uint8_t>>& addresses);

// What a UDP packet carries. Nothing when it is no whole UDP packet over IPv4 or IPv6.
std::optional<std::span<const std::uint8_t>> udp_payload(std::span<const std::uint8_t> packet);
// The packet that answers `packet` (one with a udp_payload): addresses and ports turned round.
std::vector<std::uint8_t> make_udp_reply(std::span<const std::uint8_t> packet,
                                         std::span<const std::uint8_t> payload);

}  // namespace squall::inject
