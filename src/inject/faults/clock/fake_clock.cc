#include "inject/faults/clock/fake_clock.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "base/fd.h"
#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/faults/process/revival.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;

// Readable for everybody: the service may have a user of its own.
constexpr std::string_view kFolder = "/run/squall-clock";
constexpr std::string_view kLibraryName = "libfaketime";
constexpr base::Duration kLook = std::chrono::milliseconds(20);
// The loader maps the library within some milliseconds.
constexpr base::Duration kMapLimit = std::chrono::seconds(5);
constexpr base::Duration kProbeLimit = std::chrono::seconds(10);
constexpr double kProbeError = 2.0;  // seconds; a busy machine starts the probe late
constexpr std::size_t kElfStart = 64 * 1024;

base::Result<std::string> find_library() {
  std::vector<std::filesystem::path> folders{"/usr/lib/faketime", "/usr/lib64/faketime",
                                             "/usr/local/lib/faketime"};
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib", ignored))
    folders.push_back(entry.path() / "faketime");
  for (const auto& folder : folders) {
    const auto path = folder / "libfaketimeMT.so.1";
    if (std::filesystem::exists(path, ignored)) return path.string();
  }
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message =
                         "libfaketime is not installed, and no other way changes the clock of one "
                         "process",
                     .hint = "install it (Debian: apt-get install libfaketime)"};
}

bool maps_library(pid_t pid) {
  const auto maps = base::read_pseudo_file(fmt::format("/proc/{}/maps", pid));
  return maps.ok() && maps->find(kLibraryName) != std::string::npos;
}

// Was it started with our file? A process may overwrite what it shows, but not before its loader
// has mapped the library.
bool is_faked(pid_t pid, const std::string& file) {
  if (maps_library(pid)) return true;
  const auto environment = base::read_pseudo_file(fmt::format("/proc/{}/environ", pid));
  return environment.ok() && environment->find(file) != std::string::npos;
}

class FakeClock final : public Fault {
 public:
  FakeClock(std::vector<Target> targets, Revival::Plan plan, const Json& details,
            FaultContext& context)
      : targets_(std::move(targets)),
        plan_(std::move(plan)),
        first_(text_field(details, "first")),
        then_(text_field(details, "then")),
        offset_(field(details, "offset").is_number() ? details["offset"].get<double>() : 0),
        grace_(integer_field(details, "grace_ns")),
        file_(fmt::format("{}/{}", kFolder, context.lease().text())),
        context_(context),
        starting_(faked_plan(text_field(details, "library")), context) {}

  Step arm() override {
    if (!begun_) {
      if (auto begun = begin(); !begun.ok()) return Step::failed(std::move(begun).error());
    }
    if (Step waiting = wait_for_end(ending_); waiting.state != Step::State::kDone) return waiting;
    if (!std::exchange(started_, true)) {
      Step started = starting_.begin(targets_);
      if (started.state == Step::State::kFailed) return started;
    }
    Step back = starting_.await(targets_);
    if (back.state != Step::State::kDone) return back;
    arrived_ = true;
    const auto fresh = fresh_members();
    if (!fresh.ok()) return Step::failed(fresh.error());
    if (Step mapped = await_library(*fresh); mapped.state != Step::State::kDone) return mapped;
    if (auto noted = note_faked(*fresh); !noted.ok()) return Step::failed(std::move(noted).error());
    if (then_ != first_) {
      if (auto written = write_clock(then_); !written.ok())
        return Step::failed(std::move(written).error());
    }
    return Step::done(fmt::format("{} with the clock of {}: {}", back.text, file_, then_));
  }

