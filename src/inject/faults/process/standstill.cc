// How processes are made to stand still: by a cgroup's freezer, by a tracer, or by SIGSTOP.

#include "inject/faults/process/standstill.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <set>

#include "base/text.h"
#include "base/units.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/workers/held_workers.h"

namespace squall::inject {

namespace {

using base::Json;

std::string processes(std::size_t count) {
  return base::counted(count, "process", "processes");
}

// A stop takes effect within some milliseconds; no descriptor tells when.
constexpr base::Duration kLook = std::chrono::milliseconds(1);
constexpr base::Duration kStopLimit = std::chrono::seconds(10);

// One that ended since the table was read is nobody's any more.
base::Status permitted(const FaultContext& context, const base::ProcessIdentity& process) {
  auto checked = context.check_process(process);
  if (!checked.ok() && checked.error().code == base::ErrorCode::kNotFound) return {};
  return checked;
}

struct Stopped {
  base::PidFd process;
  bool main = false;  // a bound target, not one of its descendants
  bool told_dead = false;
};

class SignalStandstill final : public Standstill {
 public:
  SignalStandstill(std::vector<Target> targets, FaultContext& context)
      : targets_(std::move(targets)), context_(context) {}

  Step arm() override {
    for (const Target& target : targets_) {
      if (process_state(target.identity).value_or('T') != 'T') continue;
      return Step::failed(base::Error{
          .code = base::ErrorCode::kConflict,
          .message = fmt::format("{} is stopped already, by somebody else", target.description),
          .hint = fmt::format("look why; `kill -CONT {}` lets it run", target.identity.pid)});
    }
    since_ = base::BootClock::now();
    auto stopped = stop_new();
    if (!stopped.ok()) return Step::failed(std::move(stopped).error());
    return Step::done(fmt::format("sent SIGSTOP to {}: {} and what descends from it",
                                  processes(stopped_.size()), describe_targets(targets_)));
  }

  // Until all stand still, and a look at the trees that began afterwards shows nobody else: a
  // process may have had a child while it was being stopped, for a fork that has begun is not
  // broken off.
  Step effective() override {
    std::size_t running = 0;
    for (const Stopped& entry : stopped_) {
      const char state = process_state(entry.process.identity()).value_or('X');
      if (state != 'T' && state != 't' && state != 'Z' && state != 'X') ++running;
    }
    auto fresh = stop_new();
    if (!fresh.ok()) return Step::failed(std::move(fresh).error());
    const base::Instant now = base::BootClock::now();
    if (*fresh == 0 && running == 0) {
      return Step::done(fmt::format("{} in state T after {}: {} and what descends from it",
                                    processes(stopped_.size()), base::humanize(now - since_),
                                    describe_targets(targets_)),
                        states_proof());
    }
    if (now - since_ < kStopLimit) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kTimeout,
        .message = fmt::format("{} not stopped {} after SIGSTOP", processes(running),
                               base::humanize(kStopLimit)),
        .hint = "one hangs in the kernel (state D), or forks faster than it can be stopped"});
  }

  Step hold() override {
    std::vector<int> alive;
    std::vector<std::string> died;
    for (Stopped& entry : stopped_) {
      if (entry.main) continue;  // these are watched as members of the service
      if (!entry.process.ended())
        alive.push_back(entry.process.get());
      else if (!std::exchange(entry.told_dead, true))
        died.push_back(fmt::format("process {}", entry.process.identity().pid));
    }
    if (alive.empty() && died.empty()) return Step::done({});
    Step step = Step::wait_for(std::move(alive));
    if (!died.empty()) {
      step.text = base::enumerate(died) + " died while paused";
      step.again = kLook;
    }
    return step;
  }

  Step join(const Target& fresh) override {
    const bool known = std::any_of(targets_.begin(), targets_.end(), [&](const Target& target) {
      return target.identity == fresh.identity;
    });
    if (!known) {
      targets_.push_back(fresh);
      since_ = base::BootClock::now();
    }
    const std::size_t before = stopped_.size();
    Step step = effective();
    if (!known && step.state == Step::State::kDone && stopped_.size() == before) {
      return Step::failed(base::Error{.code = base::ErrorCode::kConflict,
                                      .message = "it was stopped already, by somebody else"});
    }
    if (step.state == Step::State::kDone) {
      step.text = fmt::format("is stopped, too, {} after it was found",
                              base::humanize(base::BootClock::now() - since_));
    }
    return step;
  }

