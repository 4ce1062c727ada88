#include "host/unix_http.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/text.h"

namespace squall::host {

namespace {

constexpr std::size_t kHeadLimit = 32u << 10;
constexpr std::size_t kChunkLineLimit = 1024;

base::Error corrupt(std::string message) {
  return base::Error{.code = base::ErrorCode::kCorrupt, .message = std::move(message)};
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool is_request_text(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

base::Status HttpAnswerParser::check_room(std::size_t more) const {
  if (more <= body_limit_ && answer_.body.size() <= body_limit_ - more) return {};
  return corrupt(fmt::format("the answer is longer than {} bytes", body_limit_));
}

base::Status HttpAnswerParser::feed(std::string_view bytes) {
  buffer_.append(bytes);
  while (!done()) {
    SQUALL_ASSIGN(const bool more, advance());
    if (!more) break;
  }
  if (done() && !buffer_.empty()) return corrupt("there is something behind the answer");
  return {};
}

base::Status HttpAnswerParser::end() {
  if (stage_ == Stage::kUntilEnd) stage_ = Stage::kDone;
  if (done()) return {};
  return corrupt("the connection ended in the middle of the answer");
}

base::Result<bool> HttpAnswerParser::advance() {
  switch (stage_) {
    case Stage::kHead:
      return read_head();
    case Stage::kLength:
      if (!take_body()) return false;
      stage_ = Stage::kDone;
      return true;
    case Stage::kUntilEnd:
      SQUALL_TRY(check_room(buffer_.size()));
      answer_.body += std::exchange(buffer_, {});
      return false;
    case Stage::kChunkSize:
      return read_chunk_size();
    case Stage::kChunk:
      if (!take_body()) return false;
      stage_ = Stage::kChunkEnd;
      return true;
    case Stage::kChunkEnd: {
      SQUALL_ASSIGN(const auto line, take_line());
      if (!line) return false;
      if (!line->empty()) return corrupt("a chunk is longer than it says");
      stage_ = Stage::kChunkSize;
      return true;
    }
    case Stage::kTrailer: {
      SQUALL_ASSIGN(const auto line, take_line());
      if (!line) return false;
      trailer_bytes_ += line->size();
      if (trailer_bytes_ > kHeadLimit) return corrupt("the trailer is too long");
      if (line->empty()) stage_ = Stage::kDone;
      return true;
    }
    case Stage::kDone:
      break;
  }
  return false;
}

// A line without its end; absent while it is not there as a whole.
base::Result<std::optional<std::string>> HttpAnswerParser::take_line() {
  const std::size_t end = buffer_.find("\r\n");
  if (std::min(end, buffer_.size()) > kHeadLimit) return corrupt("a line is too long");
  if (end == std::string::npos) return std::optional<std::string>{};
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return std::optional<std::string>{std::move(line)};
}

bool HttpAnswerParser::take_body() {
  const std::size_t part = std::min(left_, buffer_.size());
  answer_.body.append(buffer_, 0, part);
  buffer_.erase(0, part);
  left_ -= part;
  return left_ == 0;
}

base::Result<bool> HttpAnswerParser::read_head() {
  SQUALL_ASSIGN(const auto line, take_line());
  if (!line) return false;
  head_bytes_ += line->size() + 2;
  if (head_bytes_ > kHeadLimit) return corrupt("the head of the answer is too long");
  if (!std::exchange(status_read_, true)) {
    SQUALL_TRY(read_status(*line));
  } else if (line->empty()) {
    SQUALL_TRY(begin_body());
  } else {
    SQUALL_TRY(read_header(*line));
  }
  return true;
}

base::Status HttpAnswerParser::read_status(std::string_view line) {
  const bool version = line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ");
  const std::string_view number = version ? line.substr(9, 3) : std::string_view{};
  const auto [at, fault] =
      std::from_chars(number.data(), number.data() + number.size(), answer_.status);
  const bool whole = number.size() == 3 && at == number.data() + 3 && fault == std::errc{} &&
                     (line.size() == 12 || line[12] == ' ');
  if (whole && answer_.status >= 200 && answer_.status < 600) return {};
  return corrupt("this is no HTTP answer");
}

base::Status HttpAnswerParser::read_header(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0 || line.front() == ' ' ||
      line.front() == '\t' || line[colon - 1] == ' ')
    return corrupt("the answer has a header that is none");
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = base::trim(line.substr(colon + 1));
  if (same_word(name, "transfer-encoding")) {
    if (!same_word(value, "chunked") || std::exchange(chunked_, true))
      return corrupt("the answer has an encoding that we do not know");
  } else if (same_word(name, "content-length")) {
    std::size_t length = 0;
    const auto [at, fault] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (value.empty() || at != value.data() + value.size() || fault != std::errc{} || length_)
      return corrupt("the answer has no sound length");
    length_ = length;
  }
  return {};
}

base::Status HttpAnswerParser::begin_body() {
  if (chunked_ && length_) return corrupt("the answer has a length and chunks");
  if (answer_.status == 204 || answer_.status == 304) {
    stage_ = Stage::kDone;
  } else if (chunked_) {
    stage_ = Stage::kChunkSize;
  } else if (length_) {
    SQUALL_TRY(check_room(*length_));
    left_ = *length_;
    stage_ = Stage::kLength;
  } else {
    stage_ = Stage::kUntilEnd;
  }
  return {};
}

base::Result<bool> HttpAnswerParser::read_chunk_size() {
  SQUALL_ASSIGN(const auto line, take_line());
  if (!line) {
    if (buffer_.size() > kChunkLineLimit) return corrupt("a chunk has no size");
    return false;
  }
  const std::string_view digits = std::string_view(*line).substr(0, line->find(';'));
  std::size_t size = 0;
  const auto [at, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), size, 16);
  if (digits.empty() || at != digits.data() + digits.size() || fault != std::errc{})
    return corrupt("a chunk has no size");
  SQUALL_TRY(check_room(size));
  left_ = size;
  stage_ = size == 0 ? Stage::kTrailer : Stage::kChunk;
  return true;
}

UnixHttpExchange::UnixHttpExchange(Request request)
    : request_(std::move(request)), parser_(request_.answer_limit) {}

base::Status UnixHttpExchange::send() {
  if (!is_request_text(request_.method) || !is_request_text(request_.target))
    return base::Error{.code = base::ErrorCode::kUsage, .message = "this is no HTTP request"};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (request_.socket.size() >= sizeof address.sun_path)
    return base::Error{.message = fmt::format("{} is too long for a socket", request_.socket)};
  std::memcpy(address.sun_path, request_.socket.data(), request_.socket.size());
  base::UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd.valid()) return base::system_error("create a socket", errno);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::system_error(fmt::format("connect to {}", request_.socket), errno);
  // Go's server wants a length for each POST, and the buffer of a fresh socket holds it all.
  const std::string text = fmt::format(
      "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n"
      "\r\n",
      request_.method, request_.target);
  if (::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
    return base::system_error(fmt::format("write to {}", request_.socket), errno);
  socket_ = std::move(fd);
  return {};
}

base::Result<std::optional<HttpAnswer>> UnixHttpExchange::advance() {
  if (!socket_.valid()) SQUALL_TRY(send());
  std::array<char, 16384> buffer;
  while (!parser_.done()) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return std::optional<HttpAnswer>{};
    if (got < 0) return base::system_error(fmt::format("read from {}", request_.socket), errno);
    if (got == 0 && !got_bytes_) {
      return base::Error{.code = base::ErrorCode::kUnavailable,
                         .message = fmt::format("{} closed without an answer", request_.socket)};
    }
    got_bytes_ = true;
    auto fed = got == 0
                   ? parser_.end()
                   : parser_.feed(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
    if (!fed.ok()) return std::move(fed).error().within("the answer of " + request_.socket);
  }
  return std::optional<HttpAnswer>{parser_.take()};
}

}  // namespace squall::host
