#include "evidence/record_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

namespace squall::evidence::format {
namespace {

base::Error bad_header(std::string message) {
  return {.code = base::ErrorCode::kCorrupt,
          .message = std::move(message),
          .hint = "is this a record of Squall? its name ends in .squall"};
}

std::string text_of(const base::Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t integer_of(const base::Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

std::uint32_t to_u32(std::uint64_t value) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(value, std::numeric_limits<std::uint32_t>::max()));
}

template <typename T>
T load_little_endian(const unsigned char* at) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

std::string encode_header(const RecordHeader& header) {
  const base::Json json = {
      {"record_version", kRecordVersion},
      {"run", header.run.text()},
      {"squall_version", header.squall_version},
      {"wall_start_ns", header.wall_start.time_since_epoch().count()},
      {"boot_start_ns", base::to_nanoseconds(header.boot_start)},
      {"experiment_name", header.experiment_name},
      {"experiment_file", header.experiment_file},
      {"experiment_text", header.experiment_text},
      {"system_map_file", header.system_map_file},
      {"system_map_text", header.system_map_text},
      {"environment", header.environment},
      {"plan", header.plan},
      {"plan_hash", header.plan_hash},
  };
  return json.dump(-1, ' ', false, base::Json::error_handler_t::replace);
}

base::Result<RecordHeader> decode_header(std::span<const std::byte> payload) {
  const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
  auto parsed = base::parse_json(text, base::kFramePayloadLimit);
  if (!parsed.ok() || !parsed->is_object()) return bad_header("the header is not a JSON object");
  const base::Json& json = *parsed;
  const std::int64_t version = integer_of(json, "record_version");
  if (version > kRecordVersion) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "the record was written by a newer version of Squall (" +
                                  text_of(json, "squall_version") + ")",
                       .hint = "update squall to read it"};
  }
  if (version < 1) return bad_header("the header has no record version");
  RecordHeader header;
  if (const std::string run = text_of(json, "run"); !run.empty()) {
    auto id = base::RunId::parse(run);
    if (!id.ok()) return bad_header("the header's run id is not one");
    header.run = *std::move(id);
  }
  header.squall_version = text_of(json, "squall_version");
  header.wall_start = base::WallTime(base::Duration(integer_of(json, "wall_start_ns")));
  header.boot_start = base::instant_from_nanoseconds(integer_of(json, "boot_start_ns"));
  header.experiment_name = text_of(json, "experiment_name");
  header.experiment_file = text_of(json, "experiment_file");
  header.experiment_text = text_of(json, "experiment_text");
  header.system_map_file = text_of(json, "system_map_file");
  header.system_map_text = text_of(json, "system_map_text");
  header.environment = text_of(json, "environment");
  header.plan = text_of(json, "plan");
  header.plan_hash = text_of(json, "plan_hash");
  return header;
}

void encode_series(base::ByteWriter& out, SeriesId id, const SeriesDeclaration& declaration) {
  out.varint(id);
  out.u8(static_cast<std::uint8_t>(declaration.kind));
  out.text(declaration.name);
  out.text(declaration.unit);
  out.text(declaration.source);
}

bool decode_series(base::ByteReader& in, SeriesDeclaration& declaration) {
  const std::uint8_t kind = in.u8();
  declaration.name = in.text();
  declaration.unit = in.text();
  declaration.source = in.text();
  if (in.failed() || kind > static_cast<std::uint8_t>(SeriesKind::kCounter)) return false;
  declaration.kind = static_cast<SeriesKind>(kind);
  return true;
}

void encode_bucket(base::ByteWriter& out, SeriesId series, const RequestBucket& bucket) {
  out.varint(series);
  out.signed_varint(base::to_nanoseconds(bucket.start));
  std::uint8_t present = 0;
  for (std::size_t i = 0; i < kOutcomes; ++i)
    if (bucket.outcomes[i] != 0) present = static_cast<std::uint8_t>(present | (1u << i));
  out.u8(present);
  for (const std::uint32_t count : bucket.outcomes)
    if (count != 0) out.varint(count);
  out.varint(bucket.dropped);
  bucket.response_time.encode(out);
  bucket.service_time.encode(out);
  bucket.lag.encode(out);
}

