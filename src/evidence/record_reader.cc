#include "evidence/record_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "evidence/record_format.h"

namespace squall::evidence {
namespace {

using format::FrameType;
using format::kNotWanted;
using format::kUnknown;

constexpr std::size_t kFindingsLimit = 100;

template <typename T, typename Time>
void sort_by_time(std::vector<T>& values, Time time) {
  const auto earlier = [&](const T& a, const T& b) { return time(a) < time(b); };
  if (!std::is_sorted(values.begin(), values.end(), earlier))
    std::stable_sort(values.begin(), values.end(), earlier);
}

// Sorts the pieces of buckets and merges those of the same start.
void merge_pieces(std::vector<RequestBucket>& buckets) {
  sort_by_time(buckets, [](const RequestBucket& bucket) { return bucket.start; });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < buckets.size();) {
    RequestBucket whole = std::move(buckets[i++]);
    const bool one_piece = i == buckets.size() || buckets[i].start != whole.start;
    for (; i < buckets.size() && buckets[i].start == whole.start; ++i) whole.merge(buckets[i]);
    if (!one_piece) {
      whole.response_time.compact();
      whole.service_time.compact();
      whole.lag.compact();
    }
    buckets[kept++] = std::move(whole);
  }
  buckets.resize(kept);
}

}  // namespace

void RecordReader::tell(std::string finding) {
  if (record_.damage_.size() < kFindingsLimit) {
    record_.damage_.push_back(std::move(finding));
  } else {
    ++findings_not_told_;
  }
}

base::Status RecordReader::read() {
  const base::DecodedFrame first = source_.frame_at(0);
  if (source_.failure()) return *source_.failure();
  if (!first.frame || first.frame->type != static_cast<std::uint16_t>(FrameType::kHeader)) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the beginning is not that of a record",
                       .hint =
                           "is this a record of Squall? if it is one, its first frame is "
                           "damaged and nothing can be said about the rest"};
  }
  SQUALL_ASSIGN(record_.header_, format::decode_header(first.frame->payload));
  record_.last_ = first.frame->written;
  frames_ = 1;
  end_ = sound_end_ = first.frame->size;
  std::uint64_t offset = end_;
  while (true) {
    if (source_.at(offset, 1).empty()) break;
    const base::DecodedFrame decoded = source_.frame_at(offset);
    if (decoded.frame) {
      ++frames_;
      const std::uint64_t start = offset;
      offset += decoded.frame->size;
      end_ = offset;
      if (!damaged_in_the_middle_) sound_end_ = offset;
      take_frame(*decoded.frame, start);
      continue;
    }
    const auto next = skip_damage(offset, *decoded.fault);
    if (!next) break;
    offset = *next;
  }
  if (source_.failure()) tell(source_.failure()->to_string());
  if (unknown_samples_ > 0)
    tell(fmt::format("{} samples belong to series whose declaration is missing", unknown_samples_));
  if (unknown_types_ > 0)
    tell(fmt::format("{} frames are of a type that this version does not know", unknown_types_));
  if (findings_not_told_ > 0)
    record_.damage_.push_back(fmt::format("and {} more findings", findings_not_told_));
  order();
  return {};
}

std::optional<std::uint64_t> RecordReader::skip_damage(std::uint64_t offset,
                                                       base::FrameFault fault) {
  const auto next = source_.find_frame(offset + 1);
  if (next) {
    damaged_in_the_middle_ = true;
    gap_open_ = true;
    tell(fmt::format("{} bytes at {} are damaged and were skipped; at least 1 frame is missing",
                     *next - offset, offset));
    return next;
  }
  const std::uint64_t rest = source_.end_after(offset) - offset;
  tell(fault == base::FrameFault::kIncomplete
           ? fmt::format("the last {} bytes are a frame that was never completed, as after a kill",
                         rest)
           : fmt::format("the last {} bytes, from {} on, are damaged", rest, offset));
  return std::nullopt;
}

