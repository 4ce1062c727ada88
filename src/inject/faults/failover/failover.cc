#include "inject/faults/failover/failover.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "base/units.h"
#include "inject/faults/kinds.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kLook = std::chrono::milliseconds(100);
constexpr base::Duration kBindLimit = std::chrono::seconds(5);

Json roles_json(const std::vector<MemberRole>& roles) {
  Json json = Json::object();
  for (const MemberRole& role : roles) json[role.member] = to_string(role.role);
  return json;
}

class Failover final : public Fault {
 public:
  Failover(FailoverPlan plan, std::unique_ptr<Fault> outage, std::unique_ptr<Handover> handover,
           std::unique_ptr<Roles> roles, FaultContext& context)
      : plan_(std::move(plan)),
        outage_(std::move(outage)),
        handover_(std::move(handover)),
        roles_(std::move(roles)),
        context_(context) {}

  Step arm() override {
    if (since_ == base::Instant{}) since_ = base::BootClock::now();
    if (outage_) return outage_->arm();
    return handover_->begin(context_);
  }

  // Without a handover of our own the fault is in force when the primary is away: how long the
  // system takes to find another one is for the run to measure.
  Step effective() override {
    if (outage_ && !away_) {
      Step step = outage_->effective();
      if (step.state != Step::State::kDone || !handover_) return step;
      away_ = true;
    }
    if (outage_ && !begun_) {
      Step step = handover_->begin(context_);
      if (step.state != Step::State::kDone) return step;
      begun_ = true;
    }
    return await_new_primary();
  }

  Step hold() override {
    if (told_) return outage_ ? outage_->hold() : Step::done({});
    auto found = roles_->look();
    if (!found) return roles_->waiting();
    Step step = Step::wait(kLook);
    const auto fresh = found->ok() ? new_primary(**found) : std::optional<std::string>{};
    const base::Duration took = base::BootClock::now() - since_;
    if (fresh) {
      told_ = true;
      step.text = fmt::format("{} is the new primary of {}, {} after {} was taken away", *fresh,
                              plan_.service, base::humanize(took), plan_.primary);
    } else if (took > plan_.limit) {
      told_ = true;
      step.text = fmt::format("{} has no new primary {} after {} was taken away", plan_.service,
                              base::humanize(took), plan_.primary);
    }
    return step;
  }

  Step revert() override {
    if (handover_) {
      if (auto withdrawn = handover_->withdraw(); !withdrawn.ok())
        return Step::failed(std::move(withdrawn).error());
    }
    if (outage_) return outage_->revert();
    return Step::done("a handover is not undone: the new primary stays");
  }

