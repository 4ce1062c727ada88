#include "inject/workers/dns_answers/dns_message.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace squall::inject {
namespace {

using Bytes = std::vector<std::uint8_t>;

// A question as a resolver writes it.
Bytes question_about(const std::vector<std::string>& labels, std::uint16_t type) {
  Bytes message{0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  for (const std::string& label : labels) {
    message.push_back(static_cast<std::uint8_t>(label.size()));
    message.insert(message.end(), label.begin(), label.end());
  }
  for (const unsigned byte : {0u, unsigned{type} >> 8, type & 0xffu, 0u, 1u})
    message.push_back(static_cast<std::uint8_t>(byte));
  return message;
}

bool matches(const std::string& pattern, const std::vector<std::string>& labels) {
  return DnsPattern::parse(pattern)->matches(*read_dns_question(question_about(labels, 1)));
}

TEST(DnsQuestions, AreReadInLowerCase) {
  const auto question = read_dns_question(question_about({"Db", "INTERNAL"}, kDnsTypeAaaa));
  ASSERT_TRUE(question.has_value());
  EXPECT_EQ(question->text(), "db.internal");
  EXPECT_EQ(question->type, kDnsTypeAaaa);
  EXPECT_EQ(question->address_class, 1);
  EXPECT_EQ(read_dns_question(question_about({}, 2))->text(), ".");
}

TEST(DnsQuestions, WhatIsNoneIsNotRead) {
  const Bytes good = question_about({"db", "internal"}, 1);
  ASSERT_TRUE(read_dns_question(good).has_value());
  struct Change {
    std::size_t at;
    std::uint8_t value;
  };
  // A response, another operation, two questions, an answer, an authority, a pointer, a label that
  // is longer than the message.
  for (const Change& change : std::vector<Change>{
           {2, 0x81}, {2, 0x28}, {5, 2}, {5, 0}, {7, 1}, {9, 1}, {12, 0xc0}, {12, 63}}) {
    Bytes bad = good;
    bad[change.at] = change.value;
    EXPECT_FALSE(read_dns_question(bad).has_value()) << change.at << " " << int{change.value};
  }
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(read_dns_question(std::span{good}.first(size)).has_value()) << size;
  // 255 bytes is the longest name: 3 labels of 63 and one of 61, each with its length, and the end.
  std::vector<std::string> labels(3, std::string(63, 'a'));
  labels.emplace_back(61, 'b');
  EXPECT_TRUE(read_dns_question(question_about(labels, 1)).has_value());
  labels.back().push_back('b');
  EXPECT_FALSE(read_dns_question(question_about(labels, 1)).has_value());
}

TEST(DnsPatterns, NameOneNameOrAllBelow) {
  EXPECT_TRUE(matches("db.internal", {"db", "internal"}));
  EXPECT_TRUE(matches("DB.Internal.", {"dB", "internal"}));
  EXPECT_FALSE(matches("db.internal", {"x", "db", "internal"}));
  EXPECT_FALSE(matches("db.internal", {"internal"}));
  EXPECT_TRUE(matches("*.internal", {"db", "internal"}));
  EXPECT_TRUE(matches("*.internal", {"a", "db", "internal"}));
  EXPECT_FALSE(matches("*.internal", {"internal"}));
  EXPECT_FALSE(matches("*.internal", {"xinternal"}));
  // A full stop inside a label does not make two of it.
  EXPECT_FALSE(matches("db.internal", {"db.internal"}));
  EXPECT_TRUE(matches("*", {"db"}));
  for (const std::string bad : {"", ".", "a..b", "db.*", "d b", "*x.y", "ä.de", "*..", "-.*"}) {
    const auto parsed = DnsPattern::parse(bad);
    EXPECT_FALSE(parsed.ok()) << bad;
  }
  EXPECT_FALSE(DnsPattern::parse(std::string(64, 'a')).ok());
}

TEST(DnsAnswers, TellTheAddressesThatWereAskedFor) {
  const Bytes asked = question_about({"db"}, kDnsTypeA);
  const auto question = read_dns_question(asked);
  const std::vector<Bytes> addresses{{192, 0, 2, 1}, Bytes(16, 1), {192, 0, 2, 2}};
  const Bytes answer = make_dns_answer(asked, *question, DnsCode::kFine, addresses);
  Bytes expected{0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0, 2, 'd', 'b', 0, 0, 1, 0, 1};
  for (const std::uint8_t last : {std::uint8_t{1}, std::uint8_t{2}}) {
    for (const std::uint8_t byte : Bytes{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, last})
      expected.push_back(byte);
  }
  EXPECT_EQ(answer, expected);
  const Bytes none = make_dns_answer(asked, *question, DnsCode::kNoSuchName, addresses);
  EXPECT_EQ(none[3], 0x83);
  EXPECT_EQ(none.size(), asked.size());
  const Bytes failed = make_dns_answer(asked, *question, DnsCode::kServerFailed, {});
  EXPECT_EQ(failed[3], 0x82);
}

TEST(DnsAnswers, GoBackInAPacketWhoseChecksumIsRight) {
  const Bytes payload = question_about({"db"}, 1);
  Bytes packet{0x45, 0,
               0,    0,
               0,    1,
               0x40, 0,
               64,   17,
               0,    0,
               127,  0,
               0,    1,
               127,  0,
               0,    53,
               0x9c, 0x40,
               0,    53,
               0,    static_cast<std::uint8_t>(8 + payload.size()),
               0,    0};
  packet.insert(packet.end(), payload.begin(), payload.end());
  ASSERT_TRUE(udp_payload(packet).has_value());
  const Bytes reply = make_udp_reply(packet, payload);
  EXPECT_EQ(Bytes(reply.begin() + 12, reply.begin() + 24),
            (Bytes{127, 0, 0, 53, 127, 0, 0, 1, 0, 53, 0x9c, 0x40}));
  // The sum over pseudo header and segment, checksum included, is all ones.
  std::uint32_t sum = 17 + 8 + static_cast<std::uint32_t>(payload.size());
  for (std::size_t i = 12; i < reply.size(); ++i)
    sum += static_cast<std::uint32_t>(reply[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(sum, 0xffffu);
  packet[6] = 0x20;  // a fragment
  EXPECT_FALSE(udp_payload(packet).has_value());
}

TEST(DnsProperties, WhatWasAskedIsReadAgainAndNothingElseIsEverRead) {
  EXPECT_TRUE(rc::check("a question is read as it was written", [] {
    const auto labels = *rc::gen::resize(
        4, rc::gen::container<std::vector<std::string>>(rc::gen::nonEmpty(
               rc::gen::container<std::string>(rc::gen::inRange<char>('a', 'z')))));
    const auto type = *rc::gen::arbitrary<std::uint16_t>();
    const auto question = read_dns_question(question_about(labels, type));
    RC_ASSERT(question.has_value());
    RC_ASSERT(question->labels == labels);
    RC_ASSERT(question->type == type);
  }));
  EXPECT_TRUE(rc::check("any bytes are read or refused, and answered if read", [] {
    Bytes bytes = *rc::gen::arbitrary<Bytes>();
    // Half of them with a header that promises a question.
    if (*rc::gen::arbitrary<bool>()) {
      const Bytes head{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
      bytes.insert(bytes.begin(), head.begin(), head.end());
    }
    const auto question = read_dns_question(bytes);
    if (question) {
      RC_ASSERT(question->end <= bytes.size());
      const Bytes answer =
          make_dns_answer(bytes, *question, DnsCode::kFine, {{1, 2, 3, 4}, Bytes(16, 1)});
      RC_ASSERT(!read_dns_question(answer).has_value());
    }
    const auto payload = udp_payload(bytes);
    if (payload) RC_ASSERT(udp_payload(make_udp_reply(bytes, *payload)).has_value());
  }));
}

}  // namespace
}  // namespace squall::inject
