#include "evidence/record_source.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace squall::evidence {
namespace {

constexpr std::size_t kReadSize = 1u << 20;
constexpr std::size_t kLargestFrame = base::kFrameHeaderSize + base::kFramePayloadLimit;
constexpr std::uint64_t kSearchLimit = 1ull << 30;
constexpr std::array<char, 4> kMagic = {'S', 'Q', 'L', '1'};

}  // namespace

std::span<const std::byte> RecordSource::at(std::uint64_t offset, std::size_t wanted) {
  if (!fd_) return memory_.subspan(std::min<std::uint64_t>(offset, memory_.size()));
  if (offset < start_ || offset > start_ + filled_) {
    start_ = offset;
    filled_ = 0;
  }
  const std::size_t used = offset - start_;
  if (filled_ - used >= wanted) return std::span(buffer_).subspan(used, filled_ - used);
  if (used < filled_) std::memmove(buffer_.data(), buffer_.data() + used, filled_ - used);
  start_ = offset;
  filled_ -= used;
  while (filled_ < wanted && !failure_) {
    // Grown step by step, so that a length that lies costs no more than the file has bytes.
    if (buffer_.size() < filled_ + kReadSize / 2) buffer_.resize(filled_ + kReadSize);
    const ssize_t got = ::pread(fd_.get(), buffer_.data() + filled_, buffer_.size() - filled_,
                                static_cast<off_t>(start_ + filled_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) failure_ = base::system_error("reading the record", errno);
    if (got <= 0) break;
    filled_ += static_cast<std::size_t>(got);
  }
  return std::span(buffer_).first(filled_);
}

base::DecodedFrame RecordSource::frame_at(std::uint64_t offset) {
  const auto bytes = at(offset, base::kFrameHeaderSize);
  base::DecodedFrame decoded = base::decode_frame(bytes);
  if (decoded.frame || *decoded.fault == base::FrameFault::kCorrupt) return decoded;
  if (bytes.size() < base::kFrameHeaderSize) return decoded;
  const auto more = at(offset, kLargestFrame);
  return base::decode_frame(more);
}

std::optional<std::uint64_t> RecordSource::find_frame(std::uint64_t from) {
  std::uint64_t checksummed = 0;
  while (checksummed <= kSearchLimit) {
    const auto bytes = at(from, base::kFrameHeaderSize);
    if (bytes.size() < base::kFrameHeaderSize) return std::nullopt;
    const void* found = ::memmem(bytes.data(), bytes.size(), kMagic.data(), kMagic.size());
    if (found == nullptr) {
      from += bytes.size() - (kMagic.size() - 1);
      continue;
    }
    from += static_cast<std::uint64_t>(static_cast<const std::byte*>(found) - bytes.data());
    if (frame_at(from).frame) return from;
    const auto header = at(from, base::kFrameHeaderSize);
    if (header.size() < base::kFrameHeaderSize) return std::nullopt;
    base::ByteReader length(header.subspan(8, 4));
    checksummed += std::min<std::uint64_t>(length.u32(), kLargestFrame) + base::kFrameHeaderSize;
    ++from;
  }
  return std::nullopt;
}

std::uint64_t RecordSource::end_after(std::uint64_t offset) {
  while (true) {
    const auto bytes = at(offset, 1);
    if (bytes.empty()) return offset;
    offset += bytes.size();
  }
}

}  // namespace squall::evidence
