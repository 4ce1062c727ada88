#include "inject/faults/syscall/interception_fault.h"

#include <fmt/format.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/workers/proc_view.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;
using model::LifetimeClass;

// As long as a silent engine is waited for: a worker that hangs holds up its targets.
constexpr Duration kSilenceLimit = std::chrono::seconds(3);
constexpr Duration kLook = std::chrono::milliseconds(500);
constexpr Duration kShortLook = std::chrono::milliseconds(5);
constexpr Duration kJoinLimit = std::chrono::seconds(5);
constexpr Duration kEndLimit = std::chrono::milliseconds(100);
constexpr Duration kGoneLimit = std::chrono::seconds(2);
constexpr Duration kRehearsedDelay = std::chrono::milliseconds(1);
constexpr int kLargestError = 133;

struct Interceptor {
  std::string name;  // of the worker
  std::string what;  // for texts
  Json configuration;
  WorkerWatch watch;
  WorkerReport report = {};
  bool tentative = false;  // for somebody who joins; what is wrong with it concerns him only
  bool released = false;   // its targets have ended: it may end
};

// How many marks the kernel shows for a descriptor of another process; absent when we may not look.
std::optional<std::size_t> marks_of(pid_t process, std::uint64_t descriptor) {
  const auto text = base::read_pseudo_file(fmt::format("/proc/{}/fdinfo/{}", process, descriptor));
  if (!text.ok()) return std::nullopt;
  std::size_t marks = 0;
  for (std::size_t at = text->find("\nfanotify ino:"); at != std::string::npos;
       at = text->find("\nfanotify ino:", at + 1))
    ++marks;
  return marks;
}

pid_t tracer_of(const base::ProcessIdentity& process) {
  const auto view = ProcView::open();
  const auto facts = view.ok() ? view->thread(process.pid) : std::nullopt;
  const auto now = view.ok() ? view->ancestry(process.pid) : std::nullopt;
  return facts && now && now->identity == process ? facts->tracer : 0;
}

// A path means the same for us and for the traced process only in the same mounts.
base::Status check_our_mounts(pid_t process) {
  struct stat ours {};
  struct stat theirs {};
  const std::string link = fmt::format("/proc/{}/ns/mnt", process);
  if (::stat("/proc/self/ns/mnt", &ours) != 0 || ::stat(link.c_str(), &theirs) != 0)
    return base::system_error("look at " + link, errno);
  if (theirs.st_ino == ours.st_ino) return {};
  return base::Error{.code = base::ErrorCode::kBlocked,
                     .message =
                         "it has mounts of its own: which of its open files lie in `path` "
                         "cannot be told from here"};
}

class InterceptionFault final : public Fault {
 public:
  // Without `plan` nobody can join (a rehearsal).
  InterceptionFault(std::vector<base::ProcessIdentity> targets, const InterceptionWorkers& workers,
                    std::optional<Successors::Plan> plan, FaultContext& context)
      : targets_(std::move(targets)), tracer_(workers.tracer), context_(context) {
    if (plan) successors_.emplace(std::move(*plan), "ended while the fault was in force", context);
    if (workers.gate) {
      interceptors_.push_back({.name = "file_gate",
                               .what = "the file gate",
                               .configuration = to_json(*workers.gate),
                               .watch = {context.programs(), "the file gate", kSilenceLimit}});
    }
    if (workers.tracer) {
      interceptors_.push_back({.name = "tracer",
                               .what = "the tracer",
                               .configuration = to_json(*workers.tracer),
                               .watch = {context.programs(), "the tracer", kSilenceLimit}});
    }
  }

