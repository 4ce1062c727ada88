#include "inject/faults/failover/redis_exchange.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/text.h"

namespace squall::inject {

namespace {

constexpr std::size_t kReplyLimit = 256u << 10;
constexpr int kDepthLimit = 4;
constexpr base::Duration kConnectLook = std::chrono::milliseconds(5);

base::Error corrupt(std::string_view why) {
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = fmt::format("this is no reply of Redis: {}", why)};
}

class ReplyReader {
 public:
  explicit ReplyReader(std::string_view bytes) : bytes_(bytes) {}
  std::size_t used() const { return at_; }

  base::Result<std::optional<RedisReply>> read(int depth) {
    if (depth > kDepthLimit) return corrupt("it is too deep");
    const auto line = take_line();
    if (!line) return std::optional<RedisReply>{};
    if (line->empty()) return corrupt("a line is empty");
    const std::string_view rest = line->substr(1);
    RedisReply reply;
    switch (line->front()) {
      case '+':
      case '-':
        reply.type = line->front() == '-' ? RedisReply::Type::kError : RedisReply::Type::kText;
        reply.text = rest;
        return std::optional<RedisReply>{std::move(reply)};
      case ':': {
        SQUALL_ASSIGN(reply.integer, number(rest));
        reply.type = RedisReply::Type::kInteger;
        return std::optional<RedisReply>{std::move(reply)};
      }
      case '$':
        return read_bulk(rest);
      case '*':
        return read_list(rest, depth);
      default:
        return corrupt("its type is unknown");
    }
  }

 private:
  std::optional<std::string_view> take_line() {
    const std::size_t end = bytes_.find("\r\n", at_);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view line = bytes_.substr(at_, end - at_);
    at_ = end + 2;
    return line;
  }

  static base::Result<std::int64_t> number(std::string_view text) {
    std::int64_t value = 0;
    const auto [at, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || fault != std::errc{} || at != text.data() + text.size())
      return corrupt("a number is none");
    return value;
  }

  // -1 is nil.
  static base::Result<std::int64_t> length(std::string_view text) {
    SQUALL_ASSIGN(const std::int64_t value, number(text));
    if (value < -1 || value > static_cast<std::int64_t>(kReplyLimit))
      return corrupt("a length is out of bounds");
    return value;
  }

  base::Result<std::optional<RedisReply>> read_bulk(std::string_view text) {
    SQUALL_ASSIGN(const std::int64_t size, length(text));
    RedisReply reply;
    if (size < 0) return std::optional<RedisReply>{std::move(reply)};
    const auto wanted = static_cast<std::size_t>(size);
    if (bytes_.size() - at_ < wanted + 2) return std::optional<RedisReply>{};
    reply.type = RedisReply::Type::kText;
    reply.text = bytes_.substr(at_, wanted);
    if (bytes_.substr(at_ + wanted, 2) != "\r\n") return corrupt("a text is longer than it says");
    at_ += wanted + 2;
    return std::optional<RedisReply>{std::move(reply)};
  }

