#pragma once
// What the tests of this room share: victims found by a marker of their own, a holder, waiting for
// states, and the proof that nothing is left behind.

#include <fmt/format.h>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/process.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"
#include "inject/process_table.h"
#include "inject/state_directory.h"

namespace squall::inject {

using base::Json;
using namespace std::chrono_literals;

inline std::string program(const std::string& name) {
  return std::string(SQUALL_BINARY_DIR) + "/tests/inject_programs/" + name;
}

// What an event proves; an empty object, and a failure, when it says nothing that can be read.
inline Json proof_of(const LeaseEvent& event) {
  auto json = base::parse_json(event.proof);
  EXPECT_TRUE(json.ok()) << event.proof;
  return json.ok() ? *json : Json::object();
}

class InjectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    folder_ = base::make_temporary_directory("squall-inject").value();
    state_ = folder_ + "/state";
    map_.file = folder_ + "/squall.yaml";
    map_.directory = folder_;
    map_.name = "test";
  }

  void TearDown() override {
    if (folder_.empty()) return;
    client_.reset();
    for (const host::Member& member : find_victims()) ::kill(member.process.identity.pid, SIGKILL);
    for (base::ChildProcess& victim : victims_) {
      // One that forks may have hidden all of them from that look.
      static_cast<void>(victim.pidfd().signal(SIGKILL));
      if (auto ended = victim.wait(10s); !ended.ok()) ADD_FAILURE() << "a victim does not end";
    }
    expect_nothing_left();
    std::filesystem::remove_all(folder_);
  }

  void expect_nothing_left() {
    const StateDirectory directory{state_};
    EXPECT_TRUE(directory.lease_files().empty());
    EXPECT_TRUE(files_with_suffix(directory.leases(), ".new").empty());
    EXPECT_TRUE(files_with_suffix(directory.runs(), ".json").empty());
    EXPECT_TRUE(files_with_suffix(directory.runs(), ".sock").empty());
    const auto tables = base::run_command({.argv = {"nft", "list", "tables"}}, 10s);
    ASSERT_TRUE(tables.ok());
    // Other tests may have tables of their own at this moment: ours are known by name.
    for (const std::string& name : tables_)
      EXPECT_EQ(tables->output.find(name), std::string::npos) << name;
  }

  // A member of the service `victim`, which dies with this test.
  base::ProcessIdentity start_victim(const std::vector<std::string>& words = {}) {
    std::vector<std::string> argv{program("victim_for_tests"), folder_};
    argv.insert(argv.end(), words.begin(), words.end());
    auto child = base::spawn({.argv = argv, .parent_death_signal = SIGKILL});
    EXPECT_TRUE(child.ok());
    const base::ProcessIdentity identity = child->pidfd().identity();
    victims_.push_back(std::move(*child));
    // Before that it is a copy of ours, which no service matches.
    wait_until(
        [&] {
          // Its arguments come last.
          const auto text = base::read_file(fmt::format("/proc/{}/cmdline", identity.pid), 65536);
          return text.ok() && text->starts_with(program("victim_for_tests")) &&
                 text->find(folder_) != std::string::npos;
        },
        "the victim's program");
    return identity;
  }

  // As somebody else would, the first of the two that it has.
  base::ProcessIdentity stop_a_child(const base::ProcessIdentity& victim) {
    wait_until([&] { return tree_of(*read_process_table(), victim).size() == 3; }, "children");
    const auto child = tree_of(*read_process_table(), victim)[1].identity;
    ::kill(child.pid, SIGSTOP);
    wait_until([&] { return stopped(child); }, "a stopped child");
    return child;
  }

  model::Service& add_service(int members) {
    model::Service service;
    service.name = "victim";
    service.process.exe = "victim_for_tests";
    service.process.argv_contains = folder_;
    service.start = {program("victim_for_tests"), folder_, "{member}"};
    service.expected_members = members;
    map_.services.push_back(service);
    return map_.services.back();
  }

  std::vector<host::Member> find_victims() {
    model::Service service;
    service.name = "victim";
    service.process.exe = "victim_for_tests";
    service.process.argv_contains = folder_;
    auto members = host::find_members(host::real_host(), service);
    return members.ok() ? *members : std::vector<host::Member>{};
  }

  base::Result<model::FaultBinding> try_bind(const std::string& kind, Json parameters,
                                             std::uint64_t seed = 1) {
    model::FaultSpecification fault;
    fault.name = "outage";
    fault.kind = find_kind(kind)->descriptor;
    fault.parameters = model::Parameters{std::move(parameters)};
    fault.duration = 20s;
    const model::PlannedFault planned = describe(map_, fault);
    return bind({.map = map_,
                 .fault = fault,
                 .planned = planned,
                 .host = host::real_host(),
                 .seed = seed,
                 .state_directory = state_,
                 .record_directory = folder_});
  }

  model::FaultBinding bind_or_die(const std::string& kind, Json parameters) {
    auto binding = try_bind(kind, std::move(parameters));
    EXPECT_TRUE(binding.ok()) << binding.error().to_string();
    return binding.ok() ? *binding : model::FaultBinding{};
  }

  static Json kill_parameters(const std::string& restore, int count = 1) {
    return {{"service", "victim"}, {"count", count},     {"random", true},
            {"signal", "SIGKILL"}, {"restore", restore}, {"limit", 20'000'000'000}};
  }
  static Json pause_parameters() { return {{"service", "victim"}, {"count", 1}, {"random", true}}; }

  HolderOptions options(const std::string& run = "run-1") {
    HolderOptions options;
    options.run = run;
    options.experiment = "test";
    options.reason = "a test of the holder";
    options.system_directory = folder_;
    options.state_directory = state_;
    options.keeper_argv = {program("holder_for_tests"), "keeper", program("holder_for_tests"),
                           "holder"};
    return options;
  }

  void start_holder() {
    auto client = HolderClient::start(options());
    ASSERT_TRUE(client.ok()) << client.error().to_string();
    client_ = std::move(*client);
  }

  base::LeaseId arm(const model::FaultBinding& binding, base::Duration duration = 60s) {
    auto lease = client_->arm({.binding = binding, .duration = duration});
    EXPECT_TRUE(lease.ok());
    if (lease.ok()) tables_.push_back("squall_" + lease->text());
    return lease.ok() ? *lease : base::LeaseId{};
  }

  // The first event of this state; fails when kFailed comes instead, or nothing within 30 s.
  LeaseEvent wait_for(LeaseState state, bool renewing = true) {
    return wait_for_event(
        [&](const LeaseEvent& event) { return event.state == state && !event.notice; },
        state != LeaseState::kFailed, renewing);
  }
  LeaseEvent wait_for_notice() {
    return wait_for_event([](const LeaseEvent& event) { return event.notice; }, true, true);
  }

  LeaseEvent wait_for_event(const std::function<bool(const LeaseEvent&)>& wanted,
                            bool failing_is_wrong, bool renewing) {
    const base::Instant deadline = base::BootClock::now() + 30s;
    while (base::BootClock::now() < deadline) {
      for (std::size_t i = 0; i < events_.size(); ++i) {
        const LeaseEvent event = events_[i];
        if (failing_is_wrong && event.state == LeaseState::kFailed) {
          ADD_FAILURE() << "failed: " << event.text;
          return event;
        }
        if (!wanted(event)) continue;
        events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        return event;
      }
      pollfd request{.fd = client_->fd(), .events = POLLIN, .revents = 0};
      ::poll(&request, 1, 200);
      if (renewing) {
        EXPECT_TRUE(client_->renew().ok());
      }
      auto more = client_->take_events();
      if (!more.ok()) {
        ADD_FAILURE() << more.error().to_string();
        return {};
      }
      events_.insert(events_.end(), more->begin(), more->end());
    }
    ADD_FAILURE() << "no such event within 30 s";
    return {};
  }

  static void wait_until(const std::function<bool()>& condition, const std::string& what) {
    const base::Instant deadline = base::BootClock::now() + 30s;
    while (!condition()) {
      if (base::BootClock::now() > deadline) {
        ADD_FAILURE() << "waited 30 s for: " << what;
        return;
      }
      ::usleep(1000);
    }
  }
  // The holder of the only lease.
  void kill_holder() {
    const auto active = active_leases(state_);
    ASSERT_TRUE(active.ok());
    ASSERT_EQ(active->size(), 1u);
    ASSERT_TRUE(base::PidFd::open((*active)[0].holder)->signal(SIGKILL).ok());
  }
  void await_replay() {
    EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "holder gone");
    wait_for(LeaseState::kVerified);
  }
  // What is mounted from here on goes with this process.
  static void enter_own_mounts() {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  static bool stopped(const base::ProcessIdentity& identity) {
    return process_state(identity).value_or('X') == 'T';
  }
  static void wait_until_runs(const base::ProcessIdentity& identity) {
    wait_until(
        [&] {
          const char state = process_state(identity).value_or('X');
          return state == 'S' || state == 'R';
        },
        "the victim to run");
  }

  std::string folder_;
  std::string state_;
  model::SystemMap map_;
  std::unique_ptr<HolderClient> client_;
  std::vector<LeaseEvent> events_;
  std::vector<base::ChildProcess> victims_;
  std::vector<std::string> tables_;
};

}  // namespace squall::inject
