#include "inject/faults/host/qmp.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

constexpr std::size_t kBufferLimit = 256u << 10;
constexpr std::size_t kEventsLimit = 100;

}  // namespace

QmpExchange::QmpExchange(std::string socket, std::string command, std::string event,
                         base::Duration limit)
    : socket_(std::move(socket)),
      command_(std::move(command)),
      event_(std::move(event)),
      deadline_(base::BootClock::now() + limit) {}

base::Duration QmpExchange::again() const {
  return std::max<base::Duration>(deadline_ - base::BootClock::now(), std::chrono::milliseconds(1));
}

base::Status QmpExchange::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof address.sun_path)
    return base::Error{.message = fmt::format("{} is too long for a socket", socket_)};
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd_) return base::system_error("create a socket", errno);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::system_error(fmt::format("connect to the monitor {}", socket_), errno);
  return {};
}

base::Status QmpExchange::say(const std::string& command) {
  const std::string text = base::Json{{"execute", command}}.dump() + "\n";
  if (::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
      static_cast<ssize_t>(text.size()))
    return {};
  return base::system_error(fmt::format("write to the monitor {}", socket_), errno);
}

base::Result<bool> QmpExchange::take_line(const std::string& line) {
  auto json = base::parse_json(line);
  if (!json.ok()) return std::move(json).error().within("the monitor " + socket_);
  if (json->contains("QMP") && !std::exchange(greeted_, true)) {
    SQUALL_TRY(say("qmp_capabilities"));
    return false;
  }
  if (json->contains("event")) {
    if (answer_.events.size() < kEventsLimit)
      answer_.events.push_back(base::printable(text_field(*json, "event")));
  } else if (json->contains("error")) {
    return base::Error{
        .code = base::ErrorCode::kConflict,
        .message = fmt::format("the monitor refuses `{}`: {}", command_,
                               base::printable(text_field(field(*json, "error"), "desc")))};
  } else if (json->contains("return") && greeted_) {
    if (++replies_ == 1) SQUALL_TRY(say(command_));
    if (replies_ == 2) answer_.status = text_field(field(*json, "return"), "status");
  } else {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = fmt::format("{} is no monitor of QEMU", socket_)};
  }
  return replies_ >= 2 && (event_.empty() || std::find(answer_.events.begin(), answer_.events.end(),
                                                       event_) != answer_.events.end());
}

std::optional<QmpExchange::Outcome> QmpExchange::advance() {
  if (!fd_) {
    if (auto connected = connect(); !connected.ok()) return std::move(connected).error();
  }
  std::array<char, 4096> part;
  while (true) {
    const ssize_t got = ::recv(fd_.get(), part.data(), part.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got < 0 && errno != ECONNRESET) return base::system_error("read from " + socket_, errno);
    if (got <= 0) {
      answer_.closed = true;
      // `quit` may close before, after or instead of its answer.
      if (replies_ >= 1 && command_ == "quit") return answer_;
      return base::Error{.code = base::ErrorCode::kUnavailable,
                         .message = fmt::format("the monitor {} closed the connection", socket_)};
    }
    buffer_.append(part.data(), static_cast<std::size_t>(got));
    if (buffer_.size() > kBufferLimit)
      return base::Error{.code = base::ErrorCode::kCorrupt,
                         .message = fmt::format("{} is no monitor of QEMU", socket_)};
    for (std::size_t end = buffer_.find('\n'); end != std::string::npos; end = buffer_.find('\n')) {
      const std::string line(base::trim(std::string_view(buffer_).substr(0, end)));
      buffer_.erase(0, end + 1);
      if (line.empty()) continue;
      const auto complete = take_line(line);
      if (!complete.ok()) return complete.error();
      if (*complete && command_ != "quit") return answer_;
    }
  }
  if (base::BootClock::now() < deadline_) return std::nullopt;
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = fmt::format("the monitor {} does not answer", socket_),
                     .hint = "QEMU serves one client at a time: does somebody else hold it?"};
}

}  // namespace squall::inject
