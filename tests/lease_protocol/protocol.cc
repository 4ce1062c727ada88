#include "protocol.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/clock.h"
#include "fake_faults.h"
#include "inject/client.h"
#include "inject/holder.h"
#include "inject/keeper.h"
#include "inject/programs.h"
#include "inject/state_directory.h"

namespace squall::lease_protocol {

namespace {

using namespace std::chrono_literals;

constexpr base::Duration kShortLease = 3500ms;  // but longer than an engine may be silent
constexpr base::Duration kLongLease = 12s;      // for an engine that asks
constexpr base::Duration kAskAfter = 1s;
constexpr base::Duration kRenewal = 500ms;
constexpr base::Duration kEngineLimit = 25s;
constexpr int kTurnMilliseconds = 250;
constexpr Nanoseconds kLimit = 90 * kSecond;

base::Duration lease_of(const Scenario& scenario) {
  return scenario.asks ? kLongLease : kShortLease;
}

class Engine {
 public:
  Engine(const Scenario& scenario, std::string folder, Outcome& outcome)
      : scenario_(scenario), folder_(std::move(folder)), outcome_(outcome) {}

  int run() {
    Machine::current()->self().throws = false;
    inject::HolderOptions options;
    options.run = "simulated";
    options.state_directory = folder_;
    options.keeper_argv = {"keeper"};
    auto client = inject::HolderClient::start(options);
    if (!client.ok()) return 1;
    client_ = std::move(*client);
    const int status = drive();
    // An engine that was killed or gave up leaves a fault to its keeper and holder.
    Machine::current()->stop_recording = status == 0;
    client_.reset();
    return status;
  }

 private:
  int drive() {
    model::FaultBinding binding;
    binding.fault = "simulated";
    binding.kind = scenario_.kind;
    binding.mechanism = "none";
    const auto lease = client_->arm({.binding = binding, .duration = lease_of(scenario_)});
    if (!lease.ok()) return 2;
    const base::Instant start = base::BootClock::now();
    base::Instant renewed = start;
    bool asked = !scenario_.asks;
    while (base::BootClock::now() - start < kEngineLimit) {
      inject::PollSet events;
      events.watch(client_->fd());
      events.wait(kTurnMilliseconds);
      if (Machine::current()->self().dying) return 7;
      const base::Instant now = base::BootClock::now();
      if (now - renewed >= kRenewal) {
        renewed = now;
        if (auto done = client_->renew(); !done.ok()) return 3;
      }
      const auto news = client_->take_events();
      if (!news.ok()) return 4;
      for (const inject::LeaseEvent& event : *news) {
        if (is_gone(event)) return 0;
      }
      if (!asked && now - start >= kAskAfter) {
        asked = true;
        outcome_.asked_at = base::to_nanoseconds(now);
        if (auto done = client_->revert(*lease, "asked"); !done.ok()) return 5;
      }
    }
    return 6;
  }

  bool is_gone(const inject::LeaseEvent& event) {
    const bool claims = event.state == inject::LeaseState::kVerified ||
                        (event.state == inject::LeaseState::kFailed && !event.still_active);
    if (claims && !event.notice && world().in_force())
      outcome_.violation = fmt::format("told {} while it is in force", to_string(event.state));
    return claims && !event.notice;
  }

  const Scenario& scenario_;
  std::string folder_;
  Outcome& outcome_;
  std::unique_ptr<inject::HolderClient> client_;
};

// As holder_main() and receive_greeting().
int holder_main(std::vector<base::UniqueFd>& descriptors) {
  auto programs = inject::fork_starter();
  inject::PollSet events;
  events.watch(descriptors[2].get());
  events.wait(5000);
  const auto packet = inject::receive_packet(descriptors[2].get());
  if (!packet.ok()) return 1;
  auto message = inject::decode(*packet);
  auto* hello = message.ok() ? std::get_if<inject::Hello>(&*message) : nullptr;
  if (hello == nullptr) return 1;
  inject::Holder holder{std::move(descriptors[0]), std::move(descriptors[1]),
                        std::move(descriptors[2]), std::move(*hello), std::move(*programs)};
  return holder.run();
}

}  // namespace

int main_of(const std::string& name, std::vector<base::UniqueFd>& descriptors) {
  // Taken off the process, so that they close when its stack unwinds.
  std::vector<base::UniqueFd> ours = std::move(descriptors);
  if (name == "holder") return holder_main(ours);
  inject::Keeper keeper({"holder"});
  keeper.adopt(std::move(ours[0]));
  return keeper.run();
}

Outcome live(const Scenario& scenario, const std::string& folder,
             const std::vector<Disturbance>& plan, unsigned order) {
  std::error_code ignored;
  for (const char* part : {"/leases", "/runs"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder + part, ignored))
      std::filesystem::remove(entry.path(), ignored);
  }
  world() = {};
  Outcome outcome;
  {
    Machine machine(plan, order);
    machine.start("engine", [&] { return Engine(scenario, folder, outcome).run(); });
    machine.before_time_passes = [&](Nanoseconds until) {
      if (!world().in_force()) {
        if (world().armed_at > 0 && outcome.lasted == 0)
          outcome.lasted = machine.boot() - world().armed_at;
        return true;
      }
      if (!outcome.violation.empty()) return false;
      Nanoseconds deadline = world().armed_at + lease_of(scenario).count();
      if (outcome.asked_at > 0) deadline = std::min(deadline, outcome.asked_at);
      const Nanoseconds allowed = machine.allowed_until(deadline, world().armed_at);
      if (until <= allowed) return true;
      outcome.violation = fmt::format("in force past {:.3f} s after it was armed (deadline {:.3f})",
                                      static_cast<double>(allowed - world().armed_at) / kSecond,
                                      static_cast<double>(deadline - world().armed_at) / kSecond);
      return false;
    };
    machine.run(kLimit);
    outcome.steps = machine.steps();
  }
  return outcome;
}

}  // namespace squall::lease_protocol