  // First those members that the outage brings back, then the roles of all.
  Step verify() override {
    if (outage_ && restored_.empty()) {
      Step step = outage_->verify();
      if (step.state != Step::State::kDone) return step;
      restored_ = step.text.empty() ? "nothing to restore" : step.text;
    }
    const base::Instant now = base::BootClock::now();
    if (!verifying_since_) {
      roles_->forget();
      verifying_since_ = now;
    }
    auto found = roles_->look();
    if (!found) return roles_->waiting();
    const bool over = now - *verifying_since_ > plan_.limit;
    if (!found->ok()) {
      if (!over) return Step::wait(kLook);
      restored_.clear();
      verifying_since_.reset();
      return Step::failed(found->error());
    }
    const std::vector<std::string> primaries = primaries_of(**found);
    const bool all_said =
        std::none_of(found->value().begin(), found->value().end(),
                     [](const MemberRole& role) { return role.role == Role::kUnknown; });
    if (primaries.size() == 1 && all_said) {
      const std::string end =
          primaries.front() == plan_.primary
              ? fmt::format("{} is the primary again", plan_.primary)
              : fmt::format("{} is the primary in place of {}", primaries.front(), plan_.primary);
      std::string text = fmt::format("exactly one primary: {} ({})", end, describe_roles(**found));
      if (!restored_.empty()) text += "; " + restored_;
      return Step::done(text, Json{{"primary", primaries.front()},
                                   {"before", plan_.primary},
                                   {"roles", roles_json(**found)}}
                                  .dump());
    }
    if (!over) return Step::wait(kLook);
    restored_.clear();
    verifying_since_.reset();
    if (primaries.size() == 1) {
      return Step::failed(base::Error{
          .code = base::ErrorCode::kRevertNotVerified,
          .message =
              fmt::format("not every member of {} says what it is {} after the revert: {}",
                          plan_.service, base::humanize(plan_.limit), describe_roles(**found)),
          .hint = "find out whether the one that does not answer takes writes"});
    }
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = primaries.empty()
                       ? fmt::format("{} has NO primary {} after the revert: {}", plan_.service,
                                     base::humanize(plan_.limit), describe_roles(**found))
                       : fmt::format("{} has {} PRIMARIES {} after the revert: {}", plan_.service,
                                     primaries.size(), base::humanize(plan_.limit),
                                     base::enumerate(primaries)),
        .hint = primaries.empty() ? "promote a replica, or start the old primary by hand"
                                  : "stop writing, fence one of them now, and rebuild it from the "
                                    "other: both take writes that the other will not have"});
  }

  void recall(const Json& found) override {
    if (outage_) outage_->recall(found);
    if (handover_) handover_->recall(found);
  }

 private:
  std::optional<std::string> new_primary(const std::vector<MemberRole>& roles) const {
    for (const std::string& name : primaries_of(roles)) {
      if (name != plan_.primary) return name;
    }
    return std::nullopt;
  }

  Step await_new_primary() {
    auto found = roles_->look();
    if (!found) return roles_->waiting();
    const auto fresh = found->ok() ? new_primary(**found) : std::optional<std::string>{};
    const base::Duration took = base::BootClock::now() - since_;
    if (fresh) {
      told_ = true;
      return Step::done(fmt::format("{} is the new primary of {} in place of {}, after {}", *fresh,
                                    plan_.service, plan_.primary, base::humanize(took)),
                        Json{{"primary", *fresh},
                             {"before", plan_.primary},
                             {"took_ns", took.count()},
                             {"roles", roles_json(**found)}}
                            .dump());
    }
    if (took < plan_.limit) return Step::wait(kLook);
    return Step::failed(base::Error{
        .code = base::ErrorCode::kTimeout,
        .message =
            fmt::format("{} has no new primary after {}", plan_.service, base::humanize(took)),
        .hint = found->ok() ? describe_roles(**found) : found->error().to_string()});
  }

  FailoverPlan plan_;
  std::unique_ptr<Fault> outage_;
  std::unique_ptr<Handover> handover_;
  std::unique_ptr<Roles> roles_;
  FaultContext& context_;
  base::Instant since_;
  std::optional<base::Instant> verifying_since_;
  std::string restored_;
  bool away_ = false;
  bool begun_ = false;
  bool told_ = false;
};

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::kPrimary:
      return "primary";
    case Role::kReplica:
      return "replica";
    case Role::kUnknown:
      return "unknown";
    case Role::kDown:
      break;
  }
  return "down";
}

std::vector<std::string> primaries_of(const std::vector<MemberRole>& roles) {
  std::vector<std::string> names;
  for (const MemberRole& role : roles) {
    if (role.role == Role::kPrimary) names.push_back(role.member);
  }
  return names;
}

std::string describe_roles(const std::vector<MemberRole>& roles) {
  std::vector<std::string> parts;
  for (const MemberRole& role : roles) {
    std::string part = fmt::format("{} is ", role.member);
    if (role.role == Role::kPrimary)
      part += "the primary";
    else if (role.role == Role::kReplica)
      part += "a replica";
    else
      part += role.text.empty() ? std::string(to_string(role.role))
                                : fmt::format("{} ({})", to_string(role.role), role.text);
    parts.push_back(std::move(part));
  }
  return base::enumerate(parts);
}

std::unique_ptr<Fault> make_failover(FailoverPlan plan, std::unique_ptr<Fault> outage,
                                     std::unique_ptr<Handover> handover,
                                     std::unique_ptr<Roles> roles, FaultContext& context) {
  return std::make_unique<Failover>(std::move(plan), std::move(outage), std::move(handover),
                                    std::move(roles), context);
}