  Step effective() override {
    if (!probe_) {
      ProgramRequest request{.purpose = ProgramRequest::Purpose::kCommand,
                             .argv = {"date", "+%s"},
                             .directory = "/",
                             .limit = kProbeLimit,
                             .account = {}};
      request.environment = environment(library_);
      probe_ = context_.programs().start(request);
    }
    const ProgramOutcome outcome = context_.programs().outcome(*probe_);
    if (!outcome.exit_status && !outcome.error)
      return Step::wait_for({context_.programs().fd()}, kLook);
    probe_.reset();
    const double read = std::strtod(outcome.output.c_str(), nullptr);
    const double ahead = read - static_cast<double>(::time(nullptr));
    if (outcome.exit_status != 0 || std::abs(ahead - offset_) > kProbeError) {
      if (++probes_ < 3) return Step::wait(kLook);
      return Step::failed(base::Error{
          .code = base::ErrorCode::kUnsupported,
          .message =
              fmt::format("a program that is started as the member was reads a clock that is "
                          "{}, not {}",
                          clock_text(ahead), clock_text(offset_)),
          .hint = "does this version of libfaketime know FAKETIME_TIMESTAMP_FILE?"});
    }
    return Step::done(
        fmt::format("libfaketime is mapped into {}; a program that is started the same way reads a "
                    "clock that is {}",
                    describe_targets(faked_), clock_text(ahead)),
        Json{{"ahead_s", ahead}, {"asked_s", offset_}}.dump());
  }

  Step hold() override {
    std::vector<int> alive;
    for (const base::PidFd& process : running_) {
      if (!process.ended()) alive.push_back(process.get());
    }
    if (alive.size() == running_.size()) {
      if (alive.empty()) return Step::done({});
      return Step::wait_for(std::move(alive));
    }
    running_.clear();
    Step notice = Step::wait(kLook);
    notice.text = "a member with another clock ended; what its supervisor starts has the true one";
    return notice;
  }

  Step revert() override {
    if (!begun_) return Step::done("nothing was ended");
    if (auto opened = recalled_.open_into(ending_); !opened.ok())
      return Step::failed(std::move(opened).error());
    // The dead holder may have died before it could send it.
    if (std::exchange(recalled_begun_, false)) signal_all(ending_, SIGTERM);
    if (Step waiting = wait_for_end(ending_); waiting.state != Step::State::kDone) return waiting;
    if (Step coming = await_started(); coming.state != Step::State::kDone) return coming;
    if (!restoring_) {
      // Also those that a dead holder had asked for and not seen.
      const auto fresh = fresh_members();
      if (!fresh.ok()) return Step::failed(fresh.error());
      std::vector<Target> faked;
      for (const Target& target : *fresh) {
        if (is_faked(target.identity.pid, file_)) {
          faked.push_back(target);
        } else {
          // Its `start` may have run with the library before it became this program.
          unfaked_.push_back(target);
        }
      }
      if (faked.size() > faked_.size()) {
        if (auto noted = note_faked(faked); !noted.ok())
          return Step::failed(std::move(noted).error());
      }
      // The true time at once, whatever they do until they end.
      if (auto written = write_clock("+0"); !written.ok() && std::filesystem::exists(file_))
        return Step::failed(std::move(written).error());
      // Who cannot be looked at is not gone, and would go on beside what is started next.
      leaving_.clear();
      for (const Target& target : faked_) {
        auto process = open_if_there(target.identity);
        if (!process.ok()) return Step::failed(std::move(process).error());
        if (*process) leaving_.push_back(std::move(**process));
      }
      Revival::Plan plan = plan_;
      plan.before.insert(plan.before.end(), faked_.begin(), faked_.end());
      restoring_ = std::make_unique<Revival>(std::move(plan), context_);
      signal_all(leaving_, SIGTERM);
      sent_at_ = base::BootClock::now();
      killed_ = false;
    }
    if (Step waiting = wait_for_end(leaving_); waiting.state != Step::State::kDone) return waiting;
    Step step = restoring_->begin(targets_);
    if (step.state != Step::State::kDone) return step;
    remove_files();
    return Step::done(faked_.empty()
                          ? step.text
                          : fmt::format("{} ended; {}", describe_targets(faked_), step.text));
  }

  Step verify() override {
    if (!begun_ || !restoring_) return Step::done("nothing was ended");
    Step back = restoring_->await(targets_);
    if (back.state != Step::State::kDone) return back;
    remove_files();
    return back;
  }

  void recall(const Json& found) override {
    if (text_field(found, "file") == file_ && !begun_) {
      begun_ = recalled_begun_ = true;
      for (const Target& target : targets_) recalled_.add(target.identity);
      sent_at_ = base::BootClock::now();
    }
    for (const Json& item : field(found, "faked")) faked_.push_back(target_from_json(item));
  }

