#include "lease_driver.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "inject/client.h"
#include "inject/registry.h"
#include "inject/state_directory.h"

namespace squall::crash_sweep {

namespace {

using namespace std::chrono_literals;

// Kinds whose effect needs traffic are reverted without having had one.
constexpr base::Duration kEffectPatience = 40ms;
// A new member is found within 50 ms, or half a second when its start takes longer.
constexpr base::Duration kJoinPatience = 1500ms;
constexpr base::Duration kLimit = 20s;
// For how long it is tried again after it failed.
constexpr base::Duration kLeftLimit = 5s;
constexpr int kTurnMilliseconds = 25;

class Driver {
 public:
  Driver(std::string run, std::string folder, Course course)
      : run_(std::move(run)), folder_(std::move(folder)), course_(course) {}

  DriverExit drive(const model::FaultBinding& binding, std::vector<std::string> keeper_argv) {
    inject::HolderOptions options;
    options.run = run_;
    options.experiment = "crash-sweep";
    options.system_directory = folder_;
    options.state_directory = folder_ + "/state";
    options.keeper_argv = std::move(keeper_argv);
    auto client = inject::HolderClient::start(options);
    if (!client.ok()) return DriverExit::kBroken;
    client_ = std::move(*client);
    const auto lease = client_->arm({.binding = binding, .duration = 10s});
    if (!lease.ok()) return DriverExit::kBroken;
    const base::Instant end = base::BootClock::now() + kLimit;
    while (base::BootClock::now() < end) {
      if (left_ && base::BootClock::now() - *left_ > kLeftLimit) return last_word();
      pollfd request{.fd = client_->fd(), .events = POLLIN, .revents = 0};
      ::poll(&request, 1, kTurnMilliseconds);
      if (auto renewed = client_->renew(); !renewed.ok()) return DriverExit::kBroken;
      const auto events = client_->take_events();
      if (!events.ok()) return last_word();
      for (const inject::LeaseEvent& event : *events) {
        std::cerr << inject::to_string(event.state) << ": " << event.text << "\n";
        if (const auto over = take(event)) return *over;
      }
      const bool waited = armed_ && base::BootClock::now() - *armed_ > kEffectPatience;
      if (!looked_ && (effective_ || waited)) {
        looked_ = base::BootClock::now();
        look(kArmedMark);
      }
      if (!asked_ && looked_ && (joined_ || base::BootClock::now() - *looked_ >= patience())) {
        asked_ = true;
        if (course_.kill_holder)
          kill_the_holder();
        else if (auto reverted = client_->revert(*lease, "asked"); !reverted.ok())
          return DriverExit::kBroken;
      }
    }
    return DriverExit::kBroken;
  }

 private:
  std::optional<DriverExit> take(const inject::LeaseEvent& event) {
    if (event.notice) {
      joined_ = joined_ || event.text.find("came up in place of") != std::string::npos;
      return std::nullopt;
    }
    if (event.state == inject::LeaseState::kArmed) armed_ = base::BootClock::now();
    effective_ = effective_ || event.state == inject::LeaseState::kEffective;
    if (event.state == inject::LeaseState::kVerified) {
      look(kGoneMark);
      return DriverExit::kVerified;
    }
    if (event.state != inject::LeaseState::kFailed) return std::nullopt;
    // It is tried again, and the last word counts.
    if (event.still_active) {
      left_ = left_.value_or(base::BootClock::now());
      return std::nullopt;
    }
    left_.reset();
    look(kGoneMark);
    return DriverExit::kNotArmed;
  }

  DriverExit last_word() const { return left_ ? DriverExit::kLeft : DriverExit::kBroken; }

  base::Duration patience() const {
    return course_.await_joined ? kJoinPatience : base::Duration::zero();
  }

  // Goes on when the sweep has looked: it opens the other end of the pipe then.
  void look(const char* mark) const {
    const int file = ::open((folder_ + mark).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return;
    ::close(file);
    const int looked = ::open((folder_ + kLookedPipe).c_str(), O_RDONLY | O_CLOEXEC);
    if (looked >= 0) ::close(looked);
  }

  void kill_the_holder() const {
    for (const auto& found : inject::run_files(inject::StateDirectory{folder_ + "/state"})) {
      const auto holder = base::PidFd::open(found.holder);
      if (found.run == run_ && holder.ok() && holder->signal(SIGKILL).ok()) return;
    }
  }

  std::string run_;
  std::string folder_;
  Course course_;
  std::unique_ptr<inject::HolderClient> client_;
  std::optional<base::Instant> armed_;
  bool effective_ = false;
  std::optional<base::Instant> looked_;
  bool joined_ = false;
  bool asked_ = false;
  std::optional<base::Instant> left_;  // since when it was told so
};

}  // namespace

int drive_lease(const std::string& run, const std::string& folder, const std::string& binding_file,
                Course course, std::vector<std::string> keeper_argv) {
  const auto text = base::read_file(binding_file, 1u << 20);
  if (!text.ok()) return static_cast<int>(DriverExit::kBroken);
  const auto json = base::parse_json(*text);
  if (!json.ok()) return static_cast<int>(DriverExit::kBroken);
  const auto binding = model::fault_binding_from_json(*json);
  if (!binding.ok()) return static_cast<int>(DriverExit::kBroken);
  Driver driver{run, folder, course};
  return static_cast<int>(driver.drive(*binding, std::move(keeper_argv)));
}

}  // namespace squall::crash_sweep
