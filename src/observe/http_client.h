#pragma once
// One question at a time over HTTP, for whatever is not load: checks, read-back, Prometheus.

#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "observe/address.h"
#include "observe/http_response.h"
#include "observe/transport.h"

namespace squall::observe {

// Keeps one connection alive. Not thread-safe; the calling thread must have SIGPIPE blocked when
// TLS is used.
class HttpClient {
 public:
  // `resolver` must be resolved and outlive the client.
  HttpClient(const Resolver& resolver, std::shared_ptr<TlsContext> tls, std::uint64_t body_limit);
  // Sends `request` (a GET or HEAD as rendered by HttpRequestTemplate) and waits for the whole
  // answer, which is valid until the next call. Asked again on a new connection when a kept one
  // turns out to be closed. kTimeout, kUnavailable, or kCorrupt when the answer is not HTTP.
  base::Result<const HttpResponseParser*> ask(std::string_view request,
                                              HttpResponseParser::Request kind,
                                              base::Instant deadline);
  // Connects (and shakes hands) without sending anything.
  base::Status connect(base::Instant deadline);

 private:
  base::Status exchange(std::string_view request, base::Instant deadline);
  base::Status await(IoState state, base::Instant deadline);
  const Resolver& resolver_;
  std::shared_ptr<TlsContext> tls_;
  Transport transport_;
  HttpResponseParser parser_;
};

}  // namespace squall::observe