 private:
  std::map<std::string, std::string> environment(const std::string& library) const {
    return {{"LD_PRELOAD", library},
            {"FAKETIME_TIMESTAMP_FILE", file_},
            {"FAKETIME_CACHE_DURATION", "1"},
            {"FAKETIME_DONT_FAKE_MONOTONIC", "1"},
            {"NO_FAKE_STAT", "1"}};
  }

  Revival::Plan faked_plan(const std::string& library) {
    library_ = library;
    Revival::Plan plan = plan_;
    plan.environment = environment(library);
    return plan;
  }

  base::Status begin() {
    SQUALL_ASSIGN(ending_, open_targets(targets_));
    Json list = Json::array();
    for (const Target& target : targets_) list.push_back(to_json(target));
    SQUALL_TRY(context_.note({{"restarting", list}, {"file", file_}}));
    begun_ = true;
    SQUALL_TRY(base::make_directories(std::string(kFolder), 0755));
    SQUALL_TRY(write_clock(first_));
    sent_at_ = base::BootClock::now();
    signal_all(ending_, SIGTERM);
    return {};
  }

  // Replaced as a whole: a member reads it at any moment. Under a name that a replay knows, too.
  base::Status write_clock(const std::string& text) const {
    const base::UniqueFd file{
        ::open(beside().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)};
    if (!file) return base::system_error("create " + beside(), errno);
    if (::fchmod(file.get(), 0644) != 0) return base::system_error("chmod " + beside(), errno);
    SQUALL_TRY(base::write_all(file.get(), text + "\n"));
    if (::rename(beside().c_str(), file_.c_str()) != 0)
      return base::system_error("rename " + beside(), errno);
    return {};
  }
  std::string beside() const { return file_ + ".new"; }

  // What arming asked for and did not see would come up beside what is started next.
  Step await_started() {
    if (!starting_.has_asked() || arrived_) return Step::done({});
    Step back = starting_.await(targets_);
    const bool too_late = back.state == Step::State::kFailed &&
                          back.error.code == base::ErrorCode::kRevertNotVerified;
    arrived_ = back.state == Step::State::kDone || too_late;
    return arrived_ ? Step::done({}) : back;
  }

  static std::vector<base::PidFd> open_all(const std::vector<Target>& targets) {
    std::vector<base::PidFd> processes;
    for (const Target& target : targets) {
      if (auto process = base::PidFd::open(target.identity); process.ok())
        processes.push_back(std::move(*process));
    }
    return processes;
  }

  static void signal_all(const std::vector<base::PidFd>& processes, int number) {
    for (const base::PidFd& process : processes) {
      if (auto sent = process.signal(number); !sent.ok()) continue;  // it has ended
    }
  }

  Step wait_for_end(const std::vector<base::PidFd>& processes) {
    std::vector<int> alive;
    for (const base::PidFd& process : processes) {
      if (!process.ended()) alive.push_back(process.get());
    }
    if (alive.empty()) return Step::done({});
    const base::Instant now = base::BootClock::now();
    if (now - sent_at_ >= grace_ && !killed_) {
      killed_ = true;
      signal_all(processes, SIGKILL);
    }
    return Step::wait_for(std::move(alive), killed_ ? base::Duration{} : sent_at_ + grace_ - now);
  }

  base::Result<std::vector<Target>> fresh_members() {
    SQUALL_ASSIGN(const auto members, running_members(context_.host(), plan_.service));
    std::vector<Target> fresh;
    for (const Target& target : members) {
      const bool old =
          std::any_of(plan_.before.begin(), plan_.before.end(),
                      [&](const Target& before) { return before.identity == target.identity; });
      if (old) continue;
      auto ours = context_.check_process(target.identity);
      // Like a member, but somebody else's: neither of our starting nor ours to end.
      const auto code = ours.ok() ? base::ErrorCode{} : ours.error().code;
      const bool theirs = code == base::ErrorCode::kBlocked ||
                          code == base::ErrorCode::kPermission ||
                          code == base::ErrorCode::kNotFound;
      if (!ours.ok() && theirs) continue;
      SQUALL_TRY(std::move(ours));
      fresh.push_back(target);
    }
    return fresh;
  }