  Step revert() override {
    continued_ = 0;
    died_ = 0;
    others_.clear();
    if (auto opened = recalled_.open_into(there_); !opened.ok())
      return Step::failed(std::move(opened).error());
    for (base::PidFd& process : std::exchange(there_, {})) add(std::move(process));
    // Children first: when a parent wakes up, its children run already.
    for (auto entry = stopped_.rbegin(); entry != stopped_.rend(); ++entry) {
      const auto state = look_at_state(entry->process.identity());
      if (!state.ok()) return Step::failed(state.error());
      if (*state == 'Z' || *state == 'X') {
        ++died_;
        continue;
      }
      if (*state != 'T' && *state != 't') others_.push_back(entry->process.identity().pid);
      // Also to one that runs: our SIGSTOP may still be on its way to it, and SIGCONT takes it
      // back.
      auto sent = entry->process.signal(SIGCONT);
      if (!sent.ok() && sent.error().code != base::ErrorCode::kNotFound)
        return Step::failed(std::move(sent).error());
      ++continued_;
    }
    return Step::done(summary());
  }

  Step verify() override {
    std::vector<std::string> still;
    for (const Stopped& entry : stopped_) {
      const auto state = look_at_state(entry.process.identity());
      if (!state.ok()) return Step::failed(state.error());
      if (*state == 'T') still.push_back(fmt::format("{}", entry.process.identity().pid));
    }
    if (still.empty()) return Step::done(summary() + "; none is in state T", states_proof());
    const base::Instant now = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = now;
    if (now - *verifying_since_ < std::chrono::milliseconds(200)) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = fmt::format("{} still stopped after SIGCONT: process {}", still.size(),
                               base::enumerate(still)),
        .hint = "somebody else stops it, too; find out who, then: kill -CONT " + still.front()});
  }

  void recall(const Json& found) override {
    for (const Json& item : field(found, "stopping")) {
      recalled_.add(identity_of(item));
      ++recalled_count_;
    }
  }

 private:
  // Journals and stops what runs in the trees and is not yet in hand; how many that were.
  base::Result<std::size_t> stop_new() {
    SQUALL_ASSIGN(const std::vector<ProcessEntry> table, read_process_table());
    std::vector<base::PidFd> fresh;
    Json list = Json::array();
    for (const Target& target : targets_) {
      for (const ProcessEntry& entry : tree_of(table, target.identity)) {
        if (known_.contains({entry.identity.pid, entry.identity.start_time})) continue;
        // Zombies need no stop. What was stopped before belongs to somebody else.
        if (entry.state == 'Z' || entry.state == 'X' || entry.state == 'T') continue;
        SQUALL_TRY(check_not_ourselves(entry.identity.pid));
        SQUALL_TRY(permitted(context_, entry.identity));
        SQUALL_ASSIGN(auto process, open_if_there(entry.identity));
        if (!process) continue;  // ended since the table was read
        list.push_back(to_json(entry.identity));
        fresh.push_back(std::move(*process));
      }
    }
    if (fresh.empty()) return std::size_t{0};
    SQUALL_TRY(context_.note({{"stopping", list}}));
    const std::size_t count = fresh.size();
    for (base::PidFd& process : fresh) {
      auto sent = process.signal(SIGSTOP);
      const bool gone = !sent.ok() && sent.error().code == base::ErrorCode::kNotFound;
      if (!gone) add(std::move(process));
      if (!sent.ok() && !gone) {
        base::Error error = std::move(sent).error();
        if (error.code == base::ErrorCode::kPermission)
          error.hint = "CAP_KILL is needed: run as root with it";
        return error;
      }
    }
    return count;
  }

  void add(base::PidFd process) {
    known_.emplace(process.identity().pid, process.identity().start_time);
    const bool main = std::any_of(targets_.begin(), targets_.end(), [&](const Target& target) {
      return target.identity == process.identity();
    });
    stopped_.push_back({.process = std::move(process), .main = main});
  }

  std::string summary() const {
    std::string text = "sent SIGCONT to " + processes(continued_);
    if (died_ > 0) text += fmt::format("; {} died while paused", died_);
    if (recalled_count_ > stopped_.size())
      text += fmt::format("; {} had ended already", recalled_count_ - stopped_.size());
    if (!others_.empty())
      text +=
          fmt::format("; {} ran already: somebody else had continued it, or it was never stopped",
                      others_.size());
    return text;
  }

  std::string states_proof() const {
    Json states = Json::object();
    for (const Stopped& entry : stopped_) {
      const char state = process_state(entry.process.identity()).value_or('X');
      states[fmt::format("{}", entry.process.identity().pid)] = std::string(1, state);
    }
    return Json{{"states", states}}.dump();
  }

  std::vector<Target> targets_;
  FaultContext& context_;
  std::vector<Stopped> stopped_;
  std::set<std::pair<pid_t, std::uint64_t>> known_;
  base::Instant since_;
  std::optional<base::Instant> verifying_since_;
  std::vector<pid_t> others_;
  std::size_t continued_ = 0;
  std::size_t died_ = 0;
  RecalledProcesses recalled_;
  std::vector<base::PidFd> there_;  // of them, not taken up yet
  std::size_t recalled_count_ = 0;
};

