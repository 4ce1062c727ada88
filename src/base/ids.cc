#include "base/ids.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace squall::base {

std::uint64_t random_u64() {
  std::uint64_t value = 0;
  ssize_t got = 0;
  do {
    got = ::getrandom(&value, sizeof value, 0);
  } while (got < 0 && errno == EINTR);
  SQUALL_CHECK(got == sizeof value);  // reads of up to 256 bytes are never short: getrandom(2)
  return value;
}

RunId RunId::generate(WallTime now) {
  // RFC 9562, 5.7, with method 3 of 6.2: the 12 bits after the version count fractions of the
  // millisecond, so that ids made in the same millisecond still sort by time.
  const auto since_epoch = std::max<std::int64_t>(0, now.time_since_epoch().count());
  const auto milliseconds = static_cast<std::uint64_t>(since_epoch / 1'000'000);
  const auto fraction = static_cast<std::uint64_t>(since_epoch % 1'000'000) * 4096 / 1'000'000;
  const std::uint64_t random = random_u64();
  RunId id;
  id.text_ = fmt::format("{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}", milliseconds >> 16 & 0xFFFFFFFF,
                         milliseconds & 0xFFFF, fraction, 0x8000 | (random >> 48 & 0x3FFF),
                         random & 0xFFFFFFFFFFFF);
  return id;
}

Result<RunId> RunId::parse(std::string_view text) {
  const Error bad{.code = ErrorCode::kUsage,
                  .message = fmt::format("`{}` is not a run id", text.substr(0, 40)),
                  .hint = "`squall list` shows the ids of the runs"};
  if (text.size() != 36) return bad;
  RunId id;
  id.text_ = text;
  for (std::size_t i = 0; i < id.text_.size(); ++i) {
    char& c = id.text_[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return bad;
      continue;
    }
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return bad;
  }
  const char variant = id.text_[19];
  if (id.text_[14] != '7' || (variant != '8' && variant != '9' && variant != 'a' && variant != 'b'))
    return bad;
  return id;
}

std::string RunId::short_text() const {
  return text_.size() < 8 ? text_ : text_.substr(text_.size() - 8);
}

LeaseId LeaseId::generate() {
  return LeaseId{random_u64()};
}

std::string LeaseId::text() const {
  return fmt::format("{:016x}", value);
}

}  // namespace squall::base
