#include "observe/read_back.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "observe/http_client.h"

namespace squall::observe {
namespace {

constexpr std::uint64_t kAnswerLimit = 8u << 20;
constexpr base::Duration kPause = std::chrono::milliseconds(100);

struct Shared {
  const ReadBackOptions& options;
  const Url& url;
  const Resolver& resolver;
  base::Instant deadline;
  std::vector<evidence::ReadBack>& results;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> down{false};
};

std::optional<std::uint32_t> counted(ResponseContent& content, const base::JsonPath& path) {
  const base::Json* value = content.find(path);
  if (value == nullptr) return std::nullopt;
  if (value->is_array()) return static_cast<std::uint32_t>(value->size());
  if (!value->is_number()) return std::nullopt;
  const double number = value->get<double>();
  if (!(number >= 0) || number > 1e9) return std::nullopt;
  return static_cast<std::uint32_t>(std::lround(number));
}

// Absent when the answer does not decide.
std::optional<std::uint32_t> copies(const HttpResponseParser& response,
                                    const ReadBackOptions& options) {
  ResponseContent content(response);
  if (options.expectation.judge(content, {}) == evidence::Outcome::kOk) {
    return options.count ? counted(content, *options.count) : std::optional<std::uint32_t>(1);
  }
  if (response.status() == 404 || response.status() == 410) return 0;
  return std::nullopt;
}

// Whether asking again may help.
bool transient(const base::Result<const HttpResponseParser*>& answer) {
  if (answer.ok()) return (*answer)->status() >= 500;
  return answer.error().code != base::ErrorCode::kCorrupt;
}

void ask_one(Shared& shared, HttpClient& client, std::size_t index) {
  const ReadBackOptions& options = shared.options;
  evidence::ReadBack& result = shared.results[index];
  result = {.sequence = options.sequences[index], .known = false, .found = 0};
  RequestOptions request_options{.method = "GET",
                                 .url = shared.url,
                                 .headers = options.headers,
                                 .body = {},
                                 .content_type = {},
                                 .sequence_prefix = {}};
  request_options.url.target =
      replace_sequence(shared.url.target, sequence_text(options.sequence_prefix, result.sequence));
  auto request = HttpRequestTemplate::make(request_options);
  if (!request.ok()) return;
  const base::Instant begin = base::BootClock::now();
  while (true) {
    const base::Instant now = base::BootClock::now();
    if (now >= shared.deadline) return;
    const auto answer = client.ask(request->render(0), HttpResponseParser::Request::kOther,
                                   std::min(now + options.timeout, shared.deadline));
    if (answer.ok()) {
      if (const auto found = copies(**answer, options)) {
        result.known = true;
        result.found = *found;
        return;
      }
    }
    if (!transient(answer) || shared.down.load()) return;
    if (base::BootClock::now() - begin > options.patience) {
      shared.down.store(true);
      return;
    }
    std::this_thread::sleep_for(kPause);
  }
}

void work(Shared& shared) {
  block_broken_pipe_signal();
  HttpClient client(shared.resolver, shared.options.tls, kAnswerLimit);
  while (true) {
    const std::size_t index = shared.next.fetch_add(1);
    if (index >= shared.results.size()) return;
    ask_one(shared, client, index);
  }
}

}  // namespace

base::Result<std::vector<evidence::ReadBack>> read_back(const ReadBackOptions& options) {
  SQUALL_ASSIGN(const Url url, parse_url(options.url));
  Resolver resolver(url.host, url.port);
  std::vector<evidence::ReadBack> results(options.sequences.size());
  SQUALL_TRY(resolver.resolve());
  Shared shared{.options = options,
                .url = url,
                .resolver = resolver,
                .deadline = base::BootClock::now() + options.longest,
                .results = results};
  const std::size_t threads = std::min<std::size_t>(kReadBackConcurrency, (results.size() + 7) / 8);
  std::vector<std::jthread> pool;
  for (std::size_t i = 1; i < threads; ++i) pool.emplace_back([&shared] { work(shared); });
  if (threads > 0) work(shared);
  pool.clear();
  return results;
}

}  // namespace squall::observe
