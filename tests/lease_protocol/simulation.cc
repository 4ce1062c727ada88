#include "simulation.h"

#include <algorithm>
#include <array>
#include <csignal>

namespace squall::lease_protocol {

namespace {

constexpr std::size_t kStackSize = 256 * 1024;
// How long silence may last before it is noticed: the client's and the keeper's patience, the one
// for a holder that starts, and a question that was on its way.
constexpr Nanoseconds kPatience = 3 * kSecond + 750 * kMillisecond;
constexpr Nanoseconds kStartPatience = 5 * kSecond + 1250 * kMillisecond;
constexpr Nanoseconds kGrace = kSecond;
constexpr Nanoseconds kShortStop = kSecond;
constexpr Nanoseconds kSuspension = 30 * kSecond;
// Whoever never sleeps takes time, too: after so many turns in one instant, so much of it passes.
constexpr int kTurnsInOneInstant = 1000;
constexpr Nanoseconds kTimeOfTurns = 10 * kMillisecond;

Machine* machine = nullptr;
std::vector<std::unique_ptr<char[]>> spare_stacks;

}  // namespace

std::string_view to_string(Action action) {
  constexpr std::array<std::string_view, 5> kNames{"kill", "stop for 1 s", "stop", "lose",
                                                   "suspend"};
  return kNames[static_cast<std::size_t>(action)];
}

Machine::Machine(std::vector<Disturbance> plan, unsigned order)
    : plan_(std::move(plan)), order_(order) {
  machine = this;
}

Machine::~Machine() {
  // Whoever still waits, for ever, ends here: its objects are its own to destroy.
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    if (processes_[i]->started && !processes_[i]->ended) {
      processes_[i]->doomed = true;
      resume(*processes_[i]);
    }
  }
  for (const auto& process : processes_) {
    if (process->stack) spare_stacks.push_back(std::move(process->stack));
  }
  descriptors_.clear();
  machine = nullptr;
}

Machine* Machine::current() {
  return machine;
}

Process& Machine::start(std::string name, std::function<int()> main) {
  auto process = std::make_unique<Process>();
  process->number = next_number_++;
  process->name = std::move(name);
  process->main = std::move(main);
  processes_.push_back(std::move(process));
  return *processes_.back();
}

Process* Machine::find(int number) {
  for (const auto& process : processes_) {
    if (process->number == number) return process.get();
  }
  return nullptr;
}

void Machine::enter() {
  Process& self = machine->self();
  try {
    if (self.doomed) throw Killed{};
    self.status = (self.main() & 0xFF) << 8;
    if (self.dying) self.status = SIGKILL;
  } catch (const Killed&) {
    self.status = SIGKILL;
  }
  self.main = nullptr;  // with the descriptors it was given
  self.ended = true;
  swapcontext(&self.context, &machine->scheduler_);
}

void Machine::resume(Process& process) {
  running_ = &process;
  if (!process.started) {
    process.started = true;
    if (spare_stacks.empty()) spare_stacks.push_back(std::make_unique<char[]>(kStackSize));
    process.stack = std::move(spare_stacks.back());
    spare_stacks.pop_back();
    getcontext(&process.context);
    process.context.uc_stack.ss_sp = process.stack.get();
    process.context.uc_stack.ss_size = kStackSize;
    process.context.uc_link = nullptr;
    makecontext(&process.context, enter, 0);
  }
  swapcontext(&scheduler_, &process.context);
  running_ = nullptr;
}

void Machine::pause() {
  Process& self = *running_;
  swapcontext(&self.context, &scheduler_);
  if (self.doomed && !self.dying) {
    self.dying = true;
    if (self.throws) throw Killed{};
  }
}

bool Machine::ready(const Object& object) const {
  switch (object.kind) {
    case Object::Kind::kSocket:
      return !object.inbox.empty() || object.peer.expired();
    case Object::Kind::kProcess:
      return object.process->ended;
    case Object::Kind::kTimer:
      return object.rings != kNever && (object.boot_clock ? boot() : now_) >= object.rings;
    case Object::Kind::kEvent:
      return object.raised;
    case Object::Kind::kReadySet:
      return std::any_of(object.watched.begin(), object.watched.end(), [&](const auto& entry) {
        const ObjectRef watched = entry.second.lock();
        return watched != nullptr && ready(*watched);
      });
    case Object::Kind::kSignals:
    case Object::Kind::kFault:
      break;
  }
  return false;
}

bool Machine::readable(int descriptor) const {
  const ObjectRef object = get(descriptor);
  return object != nullptr && ready(*object);
}

