#include "observe/http_client.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>

namespace squall::observe {
namespace {

base::Error lost(const Resolver& resolver) {
  return base::Error{.code = base::ErrorCode::kUnavailable,
                     .message = resolver.text() + " closed the connection before it had answered",
                     .hint = "look at the log of the service"};
}

base::Error late(const Resolver& resolver) {
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = resolver.text() + " did not answer in time",
                     .hint = "check that the service is not overloaded or stopped"};
}

}  // namespace

HttpClient::HttpClient(const Resolver& resolver, std::shared_ptr<TlsContext> tls,
                       std::uint64_t body_limit)
    : resolver_(resolver),
      tls_(std::move(tls)),
      parser_(HttpResponseParser::Body::kKeep, body_limit) {}

base::Status HttpClient::await(IoState state, base::Instant deadline) {
  switch (state) {
    case IoState::kWantRead:
    case IoState::kWantWrite:
      if (wait_ready(transport_.fd(), state == IoState::kWantRead ? POLLIN : POLLOUT, deadline)) {
        return {};
      }
      return late(resolver_);
    case IoState::kTls:
      return base::Error{.code = base::ErrorCode::kUnavailable,
                         .message = fmt::format("TLS with {} failed: {}", resolver_.text(),
                                                transport_.tls_failure()),
                         .hint =
                             "name the certificate authority with tls.ca_file, or, where that "
                             "is meant, turn the check off with tls.verify: false"};
    default:
      return lost(resolver_);
  }
}

base::Status HttpClient::connect(base::Instant deadline) {
  SQUALL_ASSIGN(base::UniqueFd fd, connect_within(resolver_, deadline));
  transport_ = Transport(std::move(fd), tls_);
  while (true) {
    const IoResult result = transport_.handshake();
    if (result.state == IoState::kDone) return {};
    SQUALL_TRY(await(result.state, deadline));
  }
}

base::Status HttpClient::exchange(std::string_view request, base::Instant deadline) {
  while (!request.empty()) {
    const IoResult sent = transport_.send(request);
    if (sent.state == IoState::kDone) {
      request.remove_prefix(sent.bytes);
    } else {
      SQUALL_TRY(await(sent.state, deadline));
    }
  }
  std::array<char, 16 * 1024> buffer;
  while (parser_.state() == ResponseState::kMore) {
    const IoResult received = transport_.receive(buffer.data(), buffer.size());
    if (received.state == IoState::kDone) {
      parser_.feed({buffer.data(), received.bytes});
    } else if (received.state != IoState::kClosed || !parser_.end_of_stream()) {
      SQUALL_TRY(await(received.state, deadline));
    }
  }
  if (parser_.state() == ResponseState::kComplete) return {};
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = parser_.state() == ResponseState::kTooLarge
                                    ? resolver_.text() + " sent a larger answer than allowed"
                                    : resolver_.text() + " did not answer with HTTP",
                     .hint = "check that the address is that of an HTTP server"};
}

base::Result<const HttpResponseParser*> HttpClient::ask(std::string_view request,
                                                        HttpResponseParser::Request kind,
                                                        base::Instant deadline) {
  const bool kept = transport_.open();
  if (!kept) SQUALL_TRY(connect(deadline));
  parser_.start(kind);
  base::Status status = exchange(request, deadline);
  if (!status.ok() && kept && !parser_.started() &&
      status.error().code == base::ErrorCode::kUnavailable) {
    transport_.close();
    SQUALL_TRY(connect(deadline));
    parser_.start(kind);
    status = exchange(request, deadline);
  }
  if (!status.ok() || !parser_.reusable()) transport_.close();
  if (!status.ok()) return status.error();
  return &parser_;
}

}  // namespace squall::observe
