#include "inject/faults/container/down.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#include "base/units.h"
#include "host/containers.h"
#include "inject/json_fields.h"
#include "inject/service_json.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kLook = std::chrono::milliseconds(50);
constexpr base::Duration kHoldLook = std::chrono::milliseconds(500);
constexpr base::Duration kActLimit = std::chrono::seconds(30);  // beside the grace
// The engine may still be at work on what a dead holder asked for.
constexpr base::Duration kReplayGrace = std::chrono::seconds(1);

struct TakedownPlan {
  Takedown takedown;
  Restore restore = Restore::kStart;
  base::Duration limit{};
  model::Service service;
};

// A container of the service that was not there at bind, for `restore: await`.
class Replacements {
 public:
  Replacements(const std::vector<ContainerTarget>& lost, const model::Service& service)
      : lost_(lost), service_(service) {}

  // One sentence when there are as many as were lost; absent while not. Sets `waiting` when the
  // engine has not answered yet.
  std::optional<std::string> look(std::optional<Step>& waiting) {
    if (!candidates_) {
      if (!list_) {
        list_.emplace(host::UnixHttpExchange::Request{.socket = lost_.front().engine,
                                                      .method = "GET",
                                                      .target = "/containers/json?all=true",
                                                      .answer_limit = std::size_t{16} << 20});
      }
      auto answer = list_->advance();
      if (answer.ok() && !*answer) {
        waiting = Step::wait_for({list_->fd()}, kLook);
        return std::nullopt;
      }
      list_.reset();
      if (!answer.ok() || (*answer)->status != 200) return std::nullopt;
      candidates_ = candidates_in((*answer)->body);
    }
    if (candidates_->empty()) {
      candidates_.reset();
      return std::nullopt;
    }
    const auto states = look_.look(*candidates_);
    if (!states) {
      waiting = look_.waiting();
      return std::nullopt;
    }
    return judge(*states);
  }

 private:
  std::vector<ContainerTarget> candidates_in(std::string_view json) const {
    std::vector<ContainerTarget> found;
    const auto containers = host::parse_containers(json);
    if (!containers.ok()) return found;
    for (const host::Container& container : *containers) {
      const bool ours = std::any_of(lost_.begin(), lost_.end(), [&](const ContainerTarget& target) {
        return target.id == container.id || target.name == container.name;
      });
      const bool selected =
          !service_.container.empty() && host::selects(service_.container, container);
      if (!ours && !selected) continue;
      found.push_back({.main = {.member = {}, .identity = {}, .description = container.name},
                       .engine = lost_.front().engine,
                       .id = container.id,
                       .name = container.name});
    }
    return found;
  }

  std::optional<std::string> judge(const ContainerLook::States& states) {
    std::vector<std::string> fresh;
    for (std::size_t i = 0; i < states.size(); ++i) {
      if (!states[i].ok() || !states[i]->running) continue;
      const pid_t pid = states[i]->pid;
      const auto identity = base::identify_process(pid);
      const bool before = std::any_of(before_.begin(), before_.end(), [&](const Target& target) {
        return identity.ok() && target.identity == *identity;
      });
      if (!before && identity.ok())
        fresh.push_back(fmt::format("container {} (pid {})", (*candidates_)[i].name, pid));
    }
    candidates_.reset();
    if (fresh.size() < lost_.size()) return std::nullopt;
    return base::enumerate(fresh);
  }

 public:
  void set_before(std::vector<Target> before) { before_ = std::move(before); }

 private:
  const std::vector<ContainerTarget>& lost_;
  const model::Service& service_;
  std::vector<Target> before_;
  std::optional<host::UnixHttpExchange> list_;
  std::optional<std::vector<ContainerTarget>> candidates_;
  ContainerLook look_;
};

class ContainerDown final : public Fault {
 public:
  ContainerDown(std::vector<ContainerTarget> targets, std::vector<Target> before, TakedownPlan plan,
                FaultContext& context)
      : targets_(std::move(targets)),
        plan_(std::move(plan)),
        replacements_(targets_, plan_.service),
        context_(context) {
    replacements_.set_before(std::move(before));
  }