  Step await_library(const std::vector<Target>& fresh) {
    const base::Instant now = base::BootClock::now();
    if (!mapping_since_) mapping_since_ = now;
    for (const Target& target : fresh) {
      if (maps_library(target.identity.pid)) continue;
      if (now - *mapping_since_ < kMapLimit) return Step::wait(kLook);
      return Step::failed(base::Error{
          .code = base::ErrorCode::kUnsupported,
          .message = fmt::format("{} was started without libfaketime", target.description),
          .hint =
              "its `start` must hand its environment on to the process (systemctl and docker do "
              "not), and the program must be neither static nor setuid"});
    }
    return Step::done({});
  }

  base::Status note_faked(const std::vector<Target>& members) {
    Json list = Json::array();
    for (const Target& target : members) list.push_back(to_json(target));
    SQUALL_TRY(context_.note({{"faked", list}}));
    faked_ = members;
    running_ = open_all(members);
    return {};
  }

  // Ours, and what libfaketime leaves of a process that did not end by itself.
  void remove_files() const {
    ::unlink(beside().c_str());
    ::unlink(file_.c_str());
    ::rmdir(std::string(kFolder).c_str());  // stays while another fault has a file there
    std::vector<Target> all = faked_;
    all.insert(all.end(), unfaked_.begin(), unfaked_.end());
    for (const Target& target : all) {
      ::unlink(fmt::format("/dev/shm/faketime_shm_{}", target.identity.pid).c_str());
      ::unlink(fmt::format("/dev/shm/sem.faketime_sem_{}", target.identity.pid).c_str());
    }
  }

  std::vector<Target> targets_;
  Revival::Plan plan_;
  std::string first_;
  std::string then_;
  double offset_;
  base::Duration grace_;
  std::string file_;
  FaultContext& context_;
  std::string library_;
  Revival starting_;
  std::unique_ptr<Revival> restoring_;
  RecalledProcesses recalled_;  // the members that a dead holder was to end
  bool recalled_begun_ = false;
  std::vector<base::PidFd> ending_;   // the members that were bound
  std::vector<base::PidFd> leaving_;  // those with another clock, at the revert
  std::vector<base::PidFd> running_;  // the same, meanwhile
  std::vector<Target> faked_;
  std::vector<Target> unfaked_;  // members that are new and have the true clock
  base::Instant sent_at_;
  bool begun_ = false;
  bool started_ = false;
  bool arrived_ = false;  // who was started is there, or does not come
  bool killed_ = false;
  std::optional<base::Instant> mapping_since_;
  std::optional<std::uint64_t> probe_;
  int probes_ = 0;
};

}  // namespace

double offset_of_clock(const model::Parameters& parameters) {
  const double seconds = base::to_seconds(parameters.duration("offset"));
  return parameters.text("direction") == "back" ? -seconds : seconds;
}

std::string clock_text(double offset) {
  if (offset == 0) return "right";
  return fmt::format("{} {}", base::humanize(base::Duration{std::llround(std::abs(offset) * 1e9)}),
                     offset > 0 ? "ahead" : "behind");
}

std::optional<std::string> cannot_be_preloaded(const std::string& program) {
  const base::UniqueFd file{::open(program.c_str(), O_RDONLY | O_CLOEXEC)};
  std::vector<char> start(kElfStart);
  const ssize_t got = file ? ::pread(file.get(), start.data(), start.size(), 0) : -1;
  if (got < 0) return "its program cannot be read";
  start.resize(static_cast<std::size_t>(got));
  Elf64_Ehdr header{};
  if (start.size() < sizeof header) return "its program is no ELF file";
  std::memcpy(&header, start.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
    return "its program is no 64-bit ELF file";
  bool interpreter = false;
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part{};
    const std::size_t at = header.e_phoff + i * sizeof part;
    if (header.e_phentsize != sizeof part || at > start.size() || start.size() - at < sizeof part)
      return "its program's headers cannot be read";
    std::memcpy(&part, start.data() + at, sizeof part);
    interpreter = interpreter || part.p_type == PT_INTERP;
    // The note of Go's linker: name of 4 bytes, "Go".
    constexpr std::size_t kNote = sizeof(Elf64_Nhdr);
    if (part.p_type == PT_NOTE && part.p_offset < start.size() &&
        start.size() - part.p_offset >= kNote + 4 &&
        std::memcmp(start.data() + part.p_offset + kNote, "Go\0", 4) == 0)
      return "its program is Go's, which does not ask the C library for the time";
  }
  if (!interpreter) return "its program is linked statically, so no library can be put before it";
  return std::nullopt;
}

