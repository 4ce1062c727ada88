// container.pause: stops all processes of a container by its engine, which freezes its cgroup, and
// lets them run on. Journaled with the freezer's path, so that a replay can thaw it even when the
// engine is gone. What somebody else resumes, restarts or removes meanwhile is left to them.

#include <fmt/format.h>

#include <array>
#include <set>

#include "base/text.h"
#include "base/units.h"
#include "inject/faults/container/containers.h"
#include "inject/freezer.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;

constexpr std::array<std::string_view, 1> kMechanisms{kContainerEngine};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<ParameterDescriptor, 4> kParameters{{
    service_parameter("The service of which containers are paused; the map's `container` selects "
                      "them by name, label or image."),
    member_parameter("The member to pause, by name or role; without it, `count` decides."),
    count_parameter("How many containers are paused."),
    kRandomParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "container.pause",
    .summary = "Pauses containers of a service by their engine (Docker, Podman).",
    .effect =
        "All processes of the container stand still: connections stay open, nothing is answered, "
        "and health checks of the engine fail or wait.",
    .revert =
        "The engine lets them run on; when it does not answer, the cgroup is thawed directly. A "
        "container that somebody else resumed, restarted or removed is left as it is.",
    .proof =
        "Effect: the engine says Paused, and the kernel says that the container's cgroup is "
        "frozen. Revert: the kernel says that it is not, by the freezer found before.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- container.pause: { service: queue }\n"
        "  name: hang\n"
        "  at: 5s\n"
        "  for: 10s\n",
    .root_only = kEnginesAreRoots,
};

constexpr base::Duration kLook = std::chrono::milliseconds(5);
constexpr base::Duration kHoldLook = std::chrono::milliseconds(250);
constexpr base::Duration kActLimit = std::chrono::seconds(10);
// The engine may still be at work on what a dead holder asked for.
constexpr base::Duration kReplayGrace = std::chrono::seconds(1);
// An engine that is being restarted is waited for: past it, its own idea of the container is wrong.
constexpr base::Duration kEngineGrace = std::chrono::seconds(2);

class ContainerPause final : public Fault {
 public:
  ContainerPause(std::vector<ContainerTarget> targets, FaultContext& context)
      : targets_(std::move(targets)), freezers_(targets_.size()), context_(context) {}

  Step arm() override {
    if (!pausing_.begun()) {
      const auto states = look_.look(targets_);
      if (!states) return look_.waiting();
      if (auto ready = prepare(*states); !ready.ok()) return Step::failed(ready.error());
      since_ = base::BootClock::now();
      pausing_.begin(targets_, "POST", "/pause", kActLimit);
    }
    if (!pausing_.advance()) return pausing_.waiting();
    if (auto noted = context_.note({{"answered", true}}); !noted.ok())
      return Step::failed(noted.error());
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      auto answered = check_answer(pausing_.answer(i), targets_[i], "pause");
      if (!answered.ok()) return Step::failed(std::move(answered).error());
    }
    return Step::done("the engine has paused " + describe_containers(targets_));
  }

  Step effective() override {
    const base::Duration took = base::BootClock::now() - since_;
    for (const auto& freezer : freezers_) {
      const auto now = read_freezer(*freezer);
      if (!now.ok()) return Step::failed(now.error());
      if (now->frozen) continue;
      if (took < kActLimit) return Step::wait(kLook);
      return Step::failed(base::Error{
          .code = base::ErrorCode::kTimeout,
          .message = fmt::format("{} is not frozen {} after the engine paused it", freezer->folder,
                                 base::humanize(took)),
          .hint = "a process in it hangs in the kernel (state D), or somebody resumed it"});
    }
    const auto states = look_.look(targets_);
    if (!states) return look_.waiting();
    Json proof = Json::array();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (!(*states)[i].ok()) return Step::failed((*states)[i].error());
      proof.push_back({{"id", targets_[i].id},
                       {"paused", (*states)[i]->paused},
                       {"cgroup", freezers_[i]->folder},
                       {"frozen", true}});
      if ((*states)[i]->paused) continue;
      return Step::failed(
          base::Error{.message = fmt::format("its cgroup is frozen, but the engine says that {}",
                                             describe_change(targets_[i], *(*states)[i])),
                      .hint = "somebody else is at work on it"});
    }
    return Step::done(fmt::format("frozen after {}, and paused by the engine's word: {}",
                                  base::humanize(took), describe_containers(targets_)),
                      Json{{"containers", proof}}.dump());
  }

  Step hold() override {
    std::vector<int> alive;
    std::vector<std::string> news;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (told_.contains(i)) continue;
      const auto now = read_freezer(*freezers_[i]);
      if (processes_[i].ended())
        news.push_back(fmt::format("container {} ended while paused", targets_[i].name));
      else if (now.ok() && !now->asked)
        news.push_back(fmt::format("somebody else resumed container {}", targets_[i].name));
      else
        alive.push_back(processes_[i].get());
      if (alive.empty() || alive.back() != processes_[i].get()) told_.insert(i);
    }
    if (alive.empty() && news.empty()) return Step::done({});
    Step step = Step::wait_for(std::move(alive), kHoldLook);
    if (!news.empty()) step.text = base::enumerate(news);
    return step;
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was paused");
    // What was asked for may be done after we have looked: first its answer.
    if (pausing_.begun() && !pausing_.advance()) return pausing_.waiting();
    if (!resuming_.begun()) {
      const auto states = look_.look(targets_);
      if (!states) return look_.waiting();
      if (still_to_come(*states)) return Step::wait(kLook);
      if (engine_may_return(*states)) return Step::wait(kHoldLook);
      if (auto thawed = sort(*states); !thawed.ok()) return Step::failed(thawed.error());
      if (resumed_.empty()) return Step::done(summary());
      resuming_.begin(resumed_, "POST", "/unpause", kActLimit);
    }
    if (!resuming_.advance()) return resuming_.waiting();
    // verify() reads whether it helped: somebody may have been faster.
    std::optional<base::Error> trouble;
    for (std::size_t i = 0; i < resumed_.size(); ++i) {
      auto answered = check_answer(resuming_.answer(i), resumed_[i], "unpause");
      if (!answered.ok() && is_frozen(resumed_[i]) && !trouble)
        trouble = std::move(answered).error();
    }
    resuming_.forget();
    return trouble ? Step::failed(*std::move(trouble)) : Step::done(summary());
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was paused");
    Json proof = Json::array();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (!is_frozen(targets_[i]) || left_.contains(targets_[i].id)) {
        proof.push_back({{"id", targets_[i].id}, {"frozen", is_frozen(targets_[i])}});
        continue;
      }
      const base::Instant now = base::BootClock::now();
      if (!verifying_since_) verifying_since_ = now;
      if (now - *verifying_since_ < std::chrono::milliseconds(500)) return Step::wait(kLook);
      verifying_since_.reset();
      return Step::failed(
          base::Error{.code = base::ErrorCode::kRevertNotVerified,
                      .message = fmt::format("{} is still frozen", targets_[i].main.description),
                      .hint = fmt::format("docker unpause {} (or podman); or {}", targets_[i].name,
                                          thaw_by_hand(*freezers_[i]))});
    }
    return Step::done(summary() + "; no cgroup is frozen by us",
                      Json{{"containers", proof}}.dump());
  }

  void recall(const Json& found) override {
    answered_ = answered_ || boolean_field(found, "answered");
    for (const Json& item : field(found, "pausing")) {
      noted_ = true;
      for (std::size_t i = 0; i < targets_.size(); ++i) {
        if (targets_[i].id != text_field(item, "id")) continue;
        freezers_[i] =
            Freezer{.folder = text_field(item, "freezer"), .v2 = boolean_field(item, "v2")};
      }
    }
    if (noted_) recalled_at_ = base::BootClock::now();
  }

 private:
  // Everything as it was bound: opens the processes, finds the freezers, writes the journal.
  base::Status prepare(const ContainerLook::States& states) {
    std::vector<Target> mains;
    Json list = Json::array();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (!states[i].ok()) return states[i].error();
      const ContainerTarget& target = targets_[i];
      if (!same_life(target, *states[i])) {
        return base::Error{.code = base::ErrorCode::kNotFound,
                           .message = describe_change(target, *states[i]) + " between bind and arm",
                           .hint = "find out why it ends by itself, then run again"};
      }
      SQUALL_ASSIGN(freezers_[i], freezer_of(target.main.identity.pid));
      SQUALL_ASSIGN(const FreezeState before, read_freezer(*freezers_[i]));
      if (states[i]->paused || before.asked) {
        return base::Error{
            .code = base::ErrorCode::kConflict,
            .message = fmt::format("container {} is paused already, by somebody else", target.name),
            .hint = "look who did it, then resume it"};
      }
      mains.push_back(target.main);
      list.push_back({{"id", target.id},
                      {"freezer", freezers_[i]->folder},
                      {"v2", freezers_[i]->v2},
                      {"before", states[i]->status},
                      {"started_at", states[i]->started_at}});
    }
    SQUALL_ASSIGN(processes_, open_targets(mains));
    SQUALL_TRY(context_.note({{"pausing", list}}));
    noted_ = true;
    return {};
  }

  // A replay does not know whether the engine had done what it was asked for.
  bool still_to_come(const ContainerLook::States& states) const {
    if (!recalled_at_ || answered_ || base::BootClock::now() - *recalled_at_ > kReplayGrace)
      return false;
    for (const auto& state : states) {
      if (state.ok() && state->running && !state->paused) return true;
    }
    return false;
  }

  bool engine_may_return(const ContainerLook::States& states) {
    for (const auto& state : states) {
      if (state.ok() || !is_unreachable(state.error())) continue;
      const base::Instant now = base::BootClock::now();
      if (!unreachable_since_) unreachable_since_ = now;
      return now - *unreachable_since_ < kEngineGrace;
    }
    return false;
  }

  // Which of them we resume, by the engine or, where nobody answers there, by the kernel.
  base::Status sort(const ContainerLook::States& states) {
    resumed_.clear();
    remarks_.clear();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const ContainerTarget& target = targets_[i];
      if (!states[i].ok()) {
        if (!is_unreachable(states[i].error())) return states[i].error();
        SQUALL_TRY(thaw_directly(i));
        continue;
      }
      const ContainerState& state = *states[i];
      if (same_life(target, state) && state.paused) {
        resumed_.push_back(target);
      } else if (same_life(target, state)) {
        remarks_.push_back(fmt::format(
            "container {} was not paused: somebody else resumed it, or it never was", target.name));
      } else {
        left_.insert(target.id);
        remarks_.push_back(describe_change(target, state) + " by somebody else, and left alone");
      }
    }
    return {};
  }

  base::Status thaw_directly(std::size_t i) {
    const ContainerTarget& target = targets_[i];
    const auto process = base::identify_process(target.main.identity.pid);
    if (!freezers_[i] || !process.ok() || *process != target.main.identity || !is_frozen(target)) {
      remarks_.push_back(fmt::format(
          "the engine does not answer; container {} has ended, or is not frozen", target.name));
      return {};
    }
    SQUALL_TRY(thaw(*freezers_[i]));
    remarks_.push_back(
        fmt::format("the engine does not answer, so the cgroup of container {0} was thawed by the "
                    "kernel; an engine that comes back calling it paused is put right by: {1} && "
                    "docker unpause {0} (or podman)",
                    target.name, freeze_by_hand(*freezers_[i])));
    return {};
  }

  bool is_frozen(const ContainerTarget& target) const {
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (targets_[i].id != target.id || !freezers_[i]) continue;
      const auto now = read_freezer(*freezers_[i]);
      return now.ok() && now->asked;
    }
    return false;
  }

  std::string summary() const {
    std::vector<std::string> parts = remarks_;
    if (!resumed_.empty())
      parts.insert(parts.begin(), "the engine resumed " + describe_containers(resumed_));
    return base::join(parts, "; ");
  }

  std::vector<ContainerTarget> targets_;
  std::vector<std::optional<Freezer>> freezers_;  // in the same order
  FaultContext& context_;
  std::vector<base::PidFd> processes_;
  ContainerLook look_;
  EngineRound pausing_;
  EngineRound resuming_;
  std::vector<ContainerTarget> resumed_;
  std::vector<std::string> remarks_;
  std::set<std::string> left_;  // ids of those that are somebody else's by now
  std::set<std::size_t> told_;
  base::Instant since_;
  std::optional<base::Instant> recalled_at_;
  std::optional<base::Instant> unreachable_since_;
  std::optional<base::Instant> verifying_since_;
  bool noted_ = false;
  bool answered_ = false;
};

void describe_pause(const model::SystemMap&, const model::FaultSpecification& fault,
                    model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  planned.changes = {
      {.change = fmt::format("the container engine pauses the container of {}", planned.target),
       .revert = "the engine resumes it, or its cgroup is thawed directly",
       .lifetime = LifetimeClass::kJournaled}};
}

base::Result<model::FaultBinding> bind_pause(const BindRequest& request) {
  SQUALL_ASSIGN(const BoundContainers bound, bind_containers(request));
  for (const ContainerTarget& target : bound.targets)
    SQUALL_TRY(freezer_of(target.main.identity.pid));
  return container_binding(request, bound, LifetimeClass::kJournaled, Json::object());
}

base::Result<std::unique_ptr<Fault>> create_pause(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  SQUALL_ASSIGN(auto targets, containers_of(binding));
  return std::unique_ptr<Fault>{std::make_unique<ContainerPause>(std::move(targets), context)};
}

}  // namespace

extern const FaultKind kContainerPause;
const FaultKind kContainerPause{.descriptor = &kDescriptor,
                                .describe = describe_pause,
                                .bind = bind_pause,
                                .create = create_pause,
                                .rehearse = rehearse_containers,
                                .restores = kRestoresRunning};

}  // namespace squall::inject
