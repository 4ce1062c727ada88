// process.kill: ends members of a service by a signal through their pidfds. Nothing can undo a
// kill, so `restore` says who brings the members back, and that is what is verified. Never signals
// a pid number: only the very processes that were bound.

#include <fmt/format.h>
#include <linux/capability.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "base/random.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/process/revival.h"
#include "inject/faults/process/targets.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 3> kRestoreChoices{"start", "await", "none"};
constexpr std::array<ParameterDescriptor, 8> kParameters{{
    service_parameter("The service of which members are killed."),
    member_parameter("The member to kill, by name or role; without it, `count` decides."),
    count_parameter("How many members are killed."),
    kRandomParameter,
    {.name = "signal",
     .type = ValueType::kSignal,
     .default_text = "SIGKILL",
     .summary = "The signal that is sent; it must be one that ends the process."},
    {.name = "every",
     .type = ValueType::kDuration,
     .minimum = 1e8,
     .maximum = 3.6e12,
     .summary = "Kills again at this interval until the fault ends: `count` members of those that "
                "run then, chosen anew each time by the run's seed. Their supervisor must bring "
                "them back meanwhile; where nobody runs, the interval passes."},
    restore_parameter(
        "start",
        "Who brings the members back: `start` runs the map's start command unless they came "
        "back by themselves, `await` waits for their supervisor, `none` leaves them down.",
        kRestoreChoices),
    limit_parameter("How long a replacement may take to appear; later the revert counts as not "
                    "verified."),
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "process.kill",
    .summary = "Kills members of a service.",
    .effect = "The process ends at the signal; its connections break, its memory is lost.",
    .revert =
        "Nothing undoes a kill. `restore` says who brings the member back, and the fault ends "
        "when a replacement runs.",
    .proof =
        "Effect: the kernel reports the end of the very process that was bound (pidfd). "
        "Revert: processes of the service that were not there before, by pid.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kSignalMechanisms,
    .capabilities = kSignalCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- process.kill: { service: worker, count: 1, signal: SIGKILL, restore: await }\n"
        "  name: outage\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kEndGrace = std::chrono::seconds(5);
constexpr base::Duration kKillGrace = std::chrono::milliseconds(200);

class KillFault final : public Fault {
 public:
  // With `every` above zero: what is killed again at that interval.
  struct Again {
    base::Duration every{};
    std::string member;  // empty: any
    std::size_t count = 1;
    bool random = true;
    std::uint64_t seed = 0;
  };

  KillFault(std::vector<Target> targets, int signal, Again again, Revival::Plan plan,
            FaultContext& context)
      : targets_(std::move(targets)),
        signal_(signal),
        again_(std::move(again)),
        draws_(again_.seed),
        restore_(plan.restore),
        service_(plan.service),
        before_(plan.before),
        revival_(std::move(plan), context),
        context_(context) {}

  Step arm() override {
    auto opened = open_targets(targets_);
    if (!opened.ok()) return Step::failed(std::move(opened).error());
    Json list = Json::array();
    for (const Target& target : targets_) list.push_back(to_json(target));
    if (auto noted = context_.note({{"killing", list}}); !noted.ok())
      return Step::failed(noted.error());
    processes_ = std::move(*opened);
    signalled_ = true;
    sent_at_ = base::BootClock::now();
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      auto sent = processes_[i].signal(signal_);
      if (sent.ok()) continue;
      base::Error error = std::move(sent).error();
      if (error.code == base::ErrorCode::kNotFound)
        error.message = fmt::format("{} ended between bind and arm", targets_[i].description);
      if (error.code == base::ErrorCode::kPermission)
        error.hint = "CAP_KILL is needed: run as root with it";
      return Step::failed(std::move(error));
    }
    return Step::done(fmt::format("sent {} to {}", signal_text(), describe_targets(targets_)),
                      Json{{"signal", signal_text()}, {"targets", list}}.dump());
  }

  Step effective() override {
    std::vector<int> alive;
    for (const base::PidFd& process : processes_) {
      if (!process.ended()) alive.push_back(process.get());
    }
    if (!alive.empty()) return Step::wait_for(std::move(alive));
    const base::Duration took = base::BootClock::now() - sent_at_;
    return Step::done(fmt::format("{} ended {} after {}", describe_targets(targets_),
                                  base::humanize(took), signal_text()),
                      Json{{"ended", targets_.size()}, {"took_ns", took.count()}}.dump());
  }

  Step hold() override {
    if (again_.every > base::Duration::zero()) return kill_again();
    if (restore_ != Restore::kAwait || told_) return Step::done({});
    const auto replacement = revival_.replaced(targets_);
    Step step = Step::wait(std::chrono::milliseconds(100));
    if (!replacement.ok() || replacement->empty()) return step;
    told_ = true;
    step.text =
        fmt::format("{} runs in place of {}, {} after the kill", *replacement,
                    describe_targets(targets_), base::humanize(base::BootClock::now() - sent_at_));
    return step;
  }

  Step revert() override {
    if (!signalled_) return Step::done("nothing was killed");
    lost_.clear();
    std::vector<int> dying;
    for (auto opened : {bound_.open_into(processes_), recalled_later_.open_into(later_)}) {
      if (!opened.ok()) return Step::failed(std::move(opened).error());
    }
    for (const Target& target : targets_) {
      const auto process = find(target);
      if (process == nullptr || process->ended())
        lost_.push_back(target);
      else
        dying.push_back(process->get());
    }
    for (const base::PidFd& process : later_) {
      if (!process.ended()) dying.push_back(process.get());
    }
    add_lost_later();
    // A polite signal may still be at work: what ends later must be brought back, too.
    const base::Instant now = base::BootClock::now();
    if (!revert_since_) revert_since_ = now;
    // After a replay's SIGKILL, sent or not, a moment is enough.
    const base::Duration grace = recalled_ && signal_ == SIGKILL ? kKillGrace : kEndGrace;
    if (!dying.empty() && now - *revert_since_ < grace)
      return Step::wait_for(std::move(dying), *revert_since_ + grace - now);
    Step begun = revival_.begin(lost_);
    if (!dying.empty())
      begun.text += fmt::format("; {} of the targets still run: {} did not end them", dying.size(),
                                signal_text());
    if (!killed_later_.empty())
      begun.text += fmt::format("; {} were killed in all", targets_.size() + killed_later_.size());
    return begun;
  }

  Step verify() override {
    if (!signalled_) return Step::done("nothing was killed");
    return revival_.await(lost_);
  }

  void recall(const Json& found) override {
    if (!found.contains("killing")) return;
    signalled_ = true;  // or about to be: revert() looks who is still there
    recalled_ = true;
    for (const Target& target : targets_) bound_.add(target.identity);
    for (const Json& item : field(found, "killing")) {
      const Target target = target_from_json(item);
      if (is_bound(target)) continue;
      killed_later_.push_back(target);
      recalled_later_.add(target.identity);
    }
  }

 private:
  Step kill_again() {
    const base::Instant now = base::BootClock::now();
    if (next_ == base::Instant{}) next_ = sent_at_ + again_.every;
    if (now < next_) return Step::wait(next_ - now);
    while (next_ <= now) next_ += again_.every;  // a late interval is left out, not made up for
    auto running = running_members(context_.host(), service_);
    if (!running.ok()) return Step::failed(std::move(running).error());
    if (!again_.member.empty())
      std::erase_if(*running, [&](const Target& each) { return each.member != again_.member; });
    std::vector<Target> chosen;
    for (const std::size_t i :
         choose_indices(running->size(), again_.count, again_.random, draws_.next()))
      chosen.push_back((*running)[i]);
    auto killed = note_and_signal(context_, chosen, signal_);
    if (!killed.ok()) return Step::failed(std::move(killed).error());
    std::erase_if(later_, [](const base::PidFd& process) { return process.ended(); });
    for (std::size_t i = 0; i < killed->targets.size(); ++i) {
      killed_later_.push_back(killed->targets[i]);
      later_.push_back(std::move(killed->processes[i]));
    }
    Step step = Step::wait(next_ - now);
    step.text = killed->targets.empty()
                    ? fmt::format("nobody of {} runs: this interval passes", service_.name)
                    : fmt::format("sent {} to {}, kill {}", signal_text(),
                                  describe_targets(killed->targets),
                                  targets_.size() + killed_later_.size());
    return step;
  }

  bool is_bound(const Target& target) const {
    return std::any_of(targets_.begin(), targets_.end(),
                       [&](const Target& each) { return each.identity == target.identity; });
  }

  // Of the members at bind those that an interval killed, themselves or in a later incarnation.
  void add_lost_later() {
    const bool named = !service_.members.empty();
    for (const Target& target : before_) {
      const bool listed = std::any_of(lost_.begin(), lost_.end(), [&](const Target& each) {
        return each.identity == target.identity;
      });
      const bool hit =
          std::any_of(killed_later_.begin(), killed_later_.end(), [&](const Target& each) {
            return each.identity == target.identity || (named && each.member == target.member);
          });
      if (hit && !listed && !is_bound(target)) lost_.push_back(target);
    }
  }

  const base::PidFd* find(const Target& target) const {
    for (const base::PidFd& process : processes_) {
      if (process.identity() == target.identity) return &process;
    }
    return nullptr;
  }
  std::string signal_text() const { return fmt::format("SIG{}", ::sigabbrev_np(signal_)); }

  std::vector<Target> targets_;
  int signal_;
  Again again_;
  base::Random draws_;
  Restore restore_;
  model::Service service_;
  std::vector<Target> before_;  // members at bind
  Revival revival_;
  FaultContext& context_;
  std::vector<base::PidFd> processes_;
  RecalledProcesses bound_;  // by a replay
  RecalledProcesses recalled_later_;
  std::vector<Target> killed_later_;  // at the intervals
  std::vector<base::PidFd> later_;    // of them, those that may not have ended yet
  base::Instant next_;
  std::vector<Target> lost_;
  std::optional<base::Instant> revert_since_;
  base::Instant sent_at_;
  bool signalled_ = false;
  bool recalled_ = false;
  bool told_ = false;
};

void describe_kill(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  const Restore restore = restore_from(parameters.text("restore")).value_or(Restore::kStart);
  std::string revert =
      "the member is started again with the map's `start`, unless it came back by "
      "itself";
  if (restore == Restore::kAwait) revert = "its supervisor brings it back; that is awaited";
  if (restore == Restore::kNone) revert = "nobody brings it back: it stays down";
  std::string change = fmt::format("{} is sent to {}", parameters.text("signal"), planned.target);
  if (const auto every = parameters.optional_duration("every"); every && every->count() > 0) {
    const auto kills = 1 + (fault.duration.count() - 1) / every->count();
    planned.processes_max *= static_cast<int>(std::clamp<std::int64_t>(kills, 1, 10'000));
    change += fmt::format(", and every {} again to members that run then: {} kills at most",
                          base::format_duration(*every), planned.processes_max);
  }
  planned.changes = {{.change = change, .revert = revert, .lifetime = LifetimeClass::kOneWay}};
}

base::Status check_signal(const std::string& name) {
  const int number = signal_number(name);
  constexpr std::array kEnding{SIGKILL, SIGTERM, SIGINT, SIGQUIT, SIGABRT, SIGHUP,  SIGSEGV,
                               SIGBUS,  SIGILL,  SIGFPE, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM};
  if (std::find(kEnding.begin(), kEnding.end(), number) != kEnding.end()) return {};
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = fmt::format("{} does not end a process", name),
                     .hint =
                         "use SIGKILL, SIGTERM, SIGINT, SIGQUIT or SIGABRT; to stop one for a "
                         "while use process.pause"};
}

base::Result<model::FaultBinding> bind_kill(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string signal = parameters.text("signal");
  SQUALL_TRY(check_signal(signal));
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  if (parameters.text("restore") == "start") SQUALL_TRY(check_startable(members));
  const bool wanted = !parameters.optional_text("member").value_or("").empty();
  const Json extra = {
      {"signal", signal_number(signal)},
      {"restore", parameters.text("restore")},
      {"limit_ns", parameters.duration("limit").count()},
      {"every_ns", parameters.optional_duration("every").value_or(base::Duration{}).count()},
      {"count", planned_count(parameters)},
      {"random", parameters.boolean("random")},
      {"member", wanted ? members.chosen.front().name : std::string{}},
      {"seed", seed_of(request)},
      {"resources",
       Json::array({fmt::format("service/{}/{}", request.map.directory, members.service->name)})}};
  return process_binding(request, members, std::string(kPidfdSignal), LifetimeClass::kOneWay,
                         extra);
}

base::Result<std::unique_ptr<Fault>> create_kill(const model::FaultBinding& binding,
                                                 FaultContext& context) {
  SQUALL_ASSIGN(Revival::Plan plan, Revival::plan_of(binding));
  const auto signal = static_cast<int>(integer_field(binding.details.json(), "signal"));
  if (signal <= 0 || signal >= SIGRTMIN || ::sigabbrev_np(signal) == nullptr)
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the binding has no signal"};
  const Json& details = binding.details.json();
  KillFault::Again again{.every = base::Duration{integer_field(details, "every_ns")},
                         .member = text_field(details, "member"),
                         .count = static_cast<std::size_t>(
                             std::clamp<std::int64_t>(integer_field(details, "count"), 1, 1000)),
                         .random = boolean_field(details, "random"),
                         .seed = unsigned_field(details, "seed")};
  return std::unique_ptr<Fault>{std::make_unique<KillFault>(
      targets_of(binding), signal, std::move(again), std::move(plan), context)};
}

base::Result<std::string> rehearse_kill(const model::FaultBinding& binding, FaultContext& context) {
  return rehearse_on_scratch(binding, context,
                             [&](const model::FaultBinding& scratch) -> base::Result<std::string> {
                               SQUALL_ASSIGN(auto fault, create_kill(scratch, context));
                               return rehearse_life(*fault, "killed a scratch process by pidfd");
                             });
}

}  // namespace

extern const FaultKind kProcessKill;
const FaultKind kProcessKill{.descriptor = &kDescriptor,
                             .describe = describe_kill,
                             .bind = bind_kill,
                             .create = create_kill,
                             .rehearse = rehearse_kill,
                             .reach = reach_processes,
                             .restores = kRestoresService};

}  // namespace squall::inject
