// The lease protocol under virtual time: the product's engine client, keeper and holder, with every
// way to kill or stop one of them, to lose a message or to suspend the machine at every step, to a
// depth of two, in six orders of who goes first. No fault is in force later than one second after
// its deadline, or after the disturbance that nobody could have noticed sooner; and nobody is told
// that a fault is gone while it is not.
//
// SQUALL_PROTOCOL_SHARE=1 tries all pairs (default: one of 256, chosen by SQUALL_PROTOCOL_SEED).

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

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

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string text_of(const std::vector<Disturbance>& plan, const std::vector<StepInfo>& steps) {
  std::string text;
  for (const Disturbance& each : plan) {
    const StepInfo step = each.step < steps.size() ? steps[each.step] : StepInfo{};
    text += fmt::format("{} {} at step {} ({}); ", to_string(each.action), step.process, each.step,
                        step.what);
  }
  return text;
}

class LeaseProtocol : public ::testing::TestWithParam<Scenario> {
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

  std::vector<StepInfo> try_plan(const std::vector<Disturbance>& plan, unsigned order) {
    ++lives_;
    Outcome outcome = live(GetParam(), folder_, plan, order);
    if (!outcome.violation.empty() && ++violations_ <= kShown) {
      ADD_FAILURE() << outcome.violation << ", order " << order << ": "
                    << text_of(plan, outcome.steps);
    }
    return std::move(outcome.steps);
  }

  static std::vector<Action> actions_at(const StepInfo& step) {
    std::vector<Action> actions{Action::kKill, Action::kStop, Action::kStopShort};
    if (step.sends) actions.push_back(Action::kLose);
    if (step.what == "wait") actions.push_back(Action::kSuspend);
    return actions;
  }

  // SQUALL_PROTOCOL_PAIR="kill holder stop keeper": all pairs of that form, and no others.
  static bool is_wanted_pair(Action first, const StepInfo& at, Action second,
                             const StepInfo& then) {
    static const char* wanted = std::getenv("SQUALL_PROTOCOL_PAIR");
    if (wanted == nullptr) return false;
    return wanted == fmt::format("{} {} {} {}", to_string(first), at.process, to_string(second),
                                 then.process);
  }

  std::string folder_;
  std::uint64_t lives_ = 0;
  std::uint64_t violations_ = 0;
};

TEST_P(LeaseProtocol, NoFaultOutlivesItsDeadline) {
  const std::uint64_t share = std::max<std::uint64_t>(1, number_from("SQUALL_PROTOCOL_SHARE", 256));
  std::uint64_t draw = number_from("SQUALL_PROTOCOL_SEED", 1) * 0x9e3779b97f4a7c15u;
  std::uint64_t singles = 0;
  const bool only_pair = std::getenv("SQUALL_PROTOCOL_PAIR") != nullptr;
  const bool until_violation = number_from("SQUALL_PROTOCOL_UNTIL_VIOLATION", 0) != 0;
  for (unsigned order = 0; order < 6; ++order) {
    const Outcome alone = live(GetParam(), folder_, {}, order);
    ASSERT_NEAR(static_cast<double>(alone.lasted) / kSecond, GetParam().asks ? 1.0 : 3.5, 0.3)
        << "it ends when it is asked to, or at its deadline, and not before";
    const std::vector<StepInfo> undisturbed = try_plan({}, order);
    ASSERT_GT(undisturbed.size(), 50u);
    for (std::size_t first = 0; first < undisturbed.size(); ++first) {
      for (const Action action : actions_at(undisturbed[first])) {
        const std::vector<StepInfo> steps = try_plan({{first, action}}, order);
        ++singles;
        if (until_violation && violations_ > 0) return;
        for (std::size_t second = first + 1; second < steps.size(); ++second) {
          for (const Action other : actions_at(steps[second])) {
            draw = draw * 6364136223846793005u + 1442695040888963407u;
            if (only_pair ? !is_wanted_pair(action, undisturbed[first], other, steps[second])
                          : (draw >> 33) % share != 0)
              continue;
            if (until_violation && violations_ > 0) return;
            try_plan({{first, action}, {second, other}}, order);
          }
        }
      }
    }
  }
  std::cout << fmt::format("{} {}: {} lives, {} of them with one disturbance; {} violations\n",
                           GetParam().kind, GetParam().asks ? "asked" : "deadline", lives_, singles,
                           violations_);
}

INSTANTIATE_TEST_SUITE_P(Kinds, LeaseProtocol,
                         ::testing::Values(Scenario{"fake.changed", true},
                                           Scenario{"fake.changed", false},
                                           Scenario{"fake.held", false}),
                         [](const auto& parameter) {
                           return fmt::format(
                               "{}{}", parameter.param.kind == "fake.held" ? "Held" : "Changed",
                               parameter.param.asks ? "Asked" : "Deadline");
                         });

}  // namespace
}  // namespace squall::lease_protocol
