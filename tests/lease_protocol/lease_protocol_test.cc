// The lease protocol under virtual time: the product's engine client, keeper and holder, with every
// way to kill or stop one of them, to lose a message or to suspend the machine at every step, to a
// depth of two (and chosen triples), in six orders of who goes first. No fault is in force later
// than one second after its deadline, or after the disturbance that nobody could have noticed
// sooner; and nobody is told that a fault is gone while it is not.
//
// SQUALL_PROTOCOL_SHARE=1 tries all pairs (default: one of 512, chosen by SQUALL_PROTOCOL_SEED).
// SQUALL_PROTOCOL_FORM="kill holder stop keeper": only what has that form, of any length;
// "nothing": the undisturbed life alone.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "protocol.h"

namespace squall::lease_protocol {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

constexpr std::uint64_t kShown = 5;
constexpr unsigned kOrders = 6;
// Nobody but the keeper is left, and its first attempt to undo what the holder held fails.
constexpr std::array kTriples{"kill holder kill engine lose keeper",
                              "kill engine kill holder lose keeper"};
using Steps = std::vector<StepInfo>;
using Plan = std::vector<Disturbance>;

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string text_of(const Plan& plan, const Steps& steps) {
  std::string text;
  for (const Disturbance& each : plan) {
    const StepInfo step = each.step < steps.size() ? steps[each.step] : StepInfo{};
    text += fmt::format("{} {} at step {} ({}); ", to_string(each.action), step.process, each.step,
                        step.what);
  }
  return text;
}

std::vector<Action> actions_at(const StepInfo& step) {
  std::vector<Action> actions{Action::kKill, Action::kStop, Action::kStopShort};
  if (step.sends) actions.push_back(Action::kLose);
  if (step.what == "wait") actions.push_back(Action::kSuspend);
  return actions;
}

struct Case {
  Scenario scenario;
  unsigned order = 0;
};

std::string text_of(const Case& one) {
  return fmt::format("{}{}{}", one.scenario.kind == "fake.held" ? "Held" : "Changed",
                     one.scenario.asks ? "Asked" : "Deadline", one.order);
}
void PrintTo(const Case& one, std::ostream* out) {
  *out << text_of(one);
}

class LeaseProtocol : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "the engine's client asks for root";
    if (kSanitized) GTEST_SKIP() << "the sanitizers do not know these fibers";
    folder_ = fmt::format("/dev/shm/squall-protocol-{}", ::getpid());
    std::filesystem::create_directory(folder_);
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all);
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  Steps try_plan(const Plan& plan) {
    ++lives_;
    Outcome outcome = live(GetParam().scenario, folder_, plan, GetParam().order);
    if (!outcome.violation.empty() && ++violations_ <= kShown)
      ADD_FAILURE() << outcome.violation << ": " << text_of(plan, outcome.steps);
    return std::move(outcome.steps);
  }

  bool enough() const { return until_violation_ && violations_ > 0; }

  // Calls `each` for every disturbance that may follow those of `plan`, whose life had `steps`.
  template <typename Each>
  void for_each_next(const Plan& plan, const Steps& steps, const Each& each) {
    for (std::size_t at = plan.empty() ? 0 : plan.back().step + 1; at < steps.size(); ++at) {
      for (const Action action : actions_at(steps[at])) {
        if (enough()) return;
        Plan longer = plan;
        longer.push_back({at, action});
        each(longer, steps[at]);
      }
    }
  }

  // `done`: the part of the form that `plan` has.
  void try_form(const std::string& form, const Plan& plan, const Steps& steps,
                const std::string& done) {
    for_each_next(plan, steps, [&](const Plan& longer, const StepInfo& step) {
      const std::string now = fmt::format("{}{}{} {}", done, done.empty() ? "" : " ",
                                          to_string(longer.back().action), step.process);
      if (form != now && !form.starts_with(now + " ")) return;
      const Steps more = try_plan(longer);
      if (form != now) try_form(form, longer, more, now);
    });
  }

  // Singles first: what they show, pairs show only more slowly.
  void try_all(const Steps& undisturbed) {
    std::vector<std::pair<Plan, Steps>> singles;
    for_each_next({}, undisturbed, [&](const Plan& plan, const StepInfo&) {
      singles.emplace_back(plan, try_plan(plan));
    });
    singles_ = singles.size();
    const std::uint64_t share =
        std::max<std::uint64_t>(1, number_from("SQUALL_PROTOCOL_SHARE", 512));
    std::uint64_t draw =
        (number_from("SQUALL_PROTOCOL_SEED", 1) * kOrders + GetParam().order) * 0x9e3779b97f4a7c15u;
    for (const auto& [single, steps] : singles) {
      for_each_next(single, steps, [&](const Plan& pair, const StepInfo&) {
        draw = draw * 6364136223846793005u + 1442695040888963407u;
        if ((draw >> 33) % share == 0) try_plan(pair);
      });
    }
    if (share > 1 && !GetParam().scenario.asks) return;
    for (const char* triple : kTriples) try_form(triple, {}, undisturbed, "");
  }

  std::string folder_;
  const bool until_violation_ = number_from("SQUALL_PROTOCOL_UNTIL_VIOLATION", 0) != 0;
  std::uint64_t lives_ = 0;
  std::uint64_t singles_ = 0;
  std::uint64_t violations_ = 0;
};

TEST_P(LeaseProtocol, NoFaultOutlivesItsDeadline) {
  const Scenario& scenario = GetParam().scenario;
  const Outcome alone = live(scenario, folder_, {}, GetParam().order);
  ASSERT_NEAR(static_cast<double>(alone.lasted) / kSecond, scenario.asks ? 1.0 : 3.5, 0.3)
      << "it ends when it is asked to, or at its deadline, and not before";
  const Steps undisturbed = try_plan({});
  ASSERT_GT(undisturbed.size(), 50u);
  const char* form = std::getenv("SQUALL_PROTOCOL_FORM");
  if (form == nullptr)
    try_all(undisturbed);
  else
    try_form(form, {}, undisturbed, "");
  std::cout << fmt::format("{}: {} lives, {} of them with one disturbance; {} violations\n",
                           text_of(GetParam()), lives_, singles_, violations_);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Scenario& scenario :
       {Scenario{"fake.changed", true}, {"fake.changed", false}, {"fake.held", false}}) {
    for (unsigned order = 0; order < kOrders; ++order) all.push_back({scenario, order});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Kinds, LeaseProtocol, ::testing::ValuesIn(cases()),
                         [](const auto& parameter) { return text_of(parameter.param); });

}  // namespace
}  // namespace squall::lease_protocol
