#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "evidence/record.h"
#include "evidence/record_format.h"

namespace squall::evidence {
namespace {

using format::FrameType;

constexpr std::uint64_t kAllocationStep = 1u << 20;

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

base::Status sync_folder(const std::string& path) {
  const std::string folder = folder_of(path);
  base::UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return base::system_error("open " + folder, errno);
  // Some filesystems cannot sync a folder; that loses nothing that was promised.
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    return base::system_error("fsync " + folder, errno);
  return {};
}

base::Error no_space(const std::string& path, int error_number) {
  base::Error error = base::system_error("writing the record " + path, error_number);
  if (error.code == base::ErrorCode::kExhausted)
    error.hint = "free space on that filesystem, or keep records elsewhere";
  return error;
}

base::Result<base::UniqueFd> create_new_file(const std::string& path) {
  base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) return base::system_error("create " + path, errno);
  return fd;
}

}  // namespace

base::Result<std::unique_ptr<RecordWriter>> RecordWriter::create(const std::string& path,
                                                                 const RecordHeader& header,
                                                                 std::uint64_t reserve) {
  const std::string encoded = format::encode_header(header);
  std::unique_ptr<RecordWriter> writer(new RecordWriter());
  writer->path_ = path;
  writer->reserve_ = reserve;
  SQUALL_ASSIGN(writer->fd_, create_new_file(path));
  rlimit limit{};
  writer->size_limit_ = ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
                            ? limit.rlim_cur
                            : ~0ull;
  const std::lock_guard lock(writer->mutex_);
  base::Status written = writer->add_frame(static_cast<std::uint16_t>(FrameType::kHeader),
                                           std::as_bytes(std::span(encoded)));
  if (written.ok()) written = writer->write_frames(Space::kSamples);
  if (!written.ok()) {
    ::unlink(path.c_str());
    return std::move(written).error();
  }
  return writer;
}

RecordWriter::~RecordWriter() = default;

base::Status RecordWriter::writable(Space space) const {
  if (finished_) {
    return base::Error{.code = base::ErrorCode::kConflict,
                       .message = "the record " + path_ + " is finished"};
  }
  if (failure_ && (space == Space::kSamples || reserve_failed_)) return *failure_;
  return {};
}

base::Status RecordWriter::add_frame(std::uint16_t type, std::span<const std::byte> payload) {
  if (payload.size() > base::kFramePayloadLimit) {
    buffer_.clear();
    frames_waiting_ = 0;
    return base::Error{
        .code = base::ErrorCode::kExhausted,
        .message = fmt::format("a piece of the record has {} bytes, more than the {} that a frame "
                               "takes",
                               payload.size(), base::kFramePayloadLimit)};
  }
  base::append_frame(buffer_, type, base::BootClock::now(), payload);
  ++frames_waiting_;
  return {};
}

// Space up to `end` of the file is ours afterwards, whoever fills the disk.
base::Status RecordWriter::allocate(std::uint64_t end) {
  if (end > size_limit_) return no_space(path_, EFBIG);
  if (!can_allocate_ || end <= allocated_) return {};
  // First a step that saves later calls, then only what is needed.
  for (const std::uint64_t target : {std::min(end + kAllocationStep, size_limit_), end}) {
    const auto from = static_cast<off_t>(allocated_);
    const auto length = static_cast<off_t>(target - allocated_);
    int result = 0;
    do {
      result = ::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, from, length);
    } while (result != 0 && errno == EINTR);
    if (result == 0) {
      allocated_ = target;
      return {};
    }
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
      can_allocate_ = false;
      return {};
    }
  }
  return no_space(path_, errno);
}

base::Status RecordWriter::write_frames(Space space) {
  const std::uint64_t end = offset_ + buffer_.size();
  base::Status status = allocate(space == Space::kSamples ? end + reserve_ : end);
  std::span<const std::byte> rest = buffer_;
  std::uint64_t at = offset_;
  while (status.ok() && !rest.empty()) {
    const ssize_t written = ::pwrite(fd_.get(), rest.data(), rest.size(), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      status = no_space(path_, written < 0 ? errno : EIO);
      break;
    }
    rest = rest.subspan(static_cast<std::size_t>(written));
    at += static_cast<std::uint64_t>(written);
  }
  if (status.ok()) {
    offset_ = end;
    frames_ += frames_waiting_;
  } else {
    if (at > offset_) {
      // Take back the part of a frame, and with it what was allocated behind it.
      if (::ftruncate(fd_.get(), static_cast<off_t>(offset_)) == 0) allocated_ = offset_;
    }
    if (space == Space::kReserve || status.error().code != base::ErrorCode::kExhausted)
      reserve_failed_ = true;
    if (!failure_) failure_ = status.error();
  }
  buffer_.clear();
  frames_waiting_ = 0;
  return status;
}