// One group that holds the targets and what descends from them, and nothing else.
class FreezerStandstill final : public Standstill {
 public:
  FreezerStandstill(std::vector<Target> targets, Freezer freezer, FaultContext& context)
      : targets_(std::move(targets)), freezer_(std::move(freezer)), context_(context) {}

  Step arm() override {
    std::vector<base::ProcessIdentity> roots;
    for (const Target& target : targets_) roots.push_back(target.identity);
    if (auto only = check_folder_holds_only(freezer_.folder, roots); !only.ok())
      return Step::failed(std::move(only).error());
    const auto before = read_freezer(freezer_);
    if (!before.ok()) return Step::failed(before.error());
    if (before->asked || before->frozen) {
      return Step::failed(base::Error{
          .code = base::ErrorCode::kConflict,
          .message = fmt::format("{} is frozen already, by somebody else", freezer_.folder),
          .hint = "look who did it, then thaw it"});
    }
    if (auto frozen = note_and_freeze(); !frozen.ok())
      return Step::failed(std::move(frozen).error());
    return Step::done("wrote: " + freeze_by_hand(freezer_));
  }

  Step effective() override {
    const auto now = read_freezer(freezer_);
    if (!now.ok()) return Step::failed(now.error());
    const base::Duration took = base::BootClock::now() - since_;
    if (now->frozen) {
      return Step::done(fmt::format("{} is frozen after {}: {}", freezer_.folder,
                                    base::humanize(took), describe_targets(targets_)),
                        proof(true));
    }
    if (took < kStopLimit) return Step::wait(kLook);
    return Step::failed(base::Error{.code = base::ErrorCode::kTimeout,
                                    .message = fmt::format("{} does not freeze", freezer_.folder),
                                    .hint = "a process in it hangs in the kernel (state D)"});
  }

  // A supervisor mostly starts a member into the group of its predecessor, which stands still; or
  // made the group anew, which does not.
  Step join(const Target& fresh) override {
    if (joining_ != fresh.identity) {
      const auto group = freezer_of(fresh.identity.pid, freezer_.v2);
      if (!group.ok() || group->folder != freezer_.folder) return elsewhere(fresh);
      if (auto only = check_folder_holds_only(freezer_.folder, {fresh.identity}); !only.ok())
        return Step::failed(std::move(only).error());
      const auto now = read_freezer(freezer_);
      if (!now.ok()) return Step::failed(now.error());
      since_ = base::BootClock::now();
      if (!now->asked) {
        if (auto frozen = note_and_freeze(); !frozen.ok())
          return Step::failed(std::move(frozen).error());
      }
      joining_ = fresh.identity;
    }
    Step step = effective();
    if (step.state == Step::State::kDone) step.text = "is frozen, too: " + freezer_.folder;
    return step;
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was frozen");
    const auto now = read_freezer(freezer_);
    if (!now.ok() && now.error().code == base::ErrorCode::kNotFound) return is_gone();
    if (!now.ok()) return Step::failed(now.error());
    if (!now->asked) {
      return Step::done(freezer_.folder +
                        " was not frozen: somebody else thawed it, or it never was");
    }
    if (auto written = thaw(freezer_); !written.ok())
      return Step::failed(std::move(written).error());
    return Step::done("wrote: " + thaw_by_hand(freezer_));
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was frozen");
    const auto now = read_freezer(freezer_);
    if (!now.ok() && now.error().code == base::ErrorCode::kNotFound) return is_gone();
    if (!now.ok()) return Step::failed(now.error());
    if (!now->frozen) return Step::done(freezer_.folder + " is not frozen", proof(false));
    const base::Instant moment = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = moment;
    if (moment - *verifying_since_ < std::chrono::milliseconds(200)) return Step::wait(kLook);
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = freezer_.folder + " is still frozen",
                    .hint = "a group above it may be frozen by somebody else: look at the same "
                            "file there"});
  }

  void recall(const Json& found) override {
    if (text_field(found, "freezing") == freezer_.folder) noted_ = true;
  }

 private:
  base::Status note_and_freeze() {
    SQUALL_TRY(context_.note({{"freezing", freezer_.folder}, {"before", "thawed"}}));
    noted_ = true;
    since_ = base::BootClock::now();
    return freeze(freezer_);
  }
  Step is_gone() const { return Step::done(freezer_.folder + " is gone, with all that was in it"); }
  static Step elsewhere(const Target& fresh) {
    return Step::failed(
        base::Error{.code = base::ErrorCode::kUnsupported,
                    .message = fmt::format("{} is in another cgroup", fresh.description)});
  }
  std::string proof(bool frozen) const {
    return Json{{"cgroup", freezer_.folder}, {"frozen", frozen ? 1 : 0}}.dump();
  }

  std::vector<Target> targets_;
  Freezer freezer_;
  FaultContext& context_;
  base::Instant since_;
  std::optional<base::Instant> verifying_since_;
  base::ProcessIdentity joining_;
  bool noted_ = false;
};

