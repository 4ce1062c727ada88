#include "inject/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "base/frame.h"
#include "inject/json_fields.h"
#include "inject/wire.h"

namespace squall::inject {

namespace {

using base::Json;

enum class FrameType : std::uint16_t { kLease = 1, kNote = 2, kState = 3 };

constexpr int kFormat = 1;
// Kept free of notes, so that every state from armed to verified still fits.
constexpr std::size_t kReserveForStates = 8 * 1024;
constexpr std::size_t kTextLimit = 256;
constexpr std::size_t kReadLimit = 4 * LeaseJournal::kSize;

std::string lease_to_text(const LeaseRecord& r) {
  const Json json = {{"format", kFormat},
                     {"lease", r.lease.text()},
                     {"run", r.run},
                     {"experiment", r.experiment},
                     {"reason", r.reason},
                     {"owner", r.owner},
                     {"grant", to_json(r.grant)},
                     {"system_directory", r.system_directory},
                     {"boot_id", r.boot_id},
                     {"holder", to_json(r.holder)},
                     {"engine", to_json(r.engine)},
                     {"starter", to_json(r.starter)},
                     {"binding", model::to_json(r.binding)},
                     {"duration_ns", r.duration.count()},
                     {"requested_ns", base::to_nanoseconds(r.requested)},
                     {"resources", r.resources}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

base::Result<LeaseRecord> lease_from_text(std::string_view text) {
  SQUALL_ASSIGN(const Json json, base::parse_json(text, kReadLimit));
  const std::int64_t format = integer_field(json, "format");
  const auto lease = lease_id_from(text_field(json, "lease"));
  if (format != kFormat || !lease) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("it has format {}, this Squall reads format {}", format, kFormat)};
  }
  LeaseRecord record;
  record.lease = *lease;
  record.run = text_field(json, "run");
  record.experiment = text_field(json, "experiment");
  record.reason = text_field(json, "reason");
  record.owner = text_field(json, "owner");
  record.grant = grant_from_json(field(json, "grant"));
  record.system_directory = text_field(json, "system_directory");
  record.boot_id = text_field(json, "boot_id");
  record.holder = identity_field(json, "holder");
  record.engine = identity_field(json, "engine");
  record.starter = identity_field(json, "starter");
  SQUALL_ASSIGN(record.binding, model::fault_binding_from_json(field(json, "binding")));
  record.duration = base::Duration{integer_field(json, "duration_ns")};
  record.requested = base::instant_from_nanoseconds(integer_field(json, "requested_ns"));
  record.resources = texts_field(json, "resources");
  return record;
}

std::string_view payload_text(const base::FrameView& frame) {
  return {reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size()};
}

int lock(int file) {
  int locked = 0;
  do {
    locked = ::flock(file, LOCK_EX | LOCK_NB);
  } while (locked != 0 && errno == EINTR);
  return locked;
}

void add_damage(JournalContent& content, std::string text) {
  if (!content.damage.empty()) content.damage += "; ";
  content.damage += text;
}

void take_frame(const base::FrameView& frame, std::size_t offset, JournalContent& content) {
  const std::string_view text = payload_text(frame);
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::kLease: {
      if (offset != 0) return add_damage(content, fmt::format("a second lease at byte {}", offset));
      auto lease = lease_from_text(text);
      if (!lease.ok()) return add_damage(content, lease.error().message);
      content.ends = lease->requested + lease->duration;
      content.lease = std::move(*lease);
      return;
    }
    case FrameType::kNote:
      content.notes.emplace_back(text);
      return;
    case FrameType::kState: {
      const auto json = base::parse_json(text, kReadLimit);
      const auto state = json.ok() ? lease_state_from(text_field(*json, "state")) : std::nullopt;
      if (!state) return add_damage(content, fmt::format("an unreadable state at byte {}", offset));
      content.state = *state;
      content.ends = base::instant_from_nanoseconds(integer_field(*json, "ends_ns"));
      return;
    }
  }
  add_damage(content, fmt::format("an unknown frame at byte {}", offset));
}

}  // namespace

JournalContent parse_journal(std::span<const std::byte> bytes) {
  JournalContent content;
  std::size_t offset = 0;
  while (offset < bytes.size()) {
    const base::DecodedFrame decoded = base::decode_frame(bytes.subspan(offset));
    if (decoded.frame) {
      take_frame(*decoded.frame, offset, content);
      offset += decoded.frame->size;
      continue;
    }
    const auto rest = bytes.subspan(offset);
    const bool blank =
        std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; });
    if (blank) break;
    const auto next = base::find_frame(bytes, offset + 1);
    if (!next) {
      add_damage(content, fmt::format("the bytes from {} on are torn or damaged", offset));
      break;
    }
    add_damage(content, fmt::format("the bytes from {} to {} are damaged", offset, *next));
    offset = *next;
  }
  content.end = offset;
  if (!content.lease && content.damage.empty()) add_damage(content, "it holds no lease");
  return content;
}