bool Machine::can_run(const Process& process) const {
  if (process.ended) return false;
  if (process.doomed) return true;
  if (now_ < process.stopped_until) return false;
  if (!process.started || now_ >= process.wait_until) return true;
  return std::any_of(process.wait_for.begin(), process.wait_for.end(),
                     [&](const auto& entry) { return entry.second || readable(entry.first); });
}

// The killed first, as the kernel closes what they held at once; then by the order of this run.
Process* Machine::next() {
  for (const auto& process : processes_) {
    if (!process->ended && process->doomed) return process.get();
  }
  std::array<std::string_view, 3> names{"engine", "keeper", "holder"};
  for (unsigned i = 0; i < order_ % 6; ++i) std::next_permutation(names.begin(), names.end());
  for (const std::string_view name : names) {
    for (const auto& process : processes_) {
      if (process->name == name && can_run(*process)) return process.get();
    }
  }
  return nullptr;
}

Nanoseconds Machine::next_event() const {
  Nanoseconds at = kNever;
  for (const auto& process : processes_) {
    if (process->ended) continue;
    if (now_ < process->stopped_until) {
      at = std::min(at, process->stopped_until);
      continue;
    }
    at = std::min(at, process->wait_until);
    for (const auto& [descriptor, writable] : process->wait_for) {
      const ObjectRef object = get(descriptor);
      if (object == nullptr || object->kind != Object::Kind::kTimer || object->rings == kNever)
        continue;
      at = std::min(at, object->boot_clock ? object->rings - suspended_ : object->rings);
    }
  }
  return at == kNever ? at : std::max(at, now_ + 1);
}

void Machine::run(Nanoseconds limit) {
  const Nanoseconds end = now_ + limit;
  while (true) {
    const bool spins = turns_ > kTurnsInOneInstant;
    if (Process* process = spins ? nullptr : next(); process != nullptr) {
      ++turns_;
      resume(*process);
      continue;
    }
    const Nanoseconds at = std::min(spins ? now_ + kTimeOfTurns : next_event(), end);
    if (before_time_passes && !before_time_passes(at + suspended_)) return;
    now_ = at;
    turns_ = 0;
    if (now_ >= end) return;
    const bool over = std::all_of(processes_.begin(), processes_.end(),
                                  [](const auto& process) { return process->ended; });
    if (over) return;
  }
}

bool Machine::step(std::string what, bool sends) {
  Process& self = *running_;
  if (self.dying) return true;
  const std::size_t number = step_count_++;
  if (!stop_recording)
    steps_.push_back({.process = self.name, .what = std::move(what), .sends = sends});
  if (next_disturbance_ == plan_.size() || plan_[next_disturbance_].step != number) return false;
  const Action action = plan_[next_disturbance_++].action;
  if (action == Action::kLose) {
    last_disturbance_ = boot();
    patience_ += kStartPatience;
    return true;
  }
  disturb(action, what);
  return false;
}

void Machine::disturb(Action action, const std::string&) {
  Process& self = *running_;
  if (action == Action::kSuspend) suspended_ += kSuspension;
  last_disturbance_ = boot();
  must_end_ =
      must_end_ || action == Action::kKill || (action == Action::kStop && self.name != "keeper");
  if (action == Action::kKill) {
    self.doomed = true;
    self.dying = true;
    if (self.throws) throw Killed{};
  } else if (action == Action::kStop || action == Action::kStopShort) {
    patience_ += self.name == "holder" && !self.spoke ? kStartPatience : kPatience;
    self.stopped_until = action == Action::kStop ? kNever : now_ + kShortStop;
    self.wait_for.clear();
    self.wait_until = now_;
    pause();
  }
}

void Machine::wait(std::vector<std::pair<int, bool>> descriptors, Nanoseconds until) {
  Process& self = *running_;
  if (self.dying) return;
  step("wait");
  if (self.dying) return;
  self.wait_for = std::move(descriptors);
  self.wait_until = until;
  if (!can_run(self) || ++turns_ > kTurnsInOneInstant) pause();
  if (self.dying) return;
  self.wait_for.clear();
  step("waited");
}

void Machine::kill(Process& process) {
  process.doomed = true;
}

int Machine::add(ObjectRef object) {
  descriptors_[next_descriptor_] = std::move(object);
  return next_descriptor_++;
}

ObjectRef Machine::get(int descriptor) const {
  const auto found = descriptors_.find(descriptor);
  return found == descriptors_.end() ? nullptr : found->second;
}

void Machine::close(int descriptor) {
  descriptors_.erase(descriptor);
}

Nanoseconds Machine::allowed_until(Nanoseconds deadline, Nanoseconds armed) const {
  const Nanoseconds noticed = last_disturbance_ + patience_;
  return (must_end_ ? std::max(noticed, armed) : std::max(deadline, noticed)) + kGrace;
}

}  // namespace squall::lease_protocol