// ---- by a tracer -------------------------------------------------------------------------------

constexpr base::Duration kSilenceLimit = std::chrono::seconds(3);
constexpr base::Duration kGoneLimit = std::chrono::seconds(2);
constexpr base::Duration kWatch = std::chrono::milliseconds(500);

class TracerStandstill final : public Standstill {
 public:
  TracerStandstill(std::vector<Target> targets, FaultContext& context)
      : context_(context), recalled_(context, kWhat, kSilenceLimit, kGoneLimit) {
    groups_.push_back({.targets = std::move(targets), .workers = new_workers(), .since = {}});
  }

  Step arm() override {
    Group& group = groups_.front();
    Step step = trace(group);
    if (step.state != Step::State::kDone) return step;
    return Step::done(fmt::format("process {} traces {} and what descends from it",
                                  worker_of(group), describe_targets(group.targets)));
  }

  Step effective() override {
    Step step = look(groups_.front());
    if (step.state == Step::State::kDone) {
      step.text = fmt::format("{} after {}: {} and what descends from it", step.text,
                              base::humanize(base::BootClock::now() - groups_.front().since),
                              describe_targets(groups_.front().targets));
    }
    return step;
  }

  Step hold() override {
    for (Group& group : groups_) {
      if (group.joining) continue;
      if (auto trouble = group.workers->trouble()) return Step::broken(std::move(*trouble));
    }
    return Step::wait_for({groups_.front().workers->fd()}, kWatch);
  }

  // A tracer that has given up its rights cannot take hold of anybody else: another one does.
  Step join(const Target& fresh) override {
    const auto same = [&](const Group& group) {
      return group.targets.front().identity == fresh.identity;
    };
    auto group = std::find_if(groups_.begin(), groups_.end(), same);
    if (group == groups_.end()) {
      groups_.push_back({.targets = {fresh}, .workers = new_workers(), .since = {}});
      group = groups_.end() - 1;
      group->joining = true;
    }
    Step step = trace(*group);
    if (step.state == Step::State::kDone) step = look(*group);
    if (step.state == Step::State::kFailed) group->workers->end();
    if (step.state != Step::State::kDone) return step;
    group->joining = false;
    step.text = fmt::format("is stopped, too, by process {}", worker_of(*group));
    return step;
  }

  Step revert() override {
    std::size_t count = 0;
    for (Group& group : groups_) {
      count += group.workers->size();
      group.workers->end();
    }
    recalled_.end();
    if (count == 0 && !recalled_.recalled()) return Step::done("nobody was traced");
    return Step::done("the tracer is ended; the kernel lets the threads go");
  }

  Step verify() override {
    for (Group& group : groups_) {
      Step step = group.workers->await_gone();
      if (step.state != Step::State::kDone) return step;
    }
    if (Step step = recalled_.await_gone(); step.state != Step::State::kDone) return step;
    std::vector<std::string> others;
    for (const Group& group : groups_) {
      for (const Target& target : group.targets) {
        const auto state = look_at_state(target.identity);
        if (!state.ok()) return Step::failed(state.error());
        if (*state != 't') continue;
        if (base::BootClock::now() < verify_limit()) return Step::wait(kLook);
        others.push_back(target.description);  // ours are gone
      }
    }
    std::string text = "no tracer of ours is left";
    if (!others.empty()) text += "; somebody else traces " + base::enumerate(others);
    return Step::done(std::move(text), Json{{"tracers", 0}}.dump());
  }

