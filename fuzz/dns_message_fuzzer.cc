// What a service sends to port 53: once as the message itself, once as a whole packet.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "inject/workers/dns_answers/dns_message.h"

namespace {

using namespace squall;  // NOLINT: a fuzzer

using Bytes = std::span<const std::uint8_t>;

const std::vector<std::vector<std::uint8_t>> kAddresses{std::vector<std::uint8_t>(4, 7),
                                                        std::vector<std::uint8_t>(16, 7)};

// Nothing, or an answer that stands behind the question as it came.
std::vector<std::uint8_t> answer(Bytes message) {
  const auto question = inject::read_dns_question(message);
  if (!question) return {};
  SQUALL_CHECK(question->end <= message.size() && question->end >= 17);
  const bool matches = inject::DnsPattern::parse("*.internal")->matches(*question);
  SQUALL_CHECK(!matches || question->text().ends_with(".internal"));
  auto made = inject::make_dns_answer(message, *question, inject::DnsCode::kFine, kAddresses);
  SQUALL_CHECK(made.size() >= question->end && made[0] == message[0] && (made[2] & 0x80) != 0);
  SQUALL_CHECK(!inject::read_dns_question(made));  // an answer is no question
  return made;
}

void take_packet(Bytes packet) {
  const auto payload = inject::udp_payload(packet);
  if (!payload) return;
  SQUALL_CHECK(payload->size() < packet.size());
  const auto made = answer(*payload);
  const auto reply = inject::make_udp_reply(packet, made);
  const auto again = inject::udp_payload(reply);
  SQUALL_CHECK(again && std::vector<std::uint8_t>(again->begin(), again->end()) == made);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes{data, size};
  const auto made = answer(bytes);
  take_packet(bytes);
  return made.size() > 65535 ? 1 : 0;
}
