#include "evidence/record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "evidence/record_reader.h"

namespace squall::evidence {
namespace {

base::Result<base::UniqueFd> open_record(const std::string& path) {
  // Non-blocking, so that a fifo of that name does not hold us for ever.
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return base::system_error("open " + path, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return base::system_error("stat " + path, errno);
  if (!S_ISREG(status.st_mode)) {
    return base::Error{.code = base::ErrorCode::kBadFile, .message = path + " is not a file"};
  }
  return fd;
}

base::Status copy_bytes(int from, int to, std::uint64_t size) {
  std::vector<std::byte> buffer(1u << 20);
  for (std::uint64_t at = 0; at < size;) {
    const std::size_t wanted = std::min<std::uint64_t>(buffer.size(), size - at);
    const ssize_t got = ::pread(from, buffer.data(), wanted, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::system_error("reading the record", errno);
    if (got == 0) {
      return base::Error{.code = base::ErrorCode::kCorrupt,
                         .message = "the record became shorter while it was copied"};
    }
    SQUALL_TRY(base::write_all(to, std::span(buffer).first(static_cast<std::size_t>(got))));
    at += static_cast<std::uint64_t>(got);
  }
  return {};
}

// Removes the file unless it got its name.
class Draft {
 public:
  explicit Draft(std::string path) : path_(std::move(path)) {}
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  ~Draft() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

base::Result<Record> Record::read(const std::string& path, const ReadOptions& options) {
  SQUALL_ASSIGN(base::UniqueFd fd, open_record(path));
  RecordReader reader(RecordSource(std::move(fd)), options);
  if (auto status = reader.read(); !status.ok())
    return std::move(status).error().within("reading " + path);
  return reader.take();
}

base::Result<Record> Record::parse(std::span<const std::byte> bytes, const ReadOptions& options) {
  RecordReader reader(RecordSource(bytes), options);
  SQUALL_TRY(reader.read());
  return reader.take();
}

base::Result<RecordCheck> verify_record(const std::string& path) {
  SQUALL_ASSIGN(base::UniqueFd fd, open_record(path));
  RecordReader reader(RecordSource(std::move(fd)), {}, /*keep=*/false);
  if (auto status = reader.read(); !status.ok())
    return std::move(status).error().within("checking " + path);
  return reader.check();
}

base::Result<RecordCheck> copy_record(const std::string& from, const std::string& to) {
  SQUALL_ASSIGN(base::UniqueFd source, open_record(from));
  SQUALL_ASSIGN(base::UniqueFd checked, open_record(from));
  RecordReader reader(RecordSource(std::move(checked)), {}, /*keep=*/false);
  if (auto status = reader.read(); !status.ok())
    return std::move(status).error().within("checking " + from);
  if (reader.damaged_in_the_middle()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = from + " is damaged: " + reader.check().damage.front(),
                       .hint =
                           "copy the file as it is if you want to keep it; `squall show` reads "
                           "what is left"};
  }
  const Draft draft(to + ".part-" + std::to_string(base::random_u64()));
  base::UniqueFd target(
      ::open(draft.path().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!target) return base::system_error("create " + draft.path(), errno);
  SQUALL_TRY(copy_bytes(source.get(), target.get(), reader.sound_end()));
  if (::fsync(target.get()) != 0) return base::system_error("fsync " + draft.path(), errno);
  SQUALL_ASSIGN(RecordCheck check, verify_record(draft.path()));
  if (!check.damage.empty() || check.bytes != reader.sound_end()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the copy of " + from + " reads back differently"};
  }
  // link(2) rather than rename(2): it never replaces a file that is there.
  if (::link(draft.path().c_str(), to.c_str()) != 0)
    return base::system_error("create " + to, errno);
  return check;
}

const Series* Record::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &series_[found->second];
}

const std::string* Record::document(std::string_view name) const {
  const auto found = documents_.find(name);
  return found == documents_.end() ? nullptr : &found->second;
}

std::vector<const Event*> Record::events_of(std::string_view type) const {
  std::vector<const Event*> found;
  for (const Event& event : events_)
    if (event.type == type) found.push_back(&event);
  return found;
}

base::WallTime Record::wall_time(base::Instant at) const {
  // Unsigned, so that the crafted times of a hostile header wrap instead of overflowing.
  const auto wall = static_cast<std::uint64_t>(header_.wall_start.time_since_epoch().count());
  const auto since = static_cast<std::uint64_t>(base::to_nanoseconds(at)) -
                     static_cast<std::uint64_t>(base::to_nanoseconds(header_.boot_start));
  return base::WallTime(base::Duration(static_cast<std::int64_t>(wall + since)));
}

Record Record::make(Content content) {
  Record record;
  record.header_ = std::move(content.header);
  record.finished_ = content.finished;
  record.gaps_ = std::move(content.gaps);
  record.events_ = std::move(content.events);
  record.series_ = std::move(content.series);
  record.documents_ = std::move(content.documents);
  record.last_ = record.header_.boot_start;
  const auto seen = [&record](base::Instant at) { record.last_ = std::max(record.last_, at); };
  for (const Event& event : record.events_) seen(event.at);
  for (std::size_t i = 0; i < record.series_.size(); ++i) {
    Series& series = record.series_[i];
    record.by_name_.emplace(series.declaration.name, i);
    std::stable_sort(series.buckets.begin(), series.buckets.end(),
                     [](const auto& a, const auto& b) { return a.start < b.start; });
    std::stable_sort(series.samples.begin(), series.samples.end(),
                     [](const auto& a, const auto& b) { return a.at < b.at; });
    if (!series.buckets.empty()) seen(series.buckets.back().start + kBucketWidth);
    if (!series.samples.empty()) seen(series.samples.back().at);
  }
  return record;
}

}  // namespace squall::evidence
