#include <fstream>

#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class CpuLoadTest : public InjectTest {
 protected:
  base::LeaseId arm_load(int processors, double load) {
    if (client_ == nullptr) start_holder();
    const auto lease =
        arm(bind_or_die("resource.cpu_load", {{"processors", processors}, {"load", load}}));
    const auto proof = proof_of(wait_for(LeaseState::kArmed));
    for (const Json& pid : proof.value("workers", Json::array())) {
      auto worker = base::PidFd::open(pid.get<pid_t>());
      EXPECT_TRUE(worker.ok());
      if (worker.ok()) workers_.push_back(std::move(*worker));
    }
    EXPECT_EQ(workers_.size(), static_cast<std::size_t>(processors));
    return lease;
  }
  void expect_workers_gone() {
    for (const base::PidFd& worker : workers_)
      wait_until([&] { return worker.ended(); }, "a worker's end");
  }

  std::vector<base::PidFd> workers_;
};

TEST_F(CpuLoadTest, UsesNoMoreThanItsShareAndProvesIt) {
  start_holder();
  const auto rehearsed =
      client_->rehearse(bind_or_die("resource.cpu_load", {{"processors", 1}, {"load", 0.3}}));
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm_load(1, 0.3);
  const auto proof = proof_of(wait_for(LeaseState::kEffective));
  EXPECT_GT(proof.value("processors_used", 0.0), 0.01);
  EXPECT_LT(proof.value("processors_used", 0.0), 0.4);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto reverted = wait_for(LeaseState::kReverted);
  EXPECT_LT(proof_of(reverted).value("processors_used", 1.0), 0.4);
  wait_for(LeaseState::kVerified);
  expect_workers_gone();
}

TEST_F(CpuLoadTest, LoadsAsManyProcessorsAsAsked) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "one processor";
  const auto lease = arm_load(2, 0.1);
  const auto proof = proof_of(wait_for(LeaseState::kEffective));
  EXPECT_EQ(proof.value("processors_asked", 0.0), 0.2);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  expect_workers_gone();
}

TEST_F(CpuLoadTest, WorkersHaveNoCapability) {
  const auto lease = arm_load(1, 0.05);
  ASSERT_EQ(workers_.size(), 1u);
  std::ifstream file("/proc/" + std::to_string(workers_.front().identity().pid) + "/status");
  std::string line;
  int seen = 0;
  while (std::getline(file, line)) {
    if (line.starts_with("CapEff:") || line.starts_with("CapPrm:")) {
      EXPECT_EQ(line.find_first_not_of("0", line.find('\t') + 1), std::string::npos) << line;
      ++seen;
    }
    if (line.starts_with("Seccomp:")) {
      EXPECT_TRUE(line.ends_with("2")) << line;
      ++seen;
    }
  }
  EXPECT_EQ(seen, 3);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(CpuLoadTest, MoreProcessorsThanThereAreAreRefused) {
  const auto refused = try_bind("resource.cpu_load", {{"processors", 256}, {"load", 1.0}});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().hint.find("at most"), std::string::npos);
}

TEST_F(CpuLoadTest, AKilledWorkerEndsTheFault) {
  arm_load(1, 0.05);
  ASSERT_EQ(workers_.size(), 1u);
  ASSERT_TRUE(workers_.front().signal(SIGKILL).ok());
  EXPECT_FALSE(wait_for_notice().text.empty());
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  wait_for(LeaseState::kVerified);
}

TEST_F(CpuLoadTest, AKilledHolderTakesItsWorkersAlong) {
  arm_load(1, 0.05);
  kill_holder();
  expect_workers_gone();
  await_replay();
}

}  // namespace
}  // namespace squall::inject
