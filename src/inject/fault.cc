#include "inject/fault.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"

namespace squall::inject {

namespace {

constexpr base::Duration kRehearsalLimit = std::chrono::seconds(2);

void wait_as_asked(const Step& step, base::Instant deadline) {
  std::vector<pollfd> requests;
  for (const int fd : step.descriptors)
    requests.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  base::Duration left = std::max(base::Duration::zero(), deadline - base::BootClock::now());
  if (step.again > base::Duration::zero()) left = std::min(left, step.again);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
  const int ready = ::ppoll(requests.data(), requests.size(), &timeout, nullptr);
  SQUALL_CHECK(ready >= 0 || errno == EINTR);
}

}  // namespace

model::FaultBinding new_binding(const BindRequest& request, std::string_view mechanism,
                                model::LifetimeClass lifetime) {
  model::FaultBinding binding;
  binding.fault = request.fault.name;
  binding.kind = request.fault.kind->name;
  binding.mechanism = mechanism;
  binding.lifetime = lifetime;
  return binding;
}

std::uint64_t seed_of(const BindRequest& request) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a of the fault's name
  for (const char c : request.fault.name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  return request.seed ^ hash;
}

Step Step::done(std::string text, std::string proof) {
  Step step;
  step.text = std::move(text);
  step.proof = std::move(proof);
  return step;
}

Step Step::wait_for(std::vector<int> descriptors, base::Duration again) {
  Step step;
  step.state = State::kWaiting;
  step.descriptors = std::move(descriptors);
  step.again = again;
  return step;
}

Step Step::wait(base::Duration again) {
  return wait_for({}, again);
}

Step either(Step first, Step second) {
  const auto is_over = [](const Step& step) { return step.state != Step::State::kWaiting; };
  if (second.state == Step::State::kFailed || first.state == Step::State::kDone) return second;
  if (is_over(first) || second.state == Step::State::kDone) return first;
  first.descriptors.insert(first.descriptors.end(), second.descriptors.begin(),
                           second.descriptors.end());
  const bool timed = first.again > base::Duration::zero() && second.again > base::Duration::zero();
  first.again = timed ? std::min(first.again, second.again) : std::max(first.again, second.again);
  first.text += (first.text.empty() || second.text.empty() ? "" : "; ") + second.text;
  return first;
}

Step Step::failed(base::Error error) {
  Step step;
  step.state = State::kFailed;
  step.text = error.to_string();
  step.error = std::move(error);
  return step;
}

Step Step::broken(base::Error error) {
  Step step = failed(std::move(error));
  step.is_broken = true;
  return step;
}

base::Result<Step> drive(Fault& fault, Step (Fault::*step)(), base::Duration limit,
                         void (*poke)(void*), void* poke_argument) {
  const base::Instant deadline = base::BootClock::now() + limit;
  while (true) {
    if (poke != nullptr) poke(poke_argument);
    Step result = (fault.*step)();
    if (result.state == Step::State::kDone) return result;
    if (result.state == Step::State::kFailed) return result.error;
    if (base::BootClock::now() >= deadline) {
      return base::Error{.code = base::ErrorCode::kTimeout,
                         .message = fmt::format("not done after {}", base::format_duration(limit))};
    }
    wait_as_asked(result, deadline);
  }
}

base::Result<std::string> rehearse_life(Fault& fault, std::string_view what, void (*poke)(void*),
                                        void* poke_argument) {
  const base::Instant start = base::BootClock::now();
  auto armed = drive(fault, &Fault::arm, kRehearsalLimit, poke, poke_argument);
  auto effective = armed.ok()
                       ? drive(fault, &Fault::effective, kRehearsalLimit, poke, poke_argument)
                       : base::Result<Step>{armed.error()};
  const base::Instant middle = base::BootClock::now();
  auto reverted = drive(fault, &Fault::revert, kRehearsalLimit);
  auto verified = drive(fault, &Fault::verify, kRehearsalLimit);
  const base::Instant end = base::BootClock::now();
  if (!armed.ok()) return std::move(armed).error().within("rehearsing: arming");
  if (!effective.ok()) return std::move(effective).error().within("rehearsing: waiting for effect");
  if (!reverted.ok()) return std::move(reverted).error().within("rehearsing: reverting");
  if (!verified.ok()) return std::move(verified).error().within("rehearsing: verifying the revert");
  return fmt::format("{}: in force after {}, reverted and verified in {}", what,
                     base::humanize(middle - start), base::humanize(end - middle));
}

}  // namespace squall::inject
