// The kinds that give a service another clock, seen by a member that writes down the time it reads.

#include <elf.h>

#include <cstring>
#include <ctime>
#include <fstream>

#include "inject/faults/clock/fake_clock.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Clock : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    report_ = folder_ + "/clock";
    model::Service& service = add_service(1);
    service.start = {program("victim_for_tests"), folder_, "clock=" + report_};
    start_victim({"clock=" + report_});
    wait_until([&] { return off() < 5; }, "the member's time");
    if (!try_bind("clock.jump", jump()).ok() &&
        try_bind("clock.jump", jump()).error().message.find("not installed") != std::string::npos)
      GTEST_SKIP() << "libfaketime is not installed";
  }

  static Json jump() {
    Json json = pause_parameters();
    json.update({{"offset", 3'600'000'000'000},
                 {"direction", "back"},
                 {"grace", 5'000'000'000},
                 {"limit", 20'000'000'000}});
    return json;
  }
  static Json skew(std::int64_t offset, double rate) {
    Json json = jump();
    json.update({{"offset", offset}, {"direction", "forward"}, {"rate", rate}});
    return json;
  }
  // Seconds by which the member's clock is ahead.
  double ahead() const {
    std::ifstream file(report_);
    double read = 0;
    file >> read;
    return read - static_cast<double>(::time(nullptr));
  }
  double off() const { return std::abs(ahead()); }
  pid_t member() {
    const auto members = find_victims();
    return members.size() == 1 ? members[0].process.identity.pid : 0;
  }
  static bool faked(pid_t pid) {
    const auto maps = base::read_pseudo_file("/proc/" + std::to_string(pid) + "/maps");
    return maps.ok() && maps->find("faketime") != std::string::npos;
  }
  void put_in_force(const std::string& kind, Json parameters) {
    if (client_ == nullptr) start_holder();
    before_ = member();
    lease_ = arm(bind_or_die(kind, std::move(parameters)));
    wait_for(LeaseState::kEffective);
    with_ = member();
    EXPECT_NE(with_, before_);
    EXPECT_TRUE(faked(with_));
  }
  void expect_true_time() {
    EXPECT_EQ(find_victims().size(), 1u);
    EXPECT_NE(member(), with_);
    EXPECT_FALSE(faked(member()));
    wait_until([&] { return off() < 5; }, "the true time");
    EXPECT_FALSE(std::filesystem::exists("/run/squall-clock/" + lease_.text()));
    for (const char* left : {"faketime_shm_", "sem.faketime_sem_"})
      EXPECT_FALSE(std::filesystem::exists("/dev/shm/" + (left + std::to_string(with_)))) << left;
  }

  std::string report_;
  base::LeaseId lease_;
  pid_t before_ = 0;
  pid_t with_ = 0;
};

TEST_F(Clock, JumpsWhileTheMemberRunsAndIsRightAgain) {
  start_holder();
  const auto rehearsed = client_->rehearse(bind_or_die("clock.jump", jump()));
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  put_in_force("clock.jump", jump());
  wait_until([&] { return ahead() < -3590; }, "the jump");
  EXPECT_GT(ahead(), -3610);
  EXPECT_EQ(member(), with_);  // it did not need another restart
  ASSERT_TRUE(client_->revert(lease_, "asked").ok());
  wait_for(LeaseState::kVerified);
  expect_true_time();
}

TEST_F(Clock, AKilledHoldersSkewIsUndoneFromItsJournal) {
  put_in_force("clock.skew", skew(86'400'000'000'000, 2));
  wait_until([&] { return ahead() > 86'390; }, "the skew");
  kill_holder();
  await_replay();
  expect_true_time();
}

TEST_F(Clock, WhatSomebodyElseStartedInItsPlaceStays) {
  put_in_force("clock.skew", skew(86'400'000'000'000, 1));
  ASSERT_EQ(::kill(with_, SIGKILL), 0);
  EXPECT_NE(wait_for_notice().text.find("ended"), std::string::npos);
  wait_until([&] { return find_victims().empty(); }, "the member's end");
  const pid_t other = start_victim({"clock=" + report_}).pid;
  wait_until([&] { return member() == other; }, "another member");
  ASSERT_TRUE(client_->revert(lease_, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(member(), other);
  expect_true_time();
}

TEST_F(Clock, AStartThatKeepsItsEnvironmentToItselfIsFoundOutAndUndone) {
  auto& start = map_.services.front().start;
  start.insert(start.begin(), {"env", "-i"});
  start_holder();
  const pid_t before = member();
  lease_ = arm(bind_or_die("clock.jump", jump()));
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("without libfaketime"), std::string::npos) << failed.text;
  EXPECT_FALSE(failed.still_active);
  EXPECT_NE(member(), before);
  with_ = 0;
  expect_true_time();
  EXPECT_FALSE(std::filesystem::exists("/dev/shm/faketime_shm_" + std::to_string(member())));
}

TEST_F(Clock, WhatCannotHaveAnotherClockIsRefused) {
  const auto refusal = [&](const std::string& kind, Json parameters) {
    const auto binding = try_bind(kind, std::move(parameters));
    EXPECT_FALSE(binding.ok());
    if (binding.ok()) return std::string();
    EXPECT_FALSE(binding.error().hint.empty());
    return binding.error().message;
  };
  EXPECT_NE(refusal("clock.skew", skew(0, 1)).find("would be right"), std::string::npos);
  map_.services.front().start.clear();
  EXPECT_NE(refusal("clock.jump", jump()).find("only a process that Squall starts"),
            std::string::npos);
}

// A program's first bytes with one program header and what it points to.
std::string elf_with(std::uint32_t type, const std::string& content) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_phoff = sizeof header;
  header.e_phnum = 1;
  header.e_phentsize = sizeof(Elf64_Phdr);
  Elf64_Phdr part{};
  part.p_type = type;
  part.p_offset = sizeof header + sizeof part;
  std::string text(reinterpret_cast<const char*>(&header), sizeof header);
  text.append(reinterpret_cast<const char*>(&part), sizeof part);
  return text + content;
}

TEST(ClockPrograms, StaticOnesAndGosAreToldFromOthers) {
  const std::string folder = base::make_temporary_directory("squall-clock-test").value();
  const auto judged = [&](const std::string& content) {
    const std::string path = folder + "/program";
    std::ofstream(path, std::ios::binary) << content;
    return cannot_be_preloaded(path).value_or("");
  };
  EXPECT_EQ(cannot_be_preloaded("/proc/self/exe"), std::nullopt);
  EXPECT_EQ(judged(elf_with(PT_INTERP, "/lib")), "");
  EXPECT_NE(judged(elf_with(PT_LOAD, "")).find("statically"), std::string::npos);
  const std::string note("\4\0\0\0\4\0\0\0\4\0\0\0Go\0\0abcd", 20);
  EXPECT_NE(judged(elf_with(PT_NOTE, note)).find("Go"), std::string::npos);
  EXPECT_NE(judged("#!/bin/sh\n"), "");
  EXPECT_NE(judged(""), "");
  const std::string whole = elf_with(PT_INTERP, "/lib");
  for (std::size_t size = 0; size < sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr); ++size)
    EXPECT_NE(judged(whole.substr(0, size)), "") << size;
  EXPECT_TRUE(cannot_be_preloaded(folder + "/none").has_value());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace squall::inject
