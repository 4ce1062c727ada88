#include "host/unix_http.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "base/files.h"

namespace squall::host {
namespace {

base::Result<HttpAnswer> parse(std::string_view text, std::size_t piece, bool ends = false,
                               std::size_t limit = 1000) {
  HttpAnswerParser parser{limit};
  for (std::size_t at = 0; at < text.size(); at += piece) {
    auto fed = parser.feed(text.substr(at, piece));
    if (!fed.ok()) return std::move(fed).error();
  }
  if (ends) SQUALL_TRY(parser.end());
  if (!parser.done()) return base::Error{.message = "not done"};
  return parser.take();
}

TEST(UnixHttp, TakesAnswersApartHoweverTheyArrive) {
  const std::string length = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: y\r\n\r\nhello";
  const std::string chunks =
      "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n"
      "0\r\nTrailer: 1\r\n\r\n";
  const std::string none = "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n";
  for (std::size_t piece = 1; piece < 80; ++piece) {
    const auto first = parse(length, piece);
    ASSERT_TRUE(first.ok()) << piece << first.error().to_string();
    EXPECT_EQ(first->status, 200);
    EXPECT_EQ(first->body, "hello");
    const auto second = parse(chunks, piece);
    ASSERT_TRUE(second.ok()) << piece << second.error().to_string();
    EXPECT_EQ(second->status, 404);
    EXPECT_EQ(second->body, "hello");
    const auto third = parse(none, piece);
    ASSERT_TRUE(third.ok()) << piece;
    EXPECT_EQ(third->status, 204);
  }
  const auto until_end = parse("HTTP/1.0 200 OK\r\n\r\nhello", 7, true);
  ASSERT_TRUE(until_end.ok());
  EXPECT_EQ(until_end->body, "hello");
}

TEST(UnixHttp, RefusesWhatIsNoSoundAnswer) {
  for (const std::string text : {
           "HTTP/2 200\r\n\r\n",
           "HTTP/1.1 20 OK\r\n\r\n",
           "HTTP/1.1 2000 OK\r\n\r\n",
           "HTTP/1.1 100 Continue\r\n\r\n",
           "SSH-2.0-OpenSSH\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
           "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
       }) {
    const auto answer = parse(text, text.size());
    ASSERT_FALSE(answer.ok()) << text;
    EXPECT_EQ(answer.error().code, base::ErrorCode::kCorrupt) << text;
  }
  EXPECT_FALSE(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 100, true).ok());
  EXPECT_FALSE(parse("HTTP/1.1 200 OK\r\n\r\n" + std::string(2000, 'x'), 100, true).ok());
  EXPECT_FALSE(parse("HTTP/1.1 200 OK\r\nX: " + std::string(40000, 'x'), 1000).ok());
}

TEST(UnixHttp, SaysWhyNobodyAnswers) {
  const std::string folder = base::make_temporary_directory("squall-http").value();
  UnixHttpExchange nobody{{.socket = folder + "/none", .method = "GET", .target = "/"}};
  const auto missing = nobody.advance();
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, base::ErrorCode::kNotFound);

  const base::UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder + "/engine";
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  UnixHttpExchange exchange{{.socket = path, .method = "POST", .target = "/pause"}};
  ASSERT_TRUE(exchange.advance().ok());
  base::UniqueFd peer{::accept(listener.get(), nullptr, nullptr)};
  std::string asked(500, '\0');
  asked.resize(static_cast<std::size_t>(::read(peer.get(), asked.data(), asked.size())));
  EXPECT_TRUE(asked.starts_with("POST /pause HTTP/1.1\r\n")) << asked;
  const auto pending = exchange.advance();
  ASSERT_TRUE(pending.ok());
  EXPECT_FALSE(pending->has_value());
  peer.reset();
  const auto closed = exchange.advance();
  ASSERT_FALSE(closed.ok());
  EXPECT_EQ(closed.error().code, base::ErrorCode::kUnavailable);

  UnixHttpExchange split{{.socket = path, .method = "GET", .target = "/x\r\nHost: y"}};
  EXPECT_FALSE(split.advance().ok());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace squall::host
