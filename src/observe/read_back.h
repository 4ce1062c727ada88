#pragma once
// Whether the writes of a run are there: each one is asked for by its sequence number.

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "evidence/sample.h"
#include "observe/http_request.h"
#include "observe/response_content.h"
#include "observe/transport.h"

namespace squall::observe {

struct ReadBackOptions {
  std::string url;  // holds {sequence}
  HttpHeaders headers;
  std::shared_ptr<TlsContext> tls;
  const Expectation& expectation;       // of an answer that says "it is there"
  std::optional<base::JsonPath> count;  // where the number of copies stands: a number or a list
  std::string sequence_prefix;
  std::vector<std::uint64_t> sequences;
  base::Duration timeout{};  // of one question
  // For how long a question is repeated while the service cannot be reached or answers 5xx. Once
  // one question was given up after that, the others are asked only once: the service is down.
  base::Duration patience = std::chrono::seconds(10);
  base::Duration longest = std::chrono::seconds(60);  // all together; what is left then is unknown
};

inline constexpr int kReadBackConcurrency = 32;

// One entry a sequence, in order. An expected answer is one copy (or as many as `count` says), 404
// and 410 are none, and anything else leaves it unknown.
base::Result<std::vector<evidence::ReadBack>> read_back(const ReadBackOptions& options);

}  // namespace squall::observe