bool decode_bucket(base::ByteReader& in, RequestBucket& bucket) {
  bucket.start = base::instant_from_nanoseconds(in.signed_varint());
  const std::uint8_t present = in.u8();
  for (std::size_t i = 0; i < kOutcomes; ++i)
    bucket.outcomes[i] = (present >> i & 1) != 0 ? to_u32(in.varint()) : 0;
  bucket.dropped = to_u32(in.varint());
  for (Histogram* histogram : {&bucket.response_time, &bucket.service_time, &bucket.lag}) {
    auto decoded = Histogram::decode(in);
    if (!decoded.ok()) return false;
    *histogram = *std::move(decoded);
  }
  return !in.failed();
}

void encode_event(base::ByteWriter& out, const Event& event) {
  out.signed_varint(base::to_nanoseconds(event.at));
  out.text(event.type);
  out.text(event.subject);
  out.text(event.text);
  out.text(event.details);
}

bool decode_event(base::ByteReader& in, Event& event) {
  event.at = base::instant_from_nanoseconds(in.signed_varint());
  event.type = in.text();
  event.subject = in.text();
  event.text = in.text();
  event.details = in.text();
  return !in.failed();
}

void encode_writes(base::ByteWriter& out, SeriesId series, std::span<const WriteRecord> writes) {
  out.varint(series);
  out.varint(writes.size());
  std::uint64_t sequence = 0;
  std::int64_t sent = 0;
  for (const WriteRecord& write : writes) {
    out.signed_varint(static_cast<std::int64_t>(write.sequence - sequence));
    out.signed_varint(base::to_nanoseconds(write.sent) - sent);
    out.u8(static_cast<std::uint8_t>(write.fate));
    sequence = write.sequence;
    sent = base::to_nanoseconds(write.sent);
  }
}

bool decode_writes(base::ByteReader& in, std::vector<WriteRecord>& writes) {
  const std::uint64_t count = in.varint();
  if (count > in.remaining() / 3) return false;  // a write takes at least three bytes
  writes.reserve(writes.size() + count);
  std::uint64_t sequence = 0;
  std::uint64_t sent = 0;  // unsigned, so that crafted distances wrap instead of overflowing
  for (std::uint64_t i = 0; i < count; ++i) {
    sequence += static_cast<std::uint64_t>(in.signed_varint());
    sent += static_cast<std::uint64_t>(in.signed_varint());
    const std::uint8_t fate = in.u8();
    if (in.failed() || fate > static_cast<std::uint8_t>(WriteFate::kUnknown)) return false;
    writes.push_back({sequence, base::instant_from_nanoseconds(static_cast<std::int64_t>(sent)),
                      static_cast<WriteFate>(fate)});
  }
  return true;
}

void encode_read_backs(base::ByteWriter& out, SeriesId series,
                       std::span<const ReadBack> read_backs) {
  out.varint(series);
  out.varint(read_backs.size());
  std::uint64_t sequence = 0;
  for (const ReadBack& read_back : read_backs) {
    out.signed_varint(static_cast<std::int64_t>(read_back.sequence - sequence));
    out.varint(read_back.known ? std::uint64_t{read_back.found} + 1 : 0);  // 0: not known
    sequence = read_back.sequence;
  }
}

bool decode_read_backs(base::ByteReader& in, std::vector<ReadBack>& read_backs) {
  const std::uint64_t count = in.varint();
  if (count > in.remaining() / 2) return false;
  read_backs.reserve(read_backs.size() + count);
  std::uint64_t sequence = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    sequence += static_cast<std::uint64_t>(in.signed_varint());
    const std::uint64_t found = in.varint();
    if (in.failed()) return false;
    read_backs.push_back({sequence, found != 0, found == 0 ? 0 : to_u32(found - 1)});
  }
  return true;
}

