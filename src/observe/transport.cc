#include "observe/transport.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace squall::observe {
namespace {

std::string tls_error_text() {
  const unsigned long error = ERR_peek_last_error();
  if (error == 0) return "the peer ended the handshake";
  const char* reason = ERR_reason_error_string(error);
  return reason == nullptr ? fmt::format("OpenSSL error {:x}", error) : reason;
}

bool is_ip_address(const std::string& name) {
  in6_addr buffer{};
  return inet_pton(AF_INET, name.c_str(), &buffer) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &buffer) == 1;
}

}  // namespace

base::Result<std::shared_ptr<TlsContext>> TlsContext::create(TlsOptions options) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  if (context == nullptr) {
    return base::Error{.code = base::ErrorCode::kInternal,
                       .message = "OpenSSL cannot be set up: " + tls_error_text(),
                       .hint = {}};
  }
  std::shared_ptr<TlsContext> made(new TlsContext(context, std::move(options)));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  if (made->options_.verify == TlsOptions::Verify::kNone) {
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    return made;
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const bool loaded =
      made->options_.ca_file.empty()
          ? SSL_CTX_set_default_verify_paths(context) == 1
          : SSL_CTX_load_verify_locations(context, made->options_.ca_file.c_str(), nullptr) == 1;
  if (!loaded) {
    base::Error error{
        .code = base::ErrorCode::kBadFile,
        .message = fmt::format(
            "no certificates can be read from {}: {}",
            made->options_.ca_file.empty() ? "the system's store" : made->options_.ca_file,
            tls_error_text()),
        .hint = "tls.ca_file must name a PEM file that we may read"};
    ERR_clear_error();
    return error;
  }
  return made;
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
}

Transport::Transport(base::UniqueFd fd, std::shared_ptr<TlsContext> tls)
    : fd_(std::move(fd)), tls_(std::move(tls)) {
  if (tls_ == nullptr) return;
  session_ = SSL_new(tls_->context_);
  if (session_ == nullptr) return;
  SSL_set_fd(session_, fd_.get());
  SSL_set_connect_state(session_);
  const std::string& name = tls_->options_.server_name;
  if (is_ip_address(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session_), name.c_str());
  } else {
    SSL_set_tlsext_host_name(session_, name.c_str());
    SSL_set1_host(session_, name.c_str());
  }
}

Transport::~Transport() {
  close();
}

Transport::Transport(Transport&& other) noexcept
    : fd_(std::move(other.fd_)),
      tls_(std::move(other.tls_)),
      session_(std::exchange(other.session_, nullptr)),
      tls_failure_(std::move(other.tls_failure_)),
      stamped_(other.stamped_) {}

Transport& Transport::operator=(Transport&& other) noexcept {
  if (this == &other) return *this;
  close();
  fd_ = std::move(other.fd_);
  tls_ = std::move(other.tls_);
  session_ = std::exchange(other.session_, nullptr);
  tls_failure_ = std::move(other.tls_failure_);
  stamped_ = other.stamped_;
  return *this;
}

void Transport::close() {
  if (session_ != nullptr) {
    SSL_free(session_);
    session_ = nullptr;
  }
  fd_.reset();
}

IoResult Transport::tls_result(int result) {
  if (result > 0) return {.state = IoState::kDone, .bytes = static_cast<std::size_t>(result)};
  const int error_number = errno;
  switch (SSL_get_error(session_, result)) {
    case SSL_ERROR_WANT_READ:
      return {.state = IoState::kWantRead};
    case SSL_ERROR_WANT_WRITE:
      return {.state = IoState::kWantWrite};
    case SSL_ERROR_ZERO_RETURN:
      return {.state = IoState::kClosed};
    case SSL_ERROR_SYSCALL:
      tls_failure_ = error_number == 0 ? "the peer closed without a farewell"
                                       : base::system_error("TLS", error_number).message;
      ERR_clear_error();
      return {.state = IoState::kLost};
    default: {
      const unsigned long error = ERR_peek_last_error();
      const bool cut = ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
      const long verified = SSL_get_verify_result(session_);
      tls_failure_ =
          verified == X509_V_OK ? tls_error_text() : X509_verify_cert_error_string(verified);
      ERR_clear_error();
      return {.state = cut ? IoState::kLost : IoState::kTls};
    }
  }
}

IoResult Transport::handshake() {
  if (tls_ == nullptr) return {};
  if (session_ == nullptr) return {.state = IoState::kTls};
  ERR_clear_error();
  errno = 0;
  return tls_result(SSL_do_handshake(session_));
}

IoResult Transport::send(std::string_view bytes) {
  if (session_ != nullptr) {
    ERR_clear_error();
    errno = 0;
    return tls_result(SSL_write(session_, bytes.data(), static_cast<int>(bytes.size())));
  }
  while (true) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return {.state = IoState::kDone, .bytes = static_cast<std::size_t>(sent)};
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return {.state = IoState::kWantWrite};
    return {.state = IoState::kLost};
  }
}

IoResult Transport::receive(char* buffer, std::size_t size) {
  if (session_ != nullptr) {
    ERR_clear_error();
    errno = 0;
    return tls_result(SSL_read(session_, buffer, static_cast<int>(size)));
  }
  if (stamped_) return receive_stamped(buffer, size);
  while (true) {
    const ssize_t received = ::recv(fd_.get(), buffer, size, 0);
    if (received > 0) return {.state = IoState::kDone, .bytes = static_cast<std::size_t>(received)};
    if (received == 0) return {.state = IoState::kClosed};
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return {.state = IoState::kWantRead};
    return {.state = IoState::kLost};
  }
}

void Transport::stamp_arrivals() {
  const int on = 1;
  stamped_ =
      session_ == nullptr && setsockopt(fd_.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0;
}

IoResult Transport::receive_stamped(char* buffer, std::size_t size) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(timespec)) + 64> control;
  iovec piece{.iov_base = buffer, .iov_len = size};
  while (true) {
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t received = recvmsg(fd_.get(), &message, 0);
    if (received == 0) return {.state = IoState::kClosed};
    if (received < 0) {
      if (errno == EINTR) continue;
      return {.state = errno == EAGAIN ? IoState::kWantRead : IoState::kLost};
    }
    IoResult result{.state = IoState::kDone, .bytes = static_cast<std::size_t>(received)};
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_TIMESTAMPNS) continue;
      timespec time{};
      std::memcpy(&time, CMSG_DATA(header), sizeof time);
      result.arrived =
          base::WallTime{base::Duration{std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec}};
    }
    return result;
  }
}

bool Transport::buffered() const {
  return session_ != nullptr && SSL_pending(session_) > 0;
}

void block_broken_pipe_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace squall::observe
