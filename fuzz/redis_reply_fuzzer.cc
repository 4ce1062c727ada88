// What a Redis server or Sentinel answers, whole and cut in two: never more is taken than is there,
// and the reply is the same however the bytes arrive.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "inject/faults/failover/redis_exchange.h"

namespace {

using namespace squall;  // NOLINT: a fuzzer

bool same(const inject::RedisReply& one, const inject::RedisReply& other) {
  if (one.type != other.type || one.text != other.text || one.integer != other.integer ||
      one.items.size() != other.items.size())
    return false;
  for (std::size_t i = 0; i < one.items.size(); ++i) {
    if (!same(one.items[i], other.items[i])) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string all{reinterpret_cast<const char*>(data) + 1, size - 1};
  std::string whole = all;
  const auto reply = inject::take_redis_reply(whole);
  if (!reply.ok()) return 0;
  SQUALL_CHECK(whole.size() <= all.size() && all.ends_with(whole));
  if (!*reply) {
    SQUALL_CHECK(whole == all);  // nothing is lost while more is awaited
    return 0;
  }
  SQUALL_CHECK(whole.size() < all.size());
  const std::size_t cut = data[0] % (all.size() + 1);
  std::string parts = all.substr(0, cut);
  auto again = inject::take_redis_reply(parts);
  SQUALL_CHECK(again.ok());
  if (!*again) {
    parts += all.substr(cut);
    again = inject::take_redis_reply(parts);
    SQUALL_CHECK(again.ok() && *again && parts == whole);
  }
  SQUALL_CHECK(same(**reply, **again));
  return 0;
}
