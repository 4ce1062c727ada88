#include "observe/http_response.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace squall::observe {
namespace {

using Parser = HttpResponseParser;

struct Parsed {
  ResponseState state = ResponseState::kMore;
  int status = 0;
  std::string body;
  bool reusable = false;
  std::size_t used = 0;
};

// Feeds the text in pieces that end at the given offsets; then the peer closes.
Parsed parse(std::string_view text, const std::vector<std::size_t>& cuts = {},
             Parser::Request request = Parser::Request::kOther, std::uint64_t limit = 1 << 20) {
  Parser parser(Parser::Body::kKeep, limit);
  parser.start(request);
  Parsed parsed;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= cuts.size() && parser.state() == ResponseState::kMore; ++i) {
    const std::size_t end = i < cuts.size() ? std::min(cuts[i], text.size()) : text.size();
    if (end < begin) continue;
    parsed.used += parser.feed(text.substr(begin, end - begin));
    begin = end;
  }
  if (parser.state() == ResponseState::kMore) parser.end_of_stream();
  parsed.state = parser.state();
  parsed.status = parser.status();
  parsed.body = parser.body();
  parsed.reusable = parser.reusable();
  return parsed;
}

constexpr std::string_view kPlain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello";
constexpr std::string_view kChunked =
    "HTTP/1.1 200\r\nTransfer-Encoding: gzip, "
    "Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n1\r\n!\r\n0\r\nT: "
    "x\r\n\r\n";
constexpr std::string_view kInterim =
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: "
    "0\r\n\r\n";
constexpr std::string_view kToEnd = "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nall of it";

TEST(HttpResponse, ReadsEveryFraming) {
  Parsed parsed = parse(kPlain);
  EXPECT_EQ(parsed.state, ResponseState::kComplete);
  EXPECT_EQ(parsed.status, 200);
  EXPECT_EQ(parsed.body, "hello");
  EXPECT_TRUE(parsed.reusable);
  parsed = parse(kChunked);
  EXPECT_EQ(parsed.state, ResponseState::kComplete);
  EXPECT_EQ(parsed.body, "hello!");
  EXPECT_TRUE(parsed.reusable);
  parsed = parse(kInterim);
  EXPECT_EQ(parsed.state, ResponseState::kComplete);
  EXPECT_EQ(parsed.status, 201);
  parsed = parse(kToEnd);
  EXPECT_EQ(parsed.state, ResponseState::kComplete);
  EXPECT_EQ(parsed.body, "all of it");
  EXPECT_FALSE(parsed.reusable);
}

TEST(HttpResponse, IsTheSameHoweverItIsCut) {
  for (const std::string_view text : {kPlain, kChunked, kInterim, kToEnd}) {
    const Parsed whole = parse(text);
    for (std::size_t i = 0; i <= text.size(); ++i) {
      for (std::size_t j = i; j <= text.size(); j += 7) {
        const Parsed cut = parse(text, {i, j});
        ASSERT_EQ(cut.state, whole.state) << text << " at " << i << ", " << j;
        ASSERT_EQ(cut.body, whole.body);
        ASSERT_EQ(cut.status, whole.status);
        ASSERT_EQ(cut.used, whole.used);
      }
    }
    std::vector<std::size_t> every_byte(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) every_byte[i] = i + 1;
    EXPECT_EQ(parse(text, every_byte).body, whole.body);
  }
}

TEST(HttpResponse, EverythingThatIsCutShortIsIncomplete) {
  for (const std::string_view text : {kPlain, kChunked, kInterim}) {
    for (std::size_t length = 0; length < text.size(); ++length) {
      EXPECT_NE(parse(text.substr(0, length)).state, ResponseState::kComplete) << length;
    }
  }
}

TEST(HttpResponse, SomeAnswersHaveNoBodyWhateverTheirHeadersSay) {
  constexpr std::string_view kHead = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
  EXPECT_EQ(parse(kHead, {}, Parser::Request::kHead).state, ResponseState::kComplete);
  EXPECT_EQ(parse("HTTP/1.1 204 No\r\n\r\n").state, ResponseState::kComplete);
  EXPECT_EQ(parse("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n").state, ResponseState::kComplete);
}

TEST(HttpResponse, SaysWhetherTheConnectionMayBeUsedAgain) {
  EXPECT_FALSE(parse("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n").reusable);
  EXPECT_FALSE(parse("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").reusable);
  EXPECT_TRUE(
      parse("HTTP/1.0 200 OK\r\nConnection: x, keep-alive\r\nContent-Length: 0\r\n\r\n").reusable);
  // Two framings at once.
  EXPECT_FALSE(
      parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
          .reusable);
}

TEST(HttpResponse, LeavesTheNextAnswerAlone) {
  const std::string two = std::string(kPlain) + std::string(kPlain);
  EXPECT_EQ(parse(two).used, kPlain.size());
}

TEST(HttpResponse, RefusesWhatIsNotHttp) {
  for (const std::string_view text :
       {"SSH-2.0-OpenSSH\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n", "\r\n\r\n", "<html>\n"}) {
    EXPECT_EQ(parse(text).state, ResponseState::kMalformed) << text;
  }
}

TEST(HttpResponse, HoldsItsLimits) {
  EXPECT_EQ(
      parse("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", {}, Parser::Request::kOther, 10).state,
      ResponseState::kTooLarge);
  EXPECT_EQ(parse("HTTP/1.1 200 OK\r\n\r\n01234567890", {}, Parser::Request::kOther, 10).state,
            ResponseState::kTooLarge);
  EXPECT_EQ(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n"
                  "ffffffffffffffff\r\n",
                  {}, Parser::Request::kOther, 10)
                .state,
            ResponseState::kTooLarge);
  std::string head = "HTTP/1.1 200 OK\r\n";
  while (head.size() < Parser::kHeadLimit) head += "X-Padding: " + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(parse(head).state, ResponseState::kTooLarge);
  EXPECT_EQ(parse(std::string(100'000, 'x')).state, ResponseState::kTooLarge);
}

TEST(HttpResponse, ManyChunksAreNotALongHead) {
  std::string text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 30'000; ++i) text += "1\r\nx\r\n";
  text += "0\r\n\r\n";
  EXPECT_EQ(parse(text).state, ResponseState::kComplete);
}

TEST(HttpResponse, FindsHeadersWithoutRegardToCase) {
  Parser parser(Parser::Body::kCount, 100);
  parser.start(Parser::Request::kOther);
  parser.feed(
      "HTTP/1.1 200 OK\r\nRetry-After:  3 \r\nVary: a\r\nvary: b\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_EQ(parser.header("retry-after"), "3");
  EXPECT_EQ(parser.header("VARY"), "a, b");
  EXPECT_EQ(parser.header("Retry"), std::nullopt);
  EXPECT_EQ(parser.body_size(), 2u);
  EXPECT_EQ(parser.body(), "");
}

RC_GTEST_PROP(HttpResponse, AnyBytesEndInSomeState, ()) {
  std::string text = *rc::gen::element<std::string>(
      "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  text += *rc::gen::container<std::string>(
      rc::gen::element('\r', '\n', ':', ' ', '0', 'a', 'f', ';', '\0', '\xff'));
  const Parsed whole = parse(text);
  const auto cut =
      static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(text.size()) + 1));
  const Parsed pieces = parse(text, {cut});
  RC_ASSERT(whole.used <= text.size());
  RC_ASSERT(whole.state == pieces.state);
  RC_ASSERT(whole.body == pieces.body);
}

}  // namespace
}  // namespace squall::observe