  Step arm() override {
    if (!acting_.begun()) {
      const auto states = look_.look(targets_);
      if (!states) return look_.waiting();
      if (auto ready = prepare(*states); !ready.ok()) return Step::failed(ready.error());
      since_ = base::BootClock::now();
      acting_.begin(targets_, "POST", plan_.takedown.path, plan_.takedown.grace + kActLimit);
    }
    if (!acting_.advance()) return acting_.waiting();
    if (auto noted = context_.note({{"answered", true}}); !noted.ok())
      return Step::failed(noted.error());
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      auto answered = check_answer(acting_.answer(i), targets_[i], plan_.takedown.verb);
      if (!answered.ok()) return Step::failed(std::move(answered).error());
    }
    return Step::done(fmt::format("the engine did `{}` to {}", plan_.takedown.verb,
                                  describe_containers(targets_)));
  }

  Step effective() override {
    std::vector<int> alive;
    for (const base::PidFd& process : processes_) {
      if (!process.ended()) alive.push_back(process.get());
    }
    if (!alive.empty()) return Step::wait_for(std::move(alive));
    if (!ended_) ended_ = base::BootClock::now() - since_;
    const auto states = look_.look(targets_);
    if (!states) return look_.waiting();
    Json proof = Json::array();
    std::vector<std::string> now;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const auto& state = (*states)[i];
      if (!state.ok()) return Step::failed(state.error());
      if (plan_.takedown.comes_back && !runs(*state)) return Step::wait(kLook);
      now.push_back(describe_change(targets_[i], *state));
      proof.push_back({{"id", targets_[i].id}, {"status", state->status}, {"pid", state->pid}});
    }
    return Step::done(
        fmt::format("{} ended {} after `{}`; {}", describe_containers(targets_),
                    base::humanize(*ended_), plan_.takedown.verb, base::enumerate(now)),
        Json{{"containers", proof}}.dump());
  }

  // Tells once what others do to a container meanwhile.
  Step hold() override {
    const auto states = look_.look(targets_);
    if (!states) return look_.waiting();
    Step step = Step::wait(kHoldLook);
    std::vector<std::string> news;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const auto& state = (*states)[i];
      if (!state.ok() || told_.contains(i)) continue;
      const bool as_left = plan_.takedown.comes_back ? runs(*state) : !state->running;
      if (as_left && state->exists) continue;
      told_.insert(i);
      news.push_back(describe_change(targets_[i], *state));
    }
    if (!news.empty()) step.text = base::enumerate(news) + " during the fault, by somebody else";
    return step;
  }

  Step revert() override {
    if (!noted_) return Step::done("nothing was taken down");
    // What was asked for may be done after we have looked: first its answer.
    if (acting_.begun() && !acting_.advance()) return acting_.waiting();
    if (plan_.restore == Restore::kNone) return Step::done("left down, as the plan says");
    if (plan_.restore == Restore::kAwait)
      return Step::done("waiting for whoever replaces " + describe_containers(targets_));
    if (!starting_.begun()) {
      const auto states = look_.look(targets_);
      if (!states) return look_.waiting();
      if (still_to_come()) return Step::wait(kLook);
      started_.clear();
      remarks_.clear();
      for (std::size_t i = 0; i < targets_.size(); ++i) {
        const auto& state = (*states)[i];
        if (!state.ok()) return Step::failed(state.error());
        if (state->exists && !state->running && state->status != "restarting")
          started_.push_back(targets_[i]);
        else
          remarks_.push_back(remark(targets_[i], *state));
      }
      if (started_.empty()) return Step::done(summary());
      starting_.begin(started_, "POST", "/start", kActLimit);
    }
    if (!starting_.advance()) return starting_.waiting();
    std::optional<base::Error> trouble;
    for (std::size_t i = 0; i < started_.size(); ++i) {
      auto answered = check_answer(starting_.answer(i), started_[i], "start");
      if (!answered.ok() && !trouble) trouble = std::move(answered).error();
    }
    starting_.forget();
    return trouble ? Step::failed(*std::move(trouble)) : Step::done(summary());
  }

  Step verify() override {
    if (!noted_) return Step::done("nothing was taken down");
    if (plan_.restore == Restore::kNone)
      return Step::done("left down, as the plan says: " + describe_containers(targets_));
    const base::Instant now = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = now;
    if (plan_.restore == Restore::kAwait) return await_replacement(now);
    const auto states = look_.look(targets_);
    if (!states) return look_.waiting();
    std::vector<std::string> texts;
    Json proof = Json::array();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const auto& state = (*states)[i];
      if (!state.ok()) return Step::failed(state.error());
      if (state->exists && !runs(*state)) return not_yet(now, targets_[i], *state);
      texts.push_back(state->exists
                          ? fmt::format("container {} runs as pid {}", targets_[i].name, state->pid)
                          : remark(targets_[i], *state));
      proof.push_back({{"id", targets_[i].id},
                       {"status", state->status},
                       {"pid", state->pid},
                       {"started_at", state->started_at}});
    }
    return Step::done(base::enumerate(texts), Json{{"containers", proof}}.dump());
  }

  void recall(const Json& found) override {
    answered_ = answered_ || boolean_field(found, "answered");
    if (!found.contains("taking_down")) return;
    noted_ = true;
    recalled_at_ = base::BootClock::now();
  }

 private:
  base::Status prepare(const ContainerLook::States& states) {
    std::vector<Target> mains;
    Json list = Json::array();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (!states[i].ok()) return states[i].error();
      if (!same_life(targets_[i], *states[i])) {
        return base::Error{
            .code = base::ErrorCode::kNotFound,
            .message = describe_change(targets_[i], *states[i]) + " between bind and arm",
            .hint = "find out why it ends by itself, then run again"};
      }
      mains.push_back(targets_[i].main);
      list.push_back({{"id", targets_[i].id},
                      {"before", states[i]->status},
                      {"started_at", states[i]->started_at}});
    }
    SQUALL_ASSIGN(processes_, open_targets(mains));
    SQUALL_TRY(context_.note({{"taking_down", list}}));
    noted_ = true;
    return {};
  }

  // The engine's word, and the kernel's.
  static bool runs(const ContainerState& state) {
    return state.running && state.pid > 0 && base::identify_process(state.pid).ok();
  }

  // A replay does not know whether the engine still does what it was asked for.
  bool still_to_come() const {
    if (!recalled_at_ || answered_ ||
        base::BootClock::now() - *recalled_at_ > kReplayGrace + plan_.takedown.grace)
      return false;
    return std::any_of(targets_.begin(), targets_.end(), [](const ContainerTarget& target) {
      const auto process = base::identify_process(target.main.identity.pid);
      return process.ok() && *process == target.main.identity;
    });
  }

  std::string remark(const ContainerTarget& target, const ContainerState& state) const {
    if (!state.exists)
      return fmt::format("container {} was removed by somebody else, so nothing is started",
                         target.name);
    if (same_life(target, state))
      return fmt::format("container {} still runs: `{}` did not end it", target.name,
                         plan_.takedown.verb);
    return fmt::format("container {} runs again by itself (pid {})", target.name, state.pid);
  }

  std::string summary() const {
    std::vector<std::string> parts = remarks_;
    if (!started_.empty())
      parts.insert(parts.begin(), "the engine started " + describe_containers(started_));
    return base::join(parts, "; ");
  }

  Step not_yet(base::Instant now, const ContainerTarget& target, const ContainerState& state) {
    if (now - *verifying_since_ < plan_.limit) return Step::wait(kLook);
    verifying_since_.reset();
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = fmt::format("{}: container {} is {}", base::humanize(plan_.limit),
                                           target.name, state.status),
                    .hint = fmt::format("look at its log, then: docker start {}", target.name)});
  }

  Step await_replacement(base::Instant now) {
    std::optional<Step> waiting;
    const auto found = replacements_.look(waiting);
    if (waiting) return *std::move(waiting);
    if (found) {
      return Step::done(
          fmt::format("{} runs in place of {}", *found, describe_containers(targets_)));
    }
    if (now - *verifying_since_ < plan_.limit) return Step::wait(kLook);
    verifying_since_.reset();
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = fmt::format("{} after the revert nothing runs in place of {}",
                               base::humanize(plan_.limit), describe_containers(targets_)),
        .hint = fmt::format("who should start it? docker start {}", targets_.front().name)});
  }

  std::vector<ContainerTarget> targets_;
  TakedownPlan plan_;
  Replacements replacements_;
  FaultContext& context_;
  std::vector<base::PidFd> processes_;
  ContainerLook look_;
  EngineRound acting_;
  EngineRound starting_;
  std::vector<ContainerTarget> started_;
  std::vector<std::string> remarks_;
  std::set<std::size_t> told_;
  base::Instant since_;
  std::optional<base::Duration> ended_;
  std::optional<base::Instant> recalled_at_;
  std::optional<base::Instant> verifying_since_;
  bool noted_ = false;
  bool answered_ = false;
};

}  // namespace

