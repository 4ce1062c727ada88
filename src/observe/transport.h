#pragma once
// A TCP connection with or without TLS, non-blocking. The only file that knows OpenSSL.

#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

struct ssl_ctx_st;
struct ssl_st;

namespace squall::observe {

struct TlsOptions {
  std::string ca_file;  // PEM; empty: the system's certificates
  enum class Verify { kPeer, kNone } verify = Verify::kPeer;
  std::string server_name;  // for SNI and for the name in the certificate
};

// Settings that all connections of a probe share. Thread-safe once made.
class TlsContext {
 public:
  static base::Result<std::shared_ptr<TlsContext>> create(TlsOptions options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class Transport;
  TlsContext(ssl_ctx_st* context, TlsOptions options)
      : context_(context), options_(std::move(options)) {}
  ssl_ctx_st* context_;
  TlsOptions options_;
};

enum class IoState {
  kDone,
  kWantRead,
  kWantWrite,
  kClosed,  // the peer has closed in order
  kLost,    // reset, or closed in the middle of TLS
  kTls,     // certificate or protocol failure
};
struct IoResult {
  IoState state = IoState::kDone;
  std::size_t bytes = 0;
  // When the kernel received the last of these bytes; wall clock, since that is what the kernel
  // stamps with. Epoch when unknown.
  base::WallTime arrived{};
};

// Not thread-safe. TLS writes through write(2): the calling thread must have SIGPIPE blocked or
// ignored (see block_broken_pipe_signal).
class Transport {
 public:
  Transport() = default;
  Transport(base::UniqueFd fd, std::shared_ptr<TlsContext> tls);
  ~Transport();
  Transport(Transport&& other) noexcept;
  Transport& operator=(Transport&& other) noexcept;

  int fd() const { return fd_.get(); }
  bool open() const { return fd_.valid(); }
  // Must be called until kDone before send or receive; kDone at once without TLS.
  IoResult handshake();
  IoResult send(std::string_view bytes);
  IoResult receive(char* buffer, std::size_t size);
  // From now on receive() says when the bytes arrived (SO_TIMESTAMPNS, socket(7)). Not with TLS.
  void stamp_arrivals();
  // Bytes that TLS has decrypted already and that no readiness event will announce.
  bool buffered() const;
  // What went wrong with TLS, for messages; empty when nothing did.
  const std::string& tls_failure() const { return tls_failure_; }
  void close();

 private:
  IoResult tls_result(int result);
  IoResult receive_stamped(char* buffer, std::size_t size);
  base::UniqueFd fd_;
  std::shared_ptr<TlsContext> tls_;
  ssl_st* session_ = nullptr;
  std::string tls_failure_;
  bool stamped_ = false;
};

// For the calling thread.
void block_broken_pipe_signal();

}  // namespace squall::observe
