#pragma once
// What probes produce.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "evidence/histogram.h"

namespace squall::evidence {

using SeriesId = std::uint32_t;

enum class Outcome : std::uint8_t {
  kOk,        // answered, and the answer meets the probe's `expect`
  kStatus,    // answered with another status than expected
  kBadBody,   // answered, but header or body do not meet `expect`
  kTimeout,   // no answer in time: unknown whether it took effect
  kReset,     // connection lost before the answer was complete: unknown
  kConnect,   // connection refused or unreachable: it took no effect
  kTls,       // TLS failed: it took no effect
  kProtocol,  // the answer is not of the protocol
};
inline constexpr std::size_t kOutcomes = 8;
std::string_view to_string(Outcome outcome);

// One request of a probe. Times are on the boot clock. `intended` is when the open-loop schedule
// wanted it sent; latency is done - intended, so that a stalled server shows its whole stall.
struct RequestSample {
  base::Instant intended;
  base::Instant sent;
  base::Instant done;
  Outcome outcome = Outcome::kOk;
  int status = 0;
  bool faulted = false;
};

// What happened within one bucket of a request series. Buckets are aligned to multiples of
// kBucketWidth on the boot clock and a request belongs to the bucket of its intended time; phases
// start at bucket borders. Several pieces of the same bucket are merged when read: a long request
// arrives after its bucket was first written.
inline constexpr base::Duration kBucketWidth = std::chrono::milliseconds(100);

struct RequestBucket {
  base::Instant start;
  std::array<std::uint32_t, kOutcomes> outcomes{};
  std::uint32_t dropped = 0;    // intended but never sent: generator at its in-flight limit
  Histogram response_time;      // done - intended
  Histogram service_time;       // done - sent
  Histogram lag;                // sent - intended
  std::uint64_t count() const;  // all outcomes, dropped excluded
  std::uint64_t ok() const { return outcomes[0]; }
  void merge(const RequestBucket& other);
  void clear();  // all but `start`; keeps its memory
};

// The start of the bucket in which `at` lies.
base::Instant bucket_start(base::Instant at);

struct GaugeSample {
  base::Instant at;
  double value = 0;
};

enum class SeriesKind : std::uint8_t { kRequests, kGauge, kCounter };

struct SeriesDeclaration {
  std::string name;  // slice id ("reads where ...") or "stuck.value"
  SeriesKind kind = SeriesKind::kGauge;
  std::string unit;    // "", "s", "B", "%"
  std::string source;  // probe or service
};

// A sequence-numbered write and what became of it.
enum class WriteFate : std::uint8_t {
  kAcknowledged,  // answered with success
  kRefused,       // answered with an error or surely not sent: need not be there
  kUnknown,       // no answer: may or may not be there
};
struct WriteRecord {
  std::uint64_t sequence = 0;
  base::Instant sent;
  WriteFate fate = WriteFate::kUnknown;
};
// The read-back at the end. `found` counts copies: 0 and acknowledged is lost, above 1 duplicated.
struct ReadBack {
  std::uint64_t sequence = 0;
  bool known = true;  // false: the read-back itself failed; then lost cannot be shown
  std::uint32_t found = 0;
};

}  // namespace squall::evidence