Json to_json(const Takedown& takedown) {
  return {{"verb", takedown.verb},
          {"path", takedown.path},
          {"grace_ns", takedown.grace.count()},
          {"comes_back", takedown.comes_back}};
}

base::Result<model::FaultBinding> bind_takedown(const BindRequest& request,
                                                const Takedown& takedown, Restore restore,
                                                model::LifetimeClass lifetime) {
  SQUALL_ASSIGN(const BoundContainers bound, bind_containers(request));
  for (std::size_t i = 0; i < bound.targets.size(); ++i) {
    if (restore != Restore::kStart || !bound.states[i].removes_itself) continue;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the engine removes container {} when it ends (--rm): nothing would "
                               "be there to start again",
                               bound.targets[i].name),
        .hint =
            "run it without --rm, or use container.pause; container.kill takes `restore: "
            "await` where somebody replaces it"};
  }
  return container_binding(request, bound, lifetime,
                           {{"takedown", to_json(takedown)},
                            {"restore", to_string(restore)},
                            {"limit_ns", request.fault.parameters.duration("limit").count()}});
}

base::Result<std::unique_ptr<Fault>> create_takedown(const model::FaultBinding& binding,
                                                     FaultContext& context) {
  const Json& details = binding.details.json();
  SQUALL_ASSIGN(auto targets, containers_of(binding));
  const Json& takedown = field(details, "takedown");
  TakedownPlan plan;
  plan.takedown = {.verb = text_field(takedown, "verb"),
                   .path = text_field(takedown, "path"),
                   .grace = base::Duration{integer_field(takedown, "grace_ns")},
                   .comes_back = boolean_field(takedown, "comes_back")};
  SQUALL_ASSIGN(Revival::Plan revival, Revival::plan_of(binding));
  plan.restore = revival.restore;
  plan.limit = revival.limit;
  plan.service = std::move(revival.service);
  if (plan.takedown.path.empty() || plan.takedown.grace < base::Duration::zero())
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not say what to do to its containers"};
  return std::unique_ptr<Fault>{std::make_unique<ContainerDown>(
      std::move(targets), std::move(revival.before), std::move(plan), context)};
}

}  // namespace squall::inject