base::Result<SeriesId> RecordWriter::declare(const SeriesDeclaration& declaration) {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kSamples));
  if (next_series_ >= format::kSeriesLimit) {
    return base::Error{.code = base::ErrorCode::kExhausted,
                       .message = fmt::format("a record takes {} series", format::kSeriesLimit)};
  }
  const SeriesId id = next_series_++;
  payload_.clear();
  format::encode_series(payload_, id, declaration);
  SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kSeries), payload_.bytes()));
  SQUALL_TRY(write_frames(Space::kSamples));
  return id;
}

base::Status RecordWriter::append(SeriesId series, const RequestBucket& bucket) {
  const SeriesBucket one{series, &bucket};
  return append(std::span(&one, 1));
}

base::Status RecordWriter::append(std::span<const SeriesBucket> buckets) {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kSamples));
  if (buckets.empty()) return {};
  for (const SeriesBucket& piece : buckets) {
    payload_.clear();
    format::encode_bucket(payload_, piece.series, *piece.bucket);
    SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kRequestBucket), payload_.bytes()));
  }
  return write_frames(Space::kSamples);
}

base::Status RecordWriter::append(std::span<const std::pair<SeriesId, GaugeSample>> samples) {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kSamples));
  if (samples.empty()) return {};
  const auto by_series = [](const format::NumberedSample& a, const format::NumberedSample& b) {
    return a.first < b.first;
  };
  if (!std::is_sorted(samples.begin(), samples.end(), by_series)) {
    sorted_.assign(samples.begin(), samples.end());
    std::stable_sort(sorted_.begin(), sorted_.end(), by_series);
    samples = sorted_;
  }
  while (!samples.empty()) {
    payload_.clear();
    samples = samples.subspan(format::encode_gauges(payload_, samples));
    SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kGauges), payload_.bytes()));
  }
  return write_frames(Space::kSamples);
}

base::Status RecordWriter::append(const Event& event) {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kReserve));
  payload_.clear();
  format::encode_event(payload_, event);
  SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kEvent), payload_.bytes()));
  return write_frames(Space::kReserve);
}

base::Status RecordWriter::append_writes(SeriesId series, std::span<const WriteRecord> writes) {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kSamples));
  if (writes.empty()) return {};
  constexpr std::size_t kPerFrame = 256 * 1024;
  for (std::size_t at = 0; at < writes.size(); at += kPerFrame) {
    payload_.clear();
    format::encode_writes(payload_, series,
                          writes.subspan(at, std::min(kPerFrame, writes.size() - at)));
    SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kWrites), payload_.bytes()));
  }
  return write_frames(Space::kSamples);
}

base::Status RecordWriter::append_read_backs(SeriesId series,
                                             std::span<const ReadBack> read_backs) {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kSamples));
  if (read_backs.empty()) return {};
  constexpr std::size_t kPerFrame = 256 * 1024;
  for (std::size_t at = 0; at < read_backs.size(); at += kPerFrame) {
    payload_.clear();
    format::encode_read_backs(payload_, series,
                              read_backs.subspan(at, std::min(kPerFrame, read_backs.size() - at)));
    SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kReadBacks), payload_.bytes()));
  }
  return write_frames(Space::kSamples);
}

base::Status RecordWriter::append_document(std::string_view name, const base::Json& document) {
  const std::string text = document.dump(-1, ' ', false, base::Json::error_handler_t::replace);
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kReserve));
  payload_.clear();
  payload_.text(name);
  payload_.text(text);
  SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kDocument), payload_.bytes()));
  return write_frames(Space::kReserve);
}

base::Status RecordWriter::sync_locked() {
  if (::fdatasync(fd_.get()) != 0) {
    failure_ = base::system_error("fdatasync " + path_, errno);
    reserve_failed_ = true;  // after a failed sync nobody knows what is on the disk
    return *failure_;
  }
  if (!folder_synced_) {
    SQUALL_TRY(sync_folder(path_));
    folder_synced_ = true;
  }
  return {};
}

base::Status RecordWriter::sync() {
  const std::lock_guard lock(mutex_);
  return sync_locked();
}

base::Status RecordWriter::finish() {
  const std::lock_guard lock(mutex_);
  SQUALL_TRY(writable(Space::kReserve));
  payload_.clear();
  payload_.varint(frames_ + 1);
  payload_.varint(offset_);
  SQUALL_TRY(add_frame(static_cast<std::uint16_t>(FrameType::kFinish), payload_.bytes()));
  SQUALL_TRY(write_frames(Space::kReserve));
  finished_ = true;
  // Truncating to the size that it has gives back what was allocated behind the end.
  if (::ftruncate(fd_.get(), static_cast<off_t>(offset_)) != 0)
    return base::system_error("truncate " + path_, errno);
  return sync_locked();
}

base::Status RecordWriter::failure() const {
  const std::lock_guard lock(mutex_);
  if (failure_) return *failure_;
  return {};
}

std::uint64_t RecordWriter::size() const {
  const std::lock_guard lock(mutex_);
  return offset_;
}

}  // namespace squall::evidence