void RecordReader::take_frame(const base::FrameView& frame, std::uint64_t offset) {
  if (gap_open_) record_.gaps_.push_back({record_.last_, std::max(record_.last_, frame.written)});
  gap_open_ = false;
  record_.last_ = std::max(record_.last_, frame.written);
  if (record_.finished_)
    tell(fmt::format("a frame at {} stands behind the end of the record", offset));
  base::ByteReader in(frame.payload);
  bool understood = true;
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::kHeader:
      understood = false;
      break;
    case FrameType::kSeries:
      understood = take_series(in);
      break;
    case FrameType::kRequestBucket:
    case FrameType::kWrites:
    case FrameType::kReadBacks:
      understood = take_samples(in, frame.type);
      break;
    case FrameType::kGauges:
      understood = take_gauges(frame.payload);
      break;
    case FrameType::kEvent: {
      Event event;
      understood = format::decode_event(in, event);
      if (understood && keep_) record_.events_.push_back(std::move(event));
      break;
    }
    case FrameType::kDocument:
      understood = take_document(in);
      break;
    case FrameType::kFinish:
      understood = take_finish(in, offset);
      break;
    default:
      ++unknown_types_;
  }
  if (!understood)
    tell(fmt::format("the frame at {} (type {}) is whole but makes no sense", offset, frame.type));
}

bool RecordReader::take_series(base::ByteReader& in) {
  const std::uint64_t id = in.varint();
  SeriesDeclaration declaration;
  if (!format::decode_series(in, declaration) || id >= format::kSeriesLimit) return false;
  if (id < slots_.size() && slots_[id] != kUnknown) return false;
  if (id >= slots_.size()) slots_.resize(id + 1, kUnknown);
  const bool wanted = keep_ && (!options_.wanted || options_.wanted(declaration));
  slots_[id] = wanted ? static_cast<std::int32_t>(record_.series_.size()) : kNotWanted;
  record_.series_.emplace_back().declaration = std::move(declaration);
  return true;
}

bool RecordReader::take_samples(base::ByteReader& in, std::uint16_t type) {
  const std::uint64_t id = in.varint();
  if (in.failed()) return false;
  const std::int32_t slot = id < slots_.size() ? slots_[id] : kUnknown;
  if (slot == kUnknown) {
    ++unknown_samples_;
    return true;
  }
  if (slot == kNotWanted) return true;
  Series& series = record_.series_[static_cast<std::size_t>(slot)];
  if (type == static_cast<std::uint16_t>(FrameType::kWrites))
    return format::decode_writes(in, series.writes);
  if (type == static_cast<std::uint16_t>(FrameType::kReadBacks))
    return format::decode_read_backs(in, series.read_backs);
  RequestBucket bucket;
  if (!format::decode_bucket(in, bucket)) return false;
  series.buckets.push_back(std::move(bucket));
  return true;
}

bool RecordReader::take_gauges(std::span<const std::byte> payload) {
  return format::decode_gauges(
      payload, slots_, unknown_samples_, [this](std::int32_t slot, const GaugeSample& sample) {
        record_.series_[static_cast<std::size_t>(slot)].samples.push_back(sample);
      });
}

bool RecordReader::take_document(base::ByteReader& in) {
  const std::string_view name = in.text();
  const std::string_view text = in.text();
  if (in.failed()) return false;
  if (keep_) record_.documents_.insert_or_assign(std::string(name), std::string(text));
  return true;
}

bool RecordReader::take_finish(base::ByteReader& in, std::uint64_t offset) {
  const std::uint64_t frames = in.varint();
  const std::uint64_t bytes = in.varint();
  if (in.failed()) return false;
  record_.finished_ = true;
  if (frames != frames_ || bytes != offset) {
    damaged_in_the_middle_ = true;
    // Nobody knows where, unless it was seen.
    if (record_.gaps_.empty()) {
      record_.gaps_.push_back({record_.header_.boot_start, record_.last_});
    }
    tell(
        fmt::format("the record was finished with {} frames in {} bytes, and {} frames in {} "
                    "bytes are here",
                    frames, bytes, frames_, offset));
  }
  return true;
}

void RecordReader::order() {
  for (std::size_t i = 0; i < record_.series_.size(); ++i) {
    Series& series = record_.series_[i];
    record_.by_name_.emplace(series.declaration.name, i);  // the first of a name wins
    merge_pieces(series.buckets);
    sort_by_time(series.samples, [](const GaugeSample& sample) { return sample.at; });
    sort_by_time(series.writes, [](const WriteRecord& write) { return write.sequence; });
    sort_by_time(series.read_backs, [](const ReadBack& read_back) { return read_back.sequence; });
  }
}

Record RecordReader::take() {
  return std::move(record_);
}

RecordCheck RecordReader::check() const {
  return {.run = record_.header_.run,
          .finished = record_.finished_,
          .frames = frames_,
          .bytes = end_,
          .damage = record_.damage_};
}

}  // namespace squall::evidence
