#pragma once
// One command to a Redis server or Sentinel and its reply (RESP2), without waiting. The holder asks
// servers that may hang or lie: everything is bounded, and has a deadline.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

struct RedisReply {
  enum class Type { kNil, kError, kText, kInteger, kList };
  Type type = Type::kNil;
  std::string text;  // kError, kText
  std::int64_t integer = 0;
  std::vector<RedisReply> items;
};

// The first reply in `bytes`, which then hold what follows it; absent when it is not there as a
// whole. kCorrupt when it is none, or deeper or longer than any reply we ask for.
base::Result<std::optional<RedisReply>> take_redis_reply(std::string& bytes);

std::string redis_command(const std::vector<std::string>& words);

class RedisExchange {
 public:
  struct Server {
    std::string address;  // IPv4 or IPv6
    std::uint16_t port = 0;
    std::string user;      // empty: the default one
    std::string password;  // empty: none
  };
  using Outcome = base::Result<RedisReply>;

  RedisExchange(const Server& server, const std::vector<std::string>& command,
                base::Duration limit);

  // Connects and sends at the first call; absent while the reply is missing. An error reply is
  // kPermission when the password is refused, and kConflict else.
  std::optional<Outcome> advance();
  int fd() const { return socket_.get(); }
  // When to call again, beside the descriptor.
  base::Duration again() const;

 private:
  base::Status connect();
  base::Result<bool> send();  // false: not connected yet
  std::optional<Outcome> read();
  std::optional<Outcome> take();

  Server server_;
  std::string request_;
  std::string answer_;
  bool login_ = false;  // its reply comes first
  base::Instant deadline_;
  base::UniqueFd socket_;
  bool sent_ = false;
};

}  // namespace squall::inject
