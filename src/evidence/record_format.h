#pragma once
// What stands in the frames of a record (docs/record.md), apart from how they get to the file and
// back. Internal to this room.

#include <span>
#include <utility>

#include "base/frame.h"
#include "evidence/record.h"

namespace squall::evidence::format {

enum class FrameType : std::uint16_t {
  kHeader = 1,
  kSeries = 2,
  kRequestBucket = 3,
  kGauges = 4,
  kEvent = 5,
  kWrites = 6,
  kReadBacks = 7,
  kDocument = 8,
  kFinish = 9,
};

// Series ids are given out from 0 on; a larger one is not of ours. Bounds the reader's tables.
inline constexpr SeriesId kSeriesLimit = 1u << 20;

std::string encode_header(const RecordHeader& header);
base::Result<RecordHeader> decode_header(std::span<const std::byte> payload);

void encode_series(base::ByteWriter& out, SeriesId id, const SeriesDeclaration& declaration);
void encode_bucket(base::ByteWriter& out, SeriesId series, const RequestBucket& bucket);
void encode_event(base::ByteWriter& out, const Event& event);
void encode_writes(base::ByteWriter& out, SeriesId series, std::span<const WriteRecord> writes);
void encode_read_backs(base::ByteWriter& out, SeriesId series,
                       std::span<const ReadBack> read_backs);

// These read the payload behind the series id. False: not one of ours.
bool decode_series(base::ByteReader& in, SeriesDeclaration& declaration);
bool decode_bucket(base::ByteReader& in, RequestBucket& bucket);
bool decode_event(base::ByteReader& in, Event& event);
bool decode_writes(base::ByteReader& in, std::vector<WriteRecord>& writes);
bool decode_read_backs(base::ByteReader& in, std::vector<ReadBack>& read_backs);

// ---- Gauges
// -------------------------------------------------------------------------------------- Samples of
// many series in columns, sorted by series, so that a reader of a few series steps over the others
// at one byte each:
//   varint  number of samples n
//   u8      width of a value in bytes: 4 or 8 (4 when every value is exact as a float)
//   u64     base time, nanoseconds
//   varint  size of the id column in bytes
//   ids     n varints: distance to the id before
//   times   n u32: nanoseconds after the base time
//   values  n floats or doubles
// All little-endian.

using NumberedSample = std::pair<SeriesId, GaugeSample>;

// Encodes as many of `samples` (sorted by series, not empty) as one frame takes; returns how many.
std::size_t encode_gauges(base::ByteWriter& out, std::span<const NumberedSample> samples);

// Of a table by series id: no slot because the series is not wanted, or not declared.
inline constexpr std::int32_t kNotWanted = -1;
inline constexpr std::int32_t kUnknown = -2;

// Calls visit(slot, sample) for each sample whose series has a slot in `slots`; samples of series
// that are kUnknown or beyond the table are counted in `unknown`. False when the payload is not one
// of ours; some samples may have been visited then.
template <typename Visit>
bool decode_gauges(std::span<const std::byte> payload, std::span<const std::int32_t> slots,
                   std::uint64_t& unknown, Visit&& visit);

// ---- Implementation of the template
// --------------------------------------------------------------

struct GaugeColumns {
  std::uint64_t count = 0;
  unsigned width = 8;
  std::int64_t base = 0;
  const unsigned char* ids = nullptr;
  const unsigned char* ids_end = nullptr;
  const unsigned char* times = nullptr;
  const unsigned char* values = nullptr;
};
bool find_columns(std::span<const std::byte> payload, GaugeColumns& columns);
GaugeSample sample_at(const GaugeColumns& columns, std::uint64_t index);

template <typename Visit>
bool decode_gauges(std::span<const std::byte> payload, std::span<const std::int32_t> slots,
                   std::uint64_t& unknown, Visit&& visit) {
  GaugeColumns columns;
  if (!find_columns(payload, columns)) return false;
  const unsigned char* at = columns.ids;
  std::uint64_t id = 0;
  for (std::uint64_t i = 0; i < columns.count; ++i) {
    if (at == columns.ids_end) return false;
    std::uint64_t distance = *at++;
    for (unsigned shift = 7; distance >> (shift - 7) >= 0x80; shift += 7) {
      if (at == columns.ids_end || shift > 28) return false;
      distance = (distance & ((1ull << shift) - 1)) | static_cast<std::uint64_t>(*at++) << shift;
    }
    id += distance;
    const std::int32_t slot = id < slots.size() ? slots[id] : kUnknown;
    if (slot >= 0) {
      visit(slot, sample_at(columns, i));
    } else if (slot == kUnknown) {
      ++unknown;
    }
  }
  return at == columns.ids_end;
}

}  // namespace squall::evidence::format
