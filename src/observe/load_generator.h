#pragma once
// The open-loop HTTP/1.1 load generator: one thread, one epoll, a pool of keep-alive connections.
//
// Requests are sent when the schedule says so, whether or not earlier ones were answered, up to a
// limit of requests in flight; beyond it they are counted as dropped and never sent late in secret.
// Each answer carries three times: intended, sent, done, where done is when the kernel received the
// last byte and not when this thread was woken for it. A request is sent at most once, with one
// exception: when the kernel refuses the very first byte because an idle connection had been
// closed, the request goes out on a new connection, since nothing of it was sent. After a timeout
// the connection is closed, so that a late answer can never be taken for the next one's.

#include <cstdint>
#include <memory>
#include <stop_token>

#include "base/clock.h"
#include "base/result.h"
#include "evidence/sample.h"
#include "observe/address.h"
#include "observe/http_request.h"
#include "observe/http_response.h"
#include "observe/schedule.h"
#include "observe/transport.h"

namespace squall::observe {

// One request that came to an end.
struct Exchange {
  base::Instant intended;
  // When the generator turned to it: wrote it, or began to connect for it. So `sent - intended` is
  // the generator's own lag, and waiting for the target to accept counts as the target's time.
  base::Instant sent;
  base::Instant done;
  // kOk when a whole response arrived; it is for the sink to look at status, header and body.
  evidence::Outcome outcome = evidence::Outcome::kOk;
  bool took_bytes = false;  // at least one byte was sent: it may have taken effect
  std::uint64_t sequence = 0;
  const HttpResponseParser* response = nullptr;  // set for kOk; valid during the call
};

// Called on the generator's thread.
class LoadSink {
 public:
  virtual ~LoadSink() = default;
  virtual void completed(const Exchange& exchange) = 0;
  virtual void dropped(base::Instant intended) = 0;
  // Now and then (at most every 50 ms), for whoever publishes figures.
  virtual void breathe() {}
};

struct LoadOptions {
  const base::Clock& clock;
  Resolver& resolver;               // resolved
  std::shared_ptr<TlsContext> tls;  // null: plain
  HttpRequestTemplate request;
  ArrivalSchedule schedule;
  base::Instant start;       // the schedule's offset 0
  base::Duration timeout{};  // counts from the intended time
  int in_flight = 1;
  HttpResponseParser::Body body = HttpResponseParser::Body::kCount;
  std::uint64_t response_limit = 0;  // bytes of body
};

// Connections that were unused for so long are closed: servers close idle ones too, and a request
// that meets such a close would look like a failure of the target.
inline constexpr base::Duration kIdleLimit = std::chrono::seconds(2);

// Above this rate the schedule is put on a grid: requests are intended (not sent late) in groups of
// a few, and answers are taken up once a grid step. Half of the processor time of a request is
// waking up for it; the times that are recorded stay exact, since the kernel stamps the answers.
inline constexpr double kGroupingRate = 4'000;  // per second
inline constexpr base::Duration kGroupingGrid = std::chrono::milliseconds(1);

class LoadGenerator {
 public:
  static base::Result<std::unique_ptr<LoadGenerator>> create(LoadOptions options, LoadSink& sink);
  virtual ~LoadGenerator() = default;
  // Until `stop` is requested; then nothing new is sent and what is in flight is awaited, each to
  // its own timeout. Never blocks but in epoll.
  virtual void run(std::stop_token stop) = 0;
};

// How many requests a load can have in flight when the target stalls: peak rate x timeout and a
// little more, at most 10,000.
int natural_in_flight(double peak_rate, base::Duration timeout);
// Raises the soft limit of descriptors if needed (never above the hard one) and returns how many of
// `wanted` connections can be had.
int connections_within_descriptor_limit(int wanted);

}  // namespace squall::observe