namespace {

constexpr std::size_t kGaugesPerFrame = 64 * 1024;

// How many of `samples` fit one frame: their times must span less than 2^32 ns (4.3 s).
std::size_t fitting(std::span<const NumberedSample> samples, std::int64_t& base) {
  std::int64_t earliest = base::to_nanoseconds(samples[0].second.at);
  std::int64_t latest = earliest;
  std::size_t count = 1;
  for (; count < std::min(samples.size(), kGaugesPerFrame); ++count) {
    const std::int64_t at = base::to_nanoseconds(samples[count].second.at);
    const std::int64_t low = std::min(earliest, at);
    const std::int64_t high = std::max(latest, at);
    if (high - low > std::numeric_limits<std::uint32_t>::max()) break;
    earliest = low;
    latest = high;
  }
  base = earliest;
  return count;
}

bool is_exact_as_float(double value) {
  return static_cast<double>(static_cast<float>(value)) == value;
}

}  // namespace

std::size_t encode_gauges(base::ByteWriter& out, std::span<const NumberedSample> samples) {
  std::int64_t base_time = 0;
  const std::size_t count = fitting(samples, base_time);
  samples = samples.first(count);
  const bool narrow = std::all_of(samples.begin(), samples.end(), [](const NumberedSample& s) {
    return is_exact_as_float(s.second.value);
  });
  out.varint(count);
  out.u8(narrow ? 4 : 8);
  out.u64(static_cast<std::uint64_t>(base_time));
  std::size_t ids_size = 0;
  SeriesId previous = 0;
  for (const NumberedSample& sample : samples) {
    const SeriesId distance = sample.first - previous;
    ids_size += distance == 0 ? 1 : (static_cast<std::size_t>(std::bit_width(distance)) + 6) / 7;
    previous = sample.first;
  }
  out.varint(ids_size);
  previous = 0;
  for (const NumberedSample& sample : samples) {
    out.varint(sample.first - previous);
    previous = sample.first;
  }
  for (const NumberedSample& sample : samples)
    out.u32(static_cast<std::uint32_t>(base::to_nanoseconds(sample.second.at) - base_time));
  for (const NumberedSample& sample : samples) {
    if (narrow) {
      out.u32(std::bit_cast<std::uint32_t>(static_cast<float>(sample.second.value)));
    } else {
      out.f64(sample.second.value);
    }
  }
  return count;
}

bool find_columns(std::span<const std::byte> payload, GaugeColumns& columns) {
  base::ByteReader in(payload);
  columns.count = in.varint();
  columns.width = in.u8();
  columns.base = static_cast<std::int64_t>(in.u64());
  const std::uint64_t ids_size = in.varint();
  if (in.failed() || (columns.width != 4 && columns.width != 8)) return false;
  const std::uint64_t rest = in.remaining();
  if (columns.count > rest || ids_size > rest) return false;  // so that the sum cannot overflow
  if (ids_size + columns.count * (4 + columns.width) != rest) return false;
  columns.ids = reinterpret_cast<const unsigned char*>(payload.data()) + (payload.size() - rest);
  columns.ids_end = columns.ids + ids_size;
  columns.times = columns.ids_end;
  columns.values = columns.times + columns.count * 4;
  return true;
}

GaugeSample sample_at(const GaugeColumns& columns, std::uint64_t index) {
  const auto offset = load_little_endian<std::uint32_t>(columns.times + index * 4);
  const auto at = static_cast<std::int64_t>(static_cast<std::uint64_t>(columns.base) + offset);
  const unsigned char* value = columns.values + index * columns.width;
  return {base::instant_from_nanoseconds(at),
          columns.width == 4 ? static_cast<double>(load_little_endian<float>(value))
                             : load_little_endian<double>(value)};
}

}  // namespace squall::evidence::format