base::Result<model::FaultBinding> bind_outage(const BindRequest& request, std::string_view kind,
                                              const std::string& member, Json parameters) {
  const FaultKind* outage = find_kind(kind);
  SQUALL_CHECK(outage != nullptr);
  model::FaultSpecification fault = request.fault;
  fault.kind = outage->descriptor;
  parameters["service"] = request.fault.parameters.text("service");
  parameters["member"] = member;
  parameters["count"] = 1;
  parameters["random"] = true;
  fault.parameters = model::Parameters{std::move(parameters)};
  SQUALL_ASSIGN(model::FaultBinding binding,
                outage->bind({.map = request.map,
                              .fault = fault,
                              .planned = request.planned,
                              .host = request.host,
                              .seed = request.seed,
                              .state_directory = request.state_directory,
                              .record_directory = request.record_directory}));
  binding.kind = request.fault.kind->name;
  binding.lifetime = model::LifetimeClass::kOneWay;
  Json details = binding.details.json();
  details["outage"] = kind;
  binding.details = model::Parameters{std::move(details)};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_outage(const model::FaultBinding& binding,
                                                   FaultContext& context) {
  const std::string name = text_field(binding.details.json(), "outage");
  if (name.empty()) return std::unique_ptr<Fault>{};
  const FaultKind* kind = find_kind(name);
  if (kind == nullptr || !name.starts_with("process.")) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no process kind for its outage"};
  }
  model::FaultBinding copy = binding;
  copy.kind = name;
  return kind->create(copy, context);
}

base::Result<Reach> reach_outage(const model::FaultBinding& binding) {
  const std::string name = text_field(binding.details.json(), "outage");
  if (name.empty()) return Reach{};
  const FaultKind* kind = find_kind(name);
  if (kind == nullptr || (name != "process.kill" && name != "process.pause")) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no process kind for its outage"};
  }
  model::FaultBinding copy = binding;
  copy.kind = name;
  return kind->reach(copy);
}

base::Result<std::string> rehearse_outage(const model::FaultBinding& binding,
                                          FaultContext& context) {
  const std::string name = text_field(binding.details.json(), "outage");
  const FaultKind* kind = find_kind(name);
  if (name.empty() || kind == nullptr)
    return std::string{"the servers answer; a handover cannot be tried without making one"};
  model::FaultBinding copy = binding;
  copy.kind = name;
  return kind->rehearse(copy, context);
}

FailoverPlan failover_plan_of(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  return {.service = text_field(field(details, "service"), "name"),
          .primary = text_field(details, "primary"),
          .limit = base::Duration{integer_field(details, "failover_limit_ns")}};
}

base::Result<std::vector<MemberRole>> look_now(Roles& roles) {
  const base::Instant deadline = base::BootClock::now() + kBindLimit;
  while (base::BootClock::now() < deadline) {
    if (auto found = roles.look()) return std::move(*found);
    const Step step = roles.waiting();
    std::vector<pollfd> requests;
    for (const int fd : step.descriptors)
      requests.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    ::poll(requests.data(), requests.size(), 5);
  }
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = "the members do not say what role they have"};
}

base::Result<std::string> only_primary(const std::string& service,
                                       const std::vector<MemberRole>& roles) {
  const std::vector<std::string> primaries = primaries_of(roles);
  const bool heir = std::any_of(roles.begin(), roles.end(),
                                [](const MemberRole& role) { return role.role == Role::kReplica; });
  if (primaries.size() == 1 && heir) return primaries.front();
  return base::Error{
      .code = base::ErrorCode::kConflict,
      .message =
          fmt::format("{} has {} primaries{}: {}", service, primaries.size(),
                      heir ? "" : " and no replica that could take over", describe_roles(roles)),
      .hint =
          "a failover needs one primary and a replica that runs; `members` of the map names "
          "them, each with `listens`"};
}

}  // namespace squall::inject
