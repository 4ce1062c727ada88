#include "recent_workflows.h"

#include <fmt/format.h>

#include <charconv>

#include "workflow_store.h"

namespace orchestrator {
namespace {

using std::chrono::system_clock;

constexpr const char* kKey = "cache:recent";
constexpr int kListed = 20;
constexpr milliseconds kFresh{500};
constexpr milliseconds kPatience{500};

std::int64_t now_ms() {
  return std::chrono::duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// An entry is the moment until which it is fresh, a space, and the list.
struct Entry {
  bool fresh = false;
  std::string list;
};

std::optional<Entry> parse_entry(const CacheReply& reply) {
  if (reply.kind != CacheReply::Kind::kText) return std::nullopt;
  const auto space = reply.text.find(' ');
  if (space == std::string::npos) return std::nullopt;
  std::int64_t fresh_until = 0;
  std::from_chars(reply.text.data(), reply.text.data() + space, fresh_until);
  return Entry{fresh_until > now_ms(), reply.text.substr(space + 1)};
}

}  // namespace

RecentAnswer RecentWorkflows::read() {
  using Source = RecentAnswer::Source;
  const auto cache = caches_.borrow(kPatience);
  const CacheReply reply =
      cache ? cache->command({"GET", kKey})
            : CacheReply{CacheReply::Kind::kUnavailable, "all connections are in use", 0, {}};
  if (!reply.ok()) {
    if (!cures_.cache_retries) return {Source::kNone, "cache: " + reply.text};
    if (auto list = read_database()) return {Source::kDatabase, std::move(*list)};
    return {Source::kNone, "neither cache nor database answers"};
  }
  const auto entry = parse_entry(reply);
  if (entry && entry->fresh) return {Source::kCache, entry->list};
  if (entry && refreshing_.exchange(true)) return {Source::kStaleCache, entry->list};
  auto list = refresh(*cache);
  refreshing_ = false;
  if (list) return {Source::kDatabase, std::move(*list)};
  if (entry) return {Source::kStaleCache, entry->list};
  return {Source::kNone, "the database does not answer and nothing is cached yet"};
}

std::optional<std::string> RecentWorkflows::read_database() {
  const auto database = databases_.borrow(kPatience);
  if (!database) return std::nullopt;
  const auto result = WorkflowStore(*database).recent(kListed);
  if (!result.ok() || result.rows() != 1) return std::nullopt;
  return std::string(result.text(0, 0));
}

std::optional<std::string> RecentWorkflows::refresh(Cache& cache) {
  auto list = read_database();
  // Not being able to store it costs the next request a little, and nobody else anything.
  if (list) cache.command({"SET", kKey, fmt::format("{} {}", now_ms() + kFresh.count(), *list)});
  return list;
}

}  // namespace orchestrator
