#pragma once
// What the tests of the disk and system call kinds share: a service `caller` with one process whose
// calls are looked at (calls_for_tests).

#include "integration/inject/calls_report.h"
#include "integration/inject/fixture.h"

namespace squall::inject {

class InterceptionTest : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (folder_.empty()) return;
    data_ = folder_ + "/data";
    file_ = data_ + "/file";
    ASSERT_TRUE(base::make_directories(data_).ok());
    report_ = CallsReport::open((folder_ + "/report").c_str());
    ASSERT_NE(report_, nullptr);
    model::Service service;
    service.name = "caller";
    service.process.exe = "calls_for_tests";
    service.process.argv_contains = folder_;
    service.expected_members = 1;
    map_.services = {service};
  }
  void TearDown() override {
    caller_ = {};
    if (report_ != nullptr) ::munmap(report_, sizeof *report_);
    InjectTest::TearDown();
  }

  // Waits until it works. A database mostly runs as a user of its own: `as_nobody`.
  base::ProcessIdentity start_caller(const std::string& mode, bool as_nobody = false) {
    constexpr uid_t kNobody = 65534;
    if (as_nobody) {
      std::filesystem::permissions(folder_, std::filesystem::perms{0755});
      EXPECT_EQ(::chown(data_.c_str(), kNobody, kNobody), 0);
      EXPECT_EQ(::chown((folder_ + "/report").c_str(), kNobody, kNobody), 0);
    }
    auto child = base::spawn(
        {.argv = {program("calls_for_tests"), folder_, folder_ + "/report", file_, mode},
         .parent_death_signal = SIGKILL});
    EXPECT_TRUE(child.ok());
    caller_ = std::move(*child);
    wait_until([&] { return report_->turns > 2; }, "the caller to work");
    return caller_.pidfd().identity();
  }
  static Json parameters(const Json& more) {
    Json json = {{"service", "caller"}, {"count", 1}, {"random", true}, {"share", 1.0}};
    json.update(more);
    return json;
  }
  static Json call_parameters(const Json& more) {
    Json json = parameters({{"done", false}, {"children", true}, {"jitter", 0}});
    json.update(more);
    return json;
  }
  Json disk_parameters(const Json& more) const {
    Json json = parameters({{"path", data_},
                            {"tree", true},
                            {"jitter", 0},
                            {"opens", false},
                            {"reads", false},
                            {"writes", false},
                            {"syncs", false},
                            {"open_files", "none"}});
    json.update(more);
    return json;
  }
  static std::int64_t status_field(pid_t process, const std::string& name) {
    const auto text = base::read_pseudo_file("/proc/" + std::to_string(process) + "/status");
    const std::size_t at = text.ok() ? text->find("\n" + name + ":\t") : std::string::npos;
    return at == std::string::npos ? -1 : std::atoll(text->c_str() + at + name.size() + 3);
  }
  // The caller makes `turns` more.
  void wait_for_turns(std::uint64_t turns) {
    const std::uint64_t before = report_->turns;
    wait_until([&] { return report_->turns >= before + turns; }, "the caller to go on");
  }
  void expect_nothing_wrong() {
    EXPECT_EQ(report_->wrong, 0u) << "at " << report_->wrong_at << ": " << report_->wrong_value;
  }
  // Arms, and returns when it is effective.
  base::LeaseId arm_effective(const model::FaultBinding& binding, base::Duration duration = 60s) {
    if (client_ == nullptr) start_holder();
    const auto lease = arm(binding, duration);
    armed_ = wait_for(LeaseState::kArmed);
    effective_ = wait_for(LeaseState::kEffective);
    return lease;
  }
  void revert(base::LeaseId lease) {
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    reverted_ = wait_for(LeaseState::kReverted);
    verified_ = wait_for(LeaseState::kVerified);
  }

  std::string data_;
  std::string file_;  // in it
  CallsReport* report_ = nullptr;
  base::ChildProcess caller_;
  LeaseEvent armed_;
  LeaseEvent effective_;
  LeaseEvent reverted_;
  LeaseEvent verified_;
};

}  // namespace squall::inject
