#include "lease_driver.h"

#include <poll.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "inject/client.h"

namespace squall::crash_sweep {

namespace {

using namespace std::chrono_literals;

// Kinds whose effect needs traffic are reverted without having had one.
constexpr base::Duration kEffectPatience = 100ms;
constexpr base::Duration kLimit = 20s;

}  // namespace

int drive_lease(const std::string& run, const std::string& folder, const std::string& binding_file,
                std::vector<std::string> keeper_argv) {
  const auto text = base::read_file(binding_file, 1u << 20);
  if (!text.ok()) return 2;
  const auto json = base::parse_json(*text);
  if (!json.ok()) return 2;
  const auto binding = model::fault_binding_from_json(*json);
  if (!binding.ok()) return 2;
  inject::HolderOptions options;
  options.run = run;
  options.experiment = "crash-sweep";
  options.system_directory = folder;
  options.state_directory = folder + "/state";
  options.keeper_argv = std::move(keeper_argv);
  auto client = inject::HolderClient::start(options);
  if (!client.ok()) return 3;
  const auto lease = (*client)->arm({.binding = *binding, .duration = 10s});
  if (!lease.ok()) return 4;
  const base::Instant end = base::BootClock::now() + kLimit;
  std::optional<base::Instant> armed;
  bool asked = false;
  while (base::BootClock::now() < end) {
    pollfd request{.fd = (*client)->fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 20);
    if (auto renewed = (*client)->renew(); !renewed.ok()) return 5;
    const auto events = (*client)->take_events();
    if (!events.ok()) return 6;
    bool effective = false;
    for (const inject::LeaseEvent& event : *events) {
      if (event.notice) continue;
      if (event.state == inject::LeaseState::kArmed) armed = base::BootClock::now();
      effective = effective || event.state == inject::LeaseState::kEffective;
      if (event.state == inject::LeaseState::kVerified) return 0;
      if (event.state == inject::LeaseState::kFailed) return event.still_active ? 8 : 7;
    }
    const bool waited = armed && base::BootClock::now() - *armed > kEffectPatience;
    if (!asked && (effective || waited)) {
      asked = true;
      if (auto reverted = (*client)->revert(*lease, "asked"); !reverted.ok()) return 5;
    }
  }
  return 9;
}

}  // namespace squall::crash_sweep