  void recall(const Json& found) override { recalled_.recall(found); }

 private:
  static constexpr const char* kWhat = "the tracer";

  struct Group {
    std::vector<Target> targets;
    std::unique_ptr<HeldWorkers> workers;
    base::Instant since;
    bool joining = false;
  };

  std::unique_ptr<HeldWorkers> new_workers() {
    return std::make_unique<HeldWorkers>(context_, kWhat, kSilenceLimit, kGoneLimit);
  }
  base::Instant verify_limit() {
    if (!verifying_since_) verifying_since_ = base::BootClock::now();
    return *verifying_since_ + kGoneLimit;
  }
  static pid_t worker_of(const Group& group) { return group.workers->processes().front().pid; }

  Step trace(Group& group) {
    if (group.workers->empty()) {
      if (auto allowed = check_trees(group); !allowed.ok())
        return Step::failed(std::move(allowed).error());
      Json list = Json::array();
      for (const Target& target : group.targets) list.push_back(to_json(target.identity));
      if (auto noted = context_.note({{"tracing", list}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      group.since = base::BootClock::now();
      group.workers->start("stopper", {{"processes", std::move(list)},
                                       {"lifetime_ns", context_.duration().count()}});
    }
    return group.workers->await_ready();
  }

  // What descends from a target may belong to somebody else.
  base::Status check_trees(const Group& group) {
    SQUALL_ASSIGN(const auto table, read_process_table());
    for (const Target& target : group.targets) {
      for (const ProcessEntry& entry : tree_of(table, target.identity)) {
        SQUALL_TRY(check_not_ourselves(entry.identity.pid));
        SQUALL_TRY(permitted(context_, entry.identity));
        const bool stopped = entry.state == 'T' && entry.identity == target.identity;
        if (!stopped) continue;
        return base::Error{
            .code = base::ErrorCode::kConflict,
            .message = fmt::format("{} is stopped already, by somebody else", target.description),
            .hint = "look why; SIGCONT lets it run"};
      }
    }
    return {};
  }

  // By what the kernel says: every process of the trees stands in a stop of its tracer.
  Step look(Group& group) {
    const auto table = read_process_table();
    if (!table.ok()) return Step::failed(table.error());
    std::size_t running = 0;
    Json states = Json::object();
    for (const Target& target : group.targets) {
      for (const ProcessEntry& entry : tree_of(*table, target.identity)) {
        if (entry.state == 'Z' || entry.state == 'X') continue;
        if (auto allowed = permitted(context_, entry.identity); !allowed.ok())  // born meanwhile
          return Step::failed(std::move(allowed).error());
        if (entry.state != 't') ++running;
        states[fmt::format("{}", entry.identity.pid)] = std::string(1, entry.state);
      }
    }
    if (states.empty()) {
      return Step::failed(base::Error{.code = base::ErrorCode::kNotFound,
                                      .message = "every target has ended",
                                      .hint = "find out why, then run again"});
    }
    if (running == 0) {
      const Json proof = {{"states", states}, {"tracer", worker_of(group)}};
      return Step::done(fmt::format("{} in state t", processes(states.size())), proof.dump());
    }
    if (base::BootClock::now() - group.since < kStopLimit) return Step::wait(kLook);
    return Step::failed(base::Error{.code = base::ErrorCode::kTimeout,
                                    .message = fmt::format("{} not in state t", processes(running)),
                                    .hint = "one hangs in the kernel (state D)"});
  }

  FaultContext& context_;
  std::vector<Group> groups_;
  HeldWorkers recalled_;
  std::optional<base::Instant> verifying_since_;
};

}  // namespace

std::unique_ptr<Standstill> stand_still_by_tracer(std::vector<Target> targets,
                                                  FaultContext& context) {
  return std::make_unique<TracerStandstill>(std::move(targets), context);
}

std::unique_ptr<Standstill> stand_still_by_signal(std::vector<Target> targets,
                                                  FaultContext& context) {
  return std::make_unique<SignalStandstill>(std::move(targets), context);
}

std::unique_ptr<Standstill> stand_still_by_freezer(std::vector<Target> targets, Freezer freezer,
                                                   FaultContext& context) {
  return std::make_unique<FreezerStandstill>(std::move(targets), std::move(freezer), context);
}

}  // namespace squall::inject