void describe_clock(const model::FaultSpecification& fault, const std::string& what,
                    model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  planned.changes = {
      {.change =
           fmt::format("{} is RESTARTED: ended by SIGTERM (SIGKILL after {}) and started "
                       "with the map's `start` under libfaketime; {}",
                       planned.target, base::format_duration(parameters.duration("grace")), what),
       .revert = "it is RESTARTED once more, without libfaketime",
       .lifetime = LifetimeClass::kJournaled}};
}

base::Result<model::FaultBinding> bind_clock(const BindRequest& request, const std::string& first,
                                             const std::string& then, double offset) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  if (!check_startable(members).ok()) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("only a process that Squall starts can have another clock, and the "
                               "map does not say how {} is started",
                               members.service->name),
        .hint = "give the service a `start:` in the map"};
  }
  SQUALL_ASSIGN(const std::string library, find_library());
  for (const host::Member& member : members.chosen) {
    const auto why = cannot_be_preloaded(fmt::format("/proc/{}/exe", member.process.identity.pid));
    if (!why) continue;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} cannot have another clock: {}", describe_member(member), *why),
        .hint =
            "choose a member whose program is linked dynamically with the C "
            "library, or run it in a virtual machine with a clock of its own"};
  }
  const Json extra = {
      {"library", library},
      {"first", first},
      {"then", then},
      {"offset", offset},
      {"grace_ns", parameters.duration("grace").count()},
      {"restore", "start"},
      {"limit_ns", parameters.duration("limit").count()},
      {"resources",
       Json::array({fmt::format("service/{}/{}", request.map.directory, members.service->name)})}};
  return process_binding(request, members, std::string(kFakeTime), LifetimeClass::kJournaled,
                         extra);
}

base::Result<std::unique_ptr<Fault>> create_clock(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  const Json& details = binding.details.json();
  SQUALL_ASSIGN(Revival::Plan plan, Revival::plan_of(binding));
  if (!text_field(details, "library").starts_with('/') || text_field(details, "first").empty() ||
      text_field(details, "then").empty() || integer_field(details, "grace_ns") < 0)
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the binding names no clock"};
  return std::unique_ptr<Fault>{
      std::make_unique<FakeClock>(targets_of(binding), std::move(plan), details, context)};
}

base::Result<std::string> rehearse_clock(const model::FaultBinding& binding,
                                         FaultContext& context) {
  const Json& details = binding.details.json();
  ProgramRequest request{.purpose = ProgramRequest::Purpose::kCommand,
                         .argv = {"date", "+%s"},
                         .directory = "/",
                         .limit = kProbeLimit,
                         .account = {}};
  std::string library = text_field(details, "library");
  if (library.empty()) {
    SQUALL_ASSIGN(library, find_library());
  }
  request.environment = {{"LD_PRELOAD", library}, {"FAKETIME", "+86400"}};
  const std::uint64_t id = context.programs().start(request);
  const base::Instant end = base::BootClock::now() + kProbeLimit;
  ProgramOutcome outcome;
  while (!outcome.exit_status && !outcome.error && base::BootClock::now() < end) {
    ::usleep(1000);
    outcome = context.programs().outcome(id);
  }
  const double ahead =
      std::strtod(outcome.output.c_str(), nullptr) - static_cast<double>(::time(nullptr));
  if (outcome.exit_status == 0 && std::abs(ahead - 86400) <= kProbeError) {
    return std::string(
        "a program of our own read a clock that is a day ahead; no member was "
        "restarted for it");
  }
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message = "libfaketime does not change the time that `date` reads",
      .hint = "run by hand: LD_PRELOAD=" + text_field(details, "library") + " FAKETIME=+1d date"};
}

}  // namespace squall::inject
