// The revert journal's reader: any bytes give an answer, and what is read of a lease is never taken
// from bytes whose checksum does not fit.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "inject/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto content = squall::inject::parse_journal(std::as_bytes(std::span{data, size}));
  SQUALL_CHECK(content.lease.has_value() || !content.damage.empty());
  return 0;
}