base::Result<JournalContent> read_journal(const std::string& path) {
  SQUALL_ASSIGN(const std::string text, base::read_file(path, kReadLimit));
  return parse_journal(std::as_bytes(std::span{text.data(), text.size()}));
}

base::Result<LeaseJournal> LeaseJournal::create(const std::string& folder,
                                                const LeaseRecord& record) {
  const std::string final_path = base::join_path(folder, record.lease.text() + ".lease");
  const std::string new_path = final_path + ".new";
  const auto refuse = [&](base::Error error) {
    ::unlink(new_path.c_str());
    if (error.hint.empty()) error.hint = fmt::format("make room in {}", folder);
    return std::move(error).within("writing the revert journal, before any change");
  };
  LeaseJournal journal;
  journal.path_ = new_path;
  journal.file_ = base::UniqueFd{
      ::open(new_path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!journal.file_) return refuse(base::system_error("create " + new_path, errno));
  const int allocated = ::posix_fallocate(journal.file_.get(), 0, LeaseJournal::kSize);
  if (allocated != 0) return refuse(base::system_error("reserve space in " + folder, allocated));
  if (lock(journal.file_.get()) != 0) return refuse(base::system_error("lock " + new_path, errno));
  if (auto written = journal.append(static_cast<std::uint16_t>(FrameType::kLease),
                                    lease_to_text(record), kReserveForStates);
      !written.ok())
    return refuse(std::move(written).error());
  if (::rename(new_path.c_str(), final_path.c_str()) != 0)
    return refuse(base::system_error("name " + final_path, errno));
  journal.path_ = final_path;
  const base::UniqueFd directory{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory || ::fsync(directory.get()) != 0) {
    base::Error error = base::system_error("sync " + folder, errno);
    ::unlink(final_path.c_str());
    return refuse(std::move(error));
  }
  return journal;
}

base::Result<LeaseJournal> LeaseJournal::adopt(const std::string& path) {
  LeaseJournal journal;
  journal.path_ = path;
  journal.file_ = base::UniqueFd{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (!journal.file_) return base::system_error("open " + path, errno);
  if (lock(journal.file_.get()) != 0) {
    if (errno != EWOULDBLOCK) return base::system_error("lock " + path, errno);
    return base::Error{.code = base::ErrorCode::kConflict,
                       .message = path + " is in use by a living holder, or being undone already",
                       .hint = "see `squall status`"};
  }
  journal.end_ = kSize;
  return journal;
}

base::Status LeaseJournal::append(std::uint16_t type, std::string_view payload,
                                  std::size_t reserve) {
  std::vector<std::byte> frame;
  base::append_frame(frame, type, base::BootClock::now(), payload);
  if (end_ + frame.size() + reserve > kSize) {
    return base::Error{.code = base::ErrorCode::kExhausted,
                       .message = "the space set aside for the revert journal is used up",
                       .hint = "the fault touches very many processes; aim it at fewer"};
  }
  std::size_t done = 0;
  while (done < frame.size()) {
    const ssize_t wrote = ::pwrite(file_.get(), frame.data() + done, frame.size() - done,
                                   static_cast<off_t>(end_ + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return base::system_error("write " + path_, errno);
    done += static_cast<std::size_t>(wrote);
  }
  // Whole from here on, whether it is durable or not: what follows must not overwrite half of it.
  end_ += frame.size();
  if (static_cast<FrameType>(type) != FrameType::kState && ::fdatasync(file_.get()) != 0)
    return base::system_error("sync " + path_, errno);
  return {};
}

base::Status LeaseJournal::note(std::string_view json) {
  auto written = append(static_cast<std::uint16_t>(FrameType::kNote), json, kReserveForStates);
  if (written.ok()) return written;
  return std::move(written).error().within("writing the revert journal, before the change");
}

void LeaseJournal::state(LeaseState state, base::Instant ends, std::string_view text) {
  const Json json = {{"state", to_string(state)},
                     {"ends_ns", base::to_nanoseconds(ends)},
                     {"text", text.substr(0, kTextLimit)}};
  const std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (auto written = append(static_cast<std::uint16_t>(FrameType::kState), line, 0); !written.ok())
    return;  // see the declaration
}

base::Status LeaseJournal::set_aside(std::string_view why) {
  const std::string kept = fmt::format("{}.{}", path_, why);
  if (::rename(path_.c_str(), kept.c_str()) != 0)
    return base::system_error("rename " + path_, errno);
  file_.reset();
  return {};
}

base::Status LeaseJournal::remove() {
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT)
    return base::system_error("remove " + path_, errno);
  file_.reset();
  return {};
}

}  // namespace squall::inject
