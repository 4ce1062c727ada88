// The revert journal's reader: any bytes give an answer, and a journal without a lease is never
// called whole. The second half gets past the checksums: the input as a lease frame and a note
// frame.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/frame.h"
#include "inject/journal.h"

namespace {

void parse(std::span<const std::byte> bytes) {
  const auto content = squall::inject::parse_journal(bytes);
  SQUALL_CHECK(content.lease.has_value() || !content.damage.empty());
  SQUALL_CHECK(content.end <= bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  parse(bytes);
  std::vector<std::byte> journal;
  for (const std::uint16_t type : {std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{3}})
    squall::base::append_frame(journal, type, {}, bytes);
  parse(journal);
  return 0;
}