  Step arm() override {
    if (!interceptors_.front().watch.started()) {
      if (successors_) {
        if (auto opened = successors_->open(); !opened.ok())
          return Step::failed(std::move(opened).error());
      }
      Json names = Json::array();
      for (const Interceptor& one : interceptors_) names.push_back(one.name);
      if (auto noted = context_.note({{"starting", names}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      for (Interceptor& one : interceptors_) {
        one.configuration["lifetime_ns"] = context_.duration().count();
        one.watch.start(one.name, one.configuration);
      }
    }
    if (auto error = look()) return Step::failed(std::move(*error));
    Json identities = Json::array();
    for (const Interceptor& one : interceptors_) {
      if (one.report.state.empty() || !one.report.process)
        return Step::wait_for({one.watch.fd()}, kLook);
      identities.push_back(to_json(*one.report.process));
    }
    if (auto noted = context_.note({{"workers", identities}}); !noted.ok())
      return Step::failed(std::move(noted).error());
    return armed();
  }

  Step effective() override {
    if (auto error = look()) return Step::broken(std::move(*error));
    for (const Interceptor& one : interceptors_) {
      if (one.report.count("hit") > 0) return proof("the first was hit");
    }
    return watch_members();
  }

  Step hold() override {
    if (auto error = look()) return Step::broken(std::move(*error));
    return watch_members();
  }

  Step revert() override {
    if (reverted_) return Step::done(reverted_text_);
    if (interceptors_.front().watch.started()) {
      if (!end_asked_) {
        for (Interceptor& one : interceptors_) one.watch.tell("end");
        end_asked_ = base::BootClock::now();
      }
      look();
      // They let everything go at once and tell their last counts; one that hangs is killed.
      for (const Interceptor& one : interceptors_) {
        const bool over = one.report.ended || one.report.state == "failed";
        if (!over && base::BootClock::now() - *end_asked_ < kEndLimit)
          return Step::wait_for({one.watch.fd()}, kShortLook);
      }
      Step step = proof("the workers are ended");
      for (Interceptor& one : interceptors_) one.watch.end();
      reverted_ = true;
      reverted_text_ = step.text;
      return step;
    }
    for (const base::ProcessIdentity& worker : recalled_) {  // a replay: they die with the starter
      const auto process = base::PidFd::open(worker);
      if (process.ok() && !process->signal(SIGKILL).ok()) continue;
    }
    return Step::done(recalled_.empty() ? "there was no worker of ours"
                                        : "the workers of the dead holder are ended");
  }

  Step verify() override {
    const base::Instant now = base::BootClock::now();
    if (!gone_wait_since_) gone_wait_since_ = now;
    std::vector<std::string> left;
    for (Interceptor& one : interceptors_) {
      if (one.watch.started() && !one.watch.look().ended) left.push_back(one.what);
    }
    for (const base::ProcessIdentity& worker : recalled_) {
      const auto process = base::PidFd::open(worker);
      if (process.ok() && !process->ended()) left.push_back(fmt::format("process {}", worker.pid));
    }
    for (const base::ProcessIdentity& target : targets_) {
      if (const pid_t tracer = tracer_of(target); tracer != 0 && is_ours(tracer))
        left.push_back(fmt::format("the tracer of process {}", target.pid));
    }
    if (left.empty()) {
      return Step::done("no worker is left, and none of ours traces a target",
                        Json{{"workers", 0}, {"traced", 0}}.dump());
    }
    if (now - *gone_wait_since_ < kGoneLimit) return Step::wait(kShortLook);
    return Step::failed(base::Error{.code = base::ErrorCode::kRevertNotVerified,
                                    .message = base::enumerate(left) + " does not end",
                                    .hint = "kill it: the kernel lets go what it holds"});
  }

  void recall(const Json& found) override {
    for (const Json& item : field(found, "workers")) recalled_.push_back(identity_of(item));
  }

 private:
  Step watch_members() {
    Step workers = Step::wait_for({interceptors_.front().watch.fd()}, kLook);
    if (!successors_) return workers;
    return either(std::move(workers),
                  successors_->hold([this](const Target& fresh) { return join(fresh); }));
  }

  // The gate is told of it; a tracer, which cannot take hold of anybody any more, gets a second one
  // beside it.
  Step join(const Target& fresh) {
    if (joining_ != fresh.identity) {
      if (auto begun = begin_join(fresh); !begun.ok())
        return Step::failed(std::move(begun).error());
      joining_ = fresh.identity;
      joining_since_ = base::BootClock::now();
    }
    std::vector<std::string> held;
    for (Interceptor& one : interceptors_) {
      const bool gate = one.name == "file_gate";
      if (!gate && !one.tentative) continue;
      if (!gate && one.report.trouble) return Step::failed(*one.report.trouble);
      const bool ready = gate ? one.report.count("targets") >= members_
                              : one.report.process && !one.report.state.empty();
      if (!ready && base::BootClock::now() - joining_since_ > kJoinLimit) {
        return Step::failed(base::Error{.code = base::ErrorCode::kTimeout,
                                        .message = one.what + " does not take it"});
      }
      if (!ready) return Step::wait_for({one.watch.fd()}, kShortLook);
      if (!gate && tracer_of(fresh.identity) != one.report.process->pid) {
        return Step::failed(base::Error{.code = base::ErrorCode::kUnavailable,
                                        .message = "the kernel says that it is not traced"});
      }
      held.push_back(gate ? "meets the file gate"
                          : fmt::format("is traced by process {}", one.report.process->pid));
      if (gate) continue;
      if (auto noted = context_.note({{"workers", Json::array({to_json(*one.report.process)})}});
          !noted.ok())
        return Step::failed(std::move(noted).error());
      one.tentative = false;
    }
    targets_.push_back(fresh.identity);
    return Step::done(base::enumerate(held));
  }

  base::Status begin_join(const Target& fresh) {
    if (tracer_) {
      const bool fails = tracer_->interception.error != 0 && !tracer_->afterwards;
      SQUALL_TRY(check_traceable(fresh.identity.pid, fails));
      if (!tracer_->path.empty()) SQUALL_TRY(check_our_mounts(fresh.identity.pid));
    }
    ++members_;
    for (Interceptor& one : interceptors_) {
      if (one.name == "file_gate")
        one.watch.tell(std::string(kJoinWord) + to_json(fresh.identity).dump());
      const bool idle = one.tentative || one.report.count("threads") == 0;
      if (one.name != "tracer" || one.released || !idle) continue;
      one.released = true;
      one.tentative = false;
      one.watch.end();
    }
    if (!tracer_) return {};
    SQUALL_TRY(context_.note({{"starting", Json::array({"tracer"})}}));
    TracerConfiguration own = *tracer_;
    own.processes = {fresh.identity};
    own.seed += members_;
    interceptors_.push_back({.name = "tracer",
                             .what = "the tracer of " + fresh.description,
                             .configuration = to_json(own),
                             .watch = {context_.programs(), "the tracer", kSilenceLimit},
                             .tentative = true});
    Interceptor& added = interceptors_.back();
    added.configuration["lifetime_ns"] = context_.duration().count();
    added.watch.start(added.name, added.configuration);
    return {};
  }

  // Takes new reports; what is wrong, if anything.
  std::optional<base::Error> look() {
    std::optional<base::Error> trouble;
    for (Interceptor& one : interceptors_) {
      one.report = one.watch.look();
      const bool concerns_all = !one.released && !one.tentative;
      if (one.report.trouble && !trouble && concerns_all) trouble = one.report.trouble;
    }
    return trouble;
  }

  bool is_ours(pid_t process) const {
    for (const Interceptor& one : interceptors_) {
      if (one.report.process && one.report.process->pid == process) return true;
    }
    for (const base::ProcessIdentity& worker : recalled_) {
      if (worker.pid == process) return true;
    }
    return false;
  }

  // What the kernel says of the workers, beside what they say themselves.
  Step armed() {
    std::vector<std::string> texts;
    Json json = Json::object();
    for (const Interceptor& one : interceptors_) {
      const pid_t worker = one.report.process->pid;
      if (one.name == "tracer") {
        for (const base::ProcessIdentity& target : targets_) {
          if (tracer_of(target) == worker) continue;
          return Step::failed(base::Error{
              .code = base::ErrorCode::kUnavailable,
              .message = fmt::format("process {} is not traced, says the kernel", target.pid),
              .hint = "it may have ended"});
        }
        texts.push_back(fmt::format("process {} traces {}", worker,
                                    base::counted(one.report.count("threads"), "thread")));
        json["tracer"] = worker;
        json["threads"] = one.report.count("threads");
        json["open_files"] = one.report.count("open_files");
        continue;
      }
      const auto marks = marks_of(worker, one.report.count("group"));
      if (marks && *marks == 0) {
        return Step::failed(base::Error{.code = base::ErrorCode::kUnavailable,
                                        .message = "the kernel shows no mark of the file gate",
                                        .hint = "look whether the path was replaced"});
      }
      texts.push_back(
          fmt::format("process {} watches {}{}", worker,
                      base::counted(marks.value_or(one.report.count("marks")), "inode"),
                      marks ? "" : " (as it says; the kernel's list is not ours to read)"));
      json["file_gate"] = worker;
      json["marks"] = marks.value_or(0);
    }
    return Step::done(base::enumerate(texts), json.dump());
  }

  Step proof(const std::string& text) const {
    std::vector<std::string> parts;
    Json json = Json::object();
    for (const Interceptor& one : interceptors_) {
      const WorkerReport& report = one.report;
      const std::string key =
          json.contains(one.name) ? fmt::format("{}_{}", one.name, json.size()) : one.name;
      json[key] = report.json->is_object() ? *report.json : Json::object();
      const std::string noun = one.name == "tracer" ? "system call" : "access";
      const std::string nouns = one.name == "tracer" ? "system calls" : "accesses";
      if (const auto delayed = report.count("delayed"); delayed > 0) {
        parts.push_back(fmt::format(
            "{} delayed, half of them by {} or more, late by {} (p50), {} (p99)",
            base::counted(delayed, noun, nouns), base::humanize(report.duration("delay_p50_ns")),
            base::humanize(report.duration("late_p50_ns")),
            base::humanize(report.duration("late_p99_ns"))));
      }
      if (const auto failed = report.count("failed"); failed > 0)
        parts.push_back(fmt::format("{} failed", base::counted(failed, noun, nouns)));
      if (const auto spared = report.count("spared"); spared > 0)
        parts.push_back(fmt::format("{} spared because of a filter", spared));
      if (const auto many = report.count("too_many"); many > 0)
        parts.push_back(fmt::format("{} let through because too many waited", many));
    }
    return Step::done(
        fmt::format("{}{}{}", text, parts.empty() ? "" : ": ", fmt::join(parts, "; ")),
        json.dump());
  }

  std::vector<base::ProcessIdentity> targets_;
  std::optional<TracerConfiguration> tracer_;
  FaultContext& context_;
  std::vector<Interceptor> interceptors_;
  std::optional<Successors> successors_;
  std::size_t members_ = targets_.size();  // and those that joined
  base::ProcessIdentity joining_;
  base::Instant joining_since_;
  std::vector<base::ProcessIdentity> recalled_;
  std::optional<base::Instant> end_asked_;
  bool reverted_ = false;
  std::string reverted_text_;
  std::optional<base::Instant> gone_wait_since_;
};

base::Result<InterceptionWorkers> workers_of(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  InterceptionWorkers workers;
  if (details.contains("file_gate")) {
    SQUALL_ASSIGN(workers.gate, file_gate_configuration_from_json(field(details, "file_gate")));
  }
  if (details.contains("tracer")) {
    SQUALL_ASSIGN(workers.tracer, tracer_configuration_from_json(field(details, "tracer")));
  }
  if (workers.gate || workers.tracer) return workers;
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = "the binding names no worker that stands in the way"};
}

// The scratch process is forked from us: where we are filtered (a service unit, a container), so is
// it, and no call of it can be made to fail. Then its calls are delayed.
bool are_filtered() {
  const auto view = ProcView::open();
  const auto facts = view.ok() ? view->thread(::getpid()) : std::nullopt;
  return facts && facts->seccomp != 0;
}

Interception rehearsed(Interception interception) {
  interception.share = 1;
  interception.jitter = {};
  if (interception.delay > Duration::zero()) interception.delay = kRehearsedDelay;
  return interception;
}

base::Result<std::string> rehearse_tracer(const TracerConfiguration& planned,
                                          FaultContext& context) {
  if (context.caller() != 0) {
    return std::string(
        "the tracer will have no more rights than the traced; it was not tried, "
        "because a scratch process is root's");
  }
  // The only call that it makes; where there is none of this name, it is ppoll by another.
  int call = seccomp_syscall_resolve_name("pause");
  if (call < 0) call = seccomp_syscall_resolve_name("ppoll");
  Interception interception = rehearsed(planned.interception);
  if (are_filtered()) interception = {.share = 1, .delay = kRehearsedDelay};
  return rehearse_on_scratch({}, context, [&](const model::FaultBinding& scratch) {
    const base::ProcessIdentity& process = scratch.targets.front().process;
    InterceptionWorkers workers;
    TracerConfiguration& tracer = workers.tracer.emplace();
    tracer.interception = interception;
    tracer.seed = 1;
    tracer.processes = {process};
    tracer.children = false;
    tracer.calls = {call};
    InterceptionFault fault{{process}, workers, std::nullopt, context};
    return rehearse_life(fault, "stood in the way of a scratch process's system call");
  });
}

// A file that a process of ours reads again and again.
class ScratchFile {
 public:
  ScratchFile(std::string folder, Programs& programs)
      : folder_(std::move(folder)), programs_(programs) {}
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile() {
    reader_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  base::Status write() const { return base::write_file_atomically(path(), "scratch"); }
  const std::string& folder() const { return folder_; }
  static void read(void* self) { static_cast<ScratchFile*>(self)->read(); }

 private:
  std::string path() const { return folder_ + "/file"; }
  void read() {
    if (reader_ && !reader_->look().ended) return;
    reader_.reset();
    reader_.emplace(programs_, "the reader", kSilenceLimit);
    reader_->start("file_reader", Json{{"file", path()}});
  }
  std::string folder_;
  Programs& programs_;
  std::optional<WorkerWatch> reader_;
};

base::Result<std::string> rehearse_gate(const FileGateConfiguration& planned,
                                        FaultContext& context) {
  SQUALL_TRY(check_gate(planned));  // the very accesses of the very path, at a mark without effect
  SQUALL_ASSIGN(const std::string folder, base::make_temporary_directory("squall-rehearsal"));
  ScratchFile file{folder, context.programs()};
  SQUALL_TRY(file.write());
  InterceptionWorkers workers;
  FileGateConfiguration& gate = workers.gate.emplace();
  gate.interception = rehearsed(planned.interception);
  gate.seed = 1;
  gate.processes = {context.programs().process()};
  if (context.caller() != 0) {
    return std::string(
        "the kernel takes such marks; a scratch process is root's, whose accesses "
        "this gate would let pass");
  }
  gate.path = folder;
  gate.tree = false;
  gate.opens = true;
  InterceptionFault fault{{}, workers, std::nullopt, context};
  return rehearse_life(fault, "held the accesses to a scratch file", ScratchFile::read, &file);
}

}  // namespace

model::FaultBinding bind_interception(const BindRequest& request, const ChosenMembers& members,
                                      const InterceptionWorkers& workers) {
  Json extra = {{"joins", joins(request.fault.parameters)}};
  if (workers.gate) extra["file_gate"] = to_json(*workers.gate);
  if (workers.tracer) extra["tracer"] = to_json(*workers.tracer);
  const std::string_view mechanism = workers.gate && workers.tracer ? kGateAndTracer
                                     : workers.gate                 ? kGateMechanism
                                                                    : kTracerMechanism;
  return process_binding(request, members, std::string(mechanism), LifetimeClass::kKernelHeld,
                         extra);
}

base::Result<std::unique_ptr<Fault>> create_interception(const model::FaultBinding& binding,
                                                         FaultContext& context) {
  SQUALL_ASSIGN(const InterceptionWorkers workers, workers_of(binding));
  std::vector<base::ProcessIdentity> targets;
  for (const model::BoundTarget& target : binding.targets) targets.push_back(target.process);
  SQUALL_ASSIGN(Successors::Plan plan, Successors::plan_of(binding));
  return std::unique_ptr<Fault>{
      std::make_unique<InterceptionFault>(std::move(targets), workers, std::move(plan), context)};
}

// What the workers are told, not what the targets say.
base::Result<Reach> reach_interception(const model::FaultBinding& binding) {
  SQUALL_ASSIGN(const InterceptionWorkers workers, workers_of(binding));
  SQUALL_ASSIGN(Reach reach, reach_processes(binding));
  const auto add = [&](const std::vector<base::ProcessIdentity>& processes) {
    reach.processes.insert(reach.processes.end(), processes.begin(), processes.end());
  };
  if (workers.gate) {
    add(workers.gate->processes);
    reach.files.push_back(workers.gate->path);
  }
  if (workers.tracer) {
    add(workers.tracer->processes);
    reach.traces = true;
  }
  return reach;
}

base::Result<std::string> rehearse_interception(const model::FaultBinding& binding,
                                                FaultContext& context) {
  SQUALL_ASSIGN(const InterceptionWorkers workers, workers_of(binding));
  std::vector<std::string> texts;
  if (workers.gate) {
    SQUALL_ASSIGN(std::string text, rehearse_gate(*workers.gate, context));
    texts.push_back(std::move(text));
  }
  if (workers.tracer) {
    SQUALL_ASSIGN(std::string text, rehearse_tracer(*workers.tracer, context));
    texts.push_back(std::move(text));
  }
  return base::join(texts, "; ");
}

base::Status check_all_traceable(const ChosenMembers& members,
                                 const TracerConfiguration& configuration) {
  const bool fails = configuration.interception.error != 0 && !configuration.afterwards;
  SQUALL_ASSIGN(const auto table, read_process_table());
  for (const host::Member& member : members.chosen) {
    for (const ProcessEntry& entry : tree_of(table, member.process.identity)) {
      if (!configuration.children && entry.identity != member.process.identity) continue;
      SQUALL_TRY(check_traceable(entry.identity.pid, fails));
    }
  }
  return {};
}

int error_number(const std::string& name) {
  for (int number = 1; number <= kLargestError; ++number) {
    const char* known = ::strerrorname_np(number);
    if (known != nullptr && name == known) return number;
  }
  return 0;
}

}  // namespace squall::inject
