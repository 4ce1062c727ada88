#pragma once
// Where the reader of a record gets its bytes: memory, or a file through a buffer. Internal to this
// room.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/frame.h"

namespace squall::evidence {

class RecordSource {
 public:
  explicit RecordSource(std::span<const std::byte> bytes) : memory_(bytes) {}
  explicit RecordSource(base::UniqueFd fd) : fd_(std::move(fd)) {}

  // The bytes from `offset` on: at least `wanted` of them unless the source ends before. Valid
  // until the next call. A read that fails ends the source and is told by failure().
  std::span<const std::byte> at(std::uint64_t offset, std::size_t wanted);
  const std::optional<base::Error>& failure() const { return failure_; }

  // The frame at `offset`, with as many bytes as it needs fetched.
  base::DecodedFrame frame_at(std::uint64_t offset);
  // The offset of the first whole frame at or after `from`. Gives up after checksumming 1 GiB,
  // which only crafted files need.
  std::optional<std::uint64_t> find_frame(std::uint64_t from);
  // Where the source ends; reads on to see it.
  std::uint64_t end_after(std::uint64_t offset);

 private:
  std::span<const std::byte> memory_;
  base::UniqueFd fd_;
  std::vector<std::byte> buffer_;
  std::uint64_t start_ = 0;  // offset of buffer_[0]
  std::size_t filled_ = 0;
  std::optional<base::Error> failure_;
};

}  // namespace squall::evidence
