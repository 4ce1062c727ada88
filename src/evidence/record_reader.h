#pragma once
// Reads frames and builds a Record of them. Internal to this room.

#include "evidence/record.h"
#include "evidence/record_source.h"

namespace squall::evidence {

class RecordReader {
 public:
  // `keep` false: only checks.
  RecordReader(RecordSource source, const ReadOptions& options, bool keep = true)
      : source_(std::move(source)), options_(options), keep_(keep) {}

  base::Status read();
  Record take();
  RecordCheck check() const;
  // End of the last whole frame before which nothing is damaged.
  std::uint64_t sound_end() const { return sound_end_; }
  bool damaged_in_the_middle() const { return damaged_in_the_middle_; }

 private:
  void take_frame(const base::FrameView& frame, std::uint64_t offset);
  // False: the payload is not one of ours.
  bool take_series(base::ByteReader& in);
  bool take_samples(base::ByteReader& in, std::uint16_t type);
  bool take_gauges(std::span<const std::byte> payload);
  bool take_finish(base::ByteReader& in, std::uint64_t offset);
  bool take_document(base::ByteReader& in);
  // Past the bytes at `offset` that are no frame; absent: nothing whole follows.
  std::optional<std::uint64_t> skip_damage(std::uint64_t offset, base::FrameFault fault);
  void tell(std::string finding);
  void order();

  RecordSource source_;
  ReadOptions options_;
  bool keep_ = true;
  Record record_;
  std::vector<std::int32_t> slots_;  // by series id: index in record_.series_, kNotWanted, kUnknown
  std::uint64_t frames_ = 0;
  std::uint64_t end_ = 0;
  std::uint64_t sound_end_ = 0;
  std::uint64_t unknown_samples_ = 0;
  std::uint64_t unknown_types_ = 0;
  std::uint64_t findings_not_told_ = 0;
  bool damaged_in_the_middle_ = false;
  bool gap_open_ = false;  // bytes were skipped, and the next frame has not come yet
};

}  // namespace squall::evidence