  base::Result<std::optional<RedisReply>> read_list(std::string_view text, int depth) {
    SQUALL_ASSIGN(const std::int64_t size, length(text));
    RedisReply reply;
    if (size < 0) return std::optional<RedisReply>{std::move(reply)};
    reply.type = RedisReply::Type::kList;
    for (std::int64_t i = 0; i < size; ++i) {
      SQUALL_ASSIGN(auto item, read(depth + 1));
      if (!item) return std::optional<RedisReply>{};
      reply.items.push_back(std::move(*item));
    }
    return std::optional<RedisReply>{std::move(reply)};
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace

base::Result<std::optional<RedisReply>> take_redis_reply(std::string& bytes) {
  ReplyReader reader{bytes};
  SQUALL_ASSIGN(auto reply, reader.read(0));
  if (reply)
    bytes.erase(0, reader.used());
  else if (bytes.size() > kReplyLimit)
    return corrupt("it is too long");
  return reply;
}

std::string redis_command(const std::vector<std::string>& words) {
  std::string bytes = fmt::format("*{}\r\n", words.size());
  for (const std::string& word : words) bytes += fmt::format("${}\r\n{}\r\n", word.size(), word);
  return bytes;
}

RedisExchange::RedisExchange(const Server& server, const std::vector<std::string>& command,
                             base::Duration limit)
    : server_(server), login_(!server.password.empty()), deadline_(base::BootClock::now() + limit) {
  if (login_) {
    std::vector<std::string> words{"AUTH"};
    if (!server_.user.empty()) words.push_back(server_.user);
    words.push_back(server_.password);
    request_ = redis_command(words);
  }
  request_ += redis_command(command);
}

base::Duration RedisExchange::again() const {
  if (!sent_) return kConnectLook;
  return std::max<base::Duration>(deadline_ - base::BootClock::now(), std::chrono::milliseconds(1));
}

base::Status RedisExchange::connect() {
  sockaddr_in four{};
  sockaddr_in6 six{};
  const bool is_six = ::inet_pton(AF_INET6, server_.address.c_str(), &six.sin6_addr) == 1;
  if (!is_six && ::inet_pton(AF_INET, server_.address.c_str(), &four.sin_addr) != 1) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = fmt::format("{} is no IP address", server_.address)};
  }
  four.sin_family = AF_INET;
  six.sin6_family = AF_INET6;
  four.sin_port = six.sin6_port = htons(server_.port);
  socket_.reset(
      ::socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_) return base::system_error("create a socket", errno);
  const auto* name =
      is_six ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);
  if (::connect(socket_.get(), name, is_six ? sizeof six : sizeof four) == 0 ||
      errno == EINPROGRESS)
    return {};
  return base::system_error(fmt::format("connect to {}:{}", server_.address, server_.port), errno);
}

base::Result<bool> RedisExchange::send() {
  pollfd writable{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
  if (::poll(&writable, 1, 0) == 0) return false;
  int fault = 0;
  socklen_t size = sizeof fault;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &fault, &size);
  const std::string where = fmt::format("{}:{}", server_.address, server_.port);
  if (fault != 0) return base::system_error("connect to " + where, fault);
  if (::send(socket_.get(), request_.data(), request_.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request_.size()))
    return base::system_error("write to " + where, errno);
  return true;
}

std::optional<RedisExchange::Outcome> RedisExchange::advance() {
  if (!socket_) {
    if (auto connected = connect(); !connected.ok()) return std::move(connected).error();
  }
  if (!sent_) {
    const auto sent = send();
    if (!sent.ok()) return sent.error();
    sent_ = *sent;
  }
  if (sent_) {
    if (auto outcome = read()) return outcome;
  }
  if (base::BootClock::now() < deadline_) return std::nullopt;
  return base::Error{
      .code = base::ErrorCode::kTimeout,
      .message = fmt::format("{}:{} does not answer", server_.address, server_.port)};
}

std::optional<RedisExchange::Outcome> RedisExchange::read() {
  std::array<char, 16384> buffer;
  const std::string where = fmt::format("{}:{}", server_.address, server_.port);
  while (true) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return std::nullopt;
    if (got < 0) return base::system_error("read from " + where, errno);
    if (got == 0)
      return base::Error{.code = base::ErrorCode::kUnavailable,
                         .message = where + " closed the connection"};
    answer_.append(buffer.data(), static_cast<std::size_t>(got));
    if (auto outcome = take()) return outcome;
  }
}

std::optional<RedisExchange::Outcome> RedisExchange::take() {
  while (true) {
    auto reply = take_redis_reply(answer_);
    if (!reply.ok()) return std::move(reply).error();
    if (!*reply) return std::nullopt;
    const bool was_login = std::exchange(login_, false);
    if ((*reply)->type == RedisReply::Type::kError) {
      const std::string said = base::printable((*reply)->text.substr(0, 200));
      const bool password = was_login || said.starts_with("NOAUTH") || said.starts_with("NOPERM");
      return base::Error{
          .code = password ? base::ErrorCode::kPermission : base::ErrorCode::kConflict,
          .message = fmt::format("{}:{} answers: {}", server_.address, server_.port, said),
          .hint = password ? "say `password_file`, and `user` where there is one" : ""};
    }
    if (!was_login) return std::move(**reply);
  }
}

}  // namespace squall::inject
