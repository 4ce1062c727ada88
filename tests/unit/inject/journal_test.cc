#include "inject/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "inject/registry.h"
#include "inject/state_directory.h"

namespace squall::inject {
namespace {

using base::Json;

LeaseRecord sample_record() {
  LeaseRecord record;
  record.lease.value = 0x0123456789abcdef;
  record.run = "run-1";
  record.experiment = "worker-dies";
  record.reason = "One of three workers stands still.";
  record.owner = "alice";
  record.system_directory = "/srv/system";
  record.boot_id = boot_id();
  record.holder = {.pid = 4242, .start_time = 1234567};
  record.engine = {.pid = 4241, .start_time = 1234560};
  record.binding.fault = "hang";
  record.binding.kind = "process.pause";
  record.binding.mechanism = "SIGSTOP";
  record.binding.lifetime = model::LifetimeClass::kJournaled;
  record.binding.targets = {{.service = "worker",
                             .member = "worker-2",
                             .process = {.pid = 77, .start_time = 99},
                             .description = "worker-2 (orchestrator-worker pid 77)"}};
  record.duration = std::chrono::seconds(20);
  record.requested = base::BootClock::now();
  record.resources = {"process/77/99"};
  return record;
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = base::make_temporary_directory("squall-journal").value(); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A journal as a holder leaves it: lease, armed, two notes.
  std::string written() {
    auto journal = LeaseJournal::create(folder_, sample_record()).value();
    EXPECT_TRUE(journal.note(R"({"stopping":[{"pid":77,"start_time":99}]})").ok());
    EXPECT_TRUE(journal.note(R"({"stopping":[{"pid":78,"start_time":98}]})").ok());
    journal.state(LeaseState::kArmed, base::BootClock::now(), "armed");
    const std::string content = base::read_file(journal.path(), 1 << 20).value();
    EXPECT_TRUE(journal.remove().ok());
    // Enough of the zeros behind it.
    return content.substr(0, content.find_last_not_of('\0') + 65);
  }

  static JournalContent parse(const std::string& bytes) {
    return parse_journal(std::as_bytes(std::span{bytes.data(), bytes.size()}));
  }

  std::string folder_;
};

TEST_F(JournalTest, ReadsBackWhatWasWritten) {
  const JournalContent content = parse(written());
  ASSERT_TRUE(content.lease.has_value());
  EXPECT_EQ(content.damage, "");
  EXPECT_EQ(content.lease->run, "run-1");
  EXPECT_EQ(content.lease->holder.pid, 4242);
  EXPECT_EQ(content.lease->binding.targets.at(0).member, "worker-2");
  EXPECT_EQ(content.lease->resources, (std::vector<std::string>{"process/77/99"}));
  EXPECT_EQ(content.notes.size(), 2u);
  EXPECT_EQ(content.state, LeaseState::kArmed);
}

TEST_F(JournalTest, SpaceForTheEndIsSetAsideAndNotesCannotTakeIt) {
  auto journal = LeaseJournal::create(folder_, sample_record()).value();
  EXPECT_EQ(std::filesystem::file_size(journal.path()), LeaseJournal::kSize);
  const std::string note = R"({"stopping":")" + std::string(4000, 'x') + "\"}";
  base::Status last;
  int notes = 0;
  while ((last = journal.note(note)).ok()) ASSERT_LT(++notes, 1000);
  EXPECT_EQ(last.error().code, base::ErrorCode::kExhausted);
  journal.state(LeaseState::kReverted, base::BootClock::now(), "done");
  const auto content = read_journal(journal.path()).value();
  EXPECT_EQ(content.state, LeaseState::kReverted);
  EXPECT_EQ(content.notes.size(), static_cast<std::size_t>(notes));
  EXPECT_EQ(content.damage, "");
}

TEST_F(JournalTest, NoPrefixIsMistakenForAnotherLease) {
  const std::string whole = written();
  const std::size_t end = whole.find_last_not_of('\0') + 1;
  std::size_t undamaged = 0;
  for (std::size_t length = 0; length <= end; ++length) {
    std::string torn = whole.substr(0, length);
    torn.resize(whole.size(), '\0');  // preallocated: what was not written is zeros
    const JournalContent content = parse(torn);
    if (!content.lease) {
      EXPECT_NE(content.damage, "") << length;
      continue;
    }
    EXPECT_EQ(content.lease->run, "run-1");
    EXPECT_LE(content.notes.size(), 2u);
    if (content.damage.empty()) ++undamaged;
  }
  // Whole frames only: after the lease, each of two notes, and the state. A cut may also fall into
  // zeros that end a frame, which changes nothing; there are none at the ends of JSON texts.
  EXPECT_EQ(undamaged, 4u);
}

TEST_F(JournalTest, EveryFlippedBitIsTold) {
  const std::string whole = written();
  const std::size_t end = whole.find_last_not_of('\0') + 1;
  for (std::size_t byte = 0; byte < end + 8; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << bit));
      const JournalContent content = parse(flipped);
      ASSERT_NE(content.damage, "") << "byte " << byte << " bit " << bit;
      // What could be read is what was written.
      ASSERT_TRUE(!content.lease || content.lease->run == "run-1");
      for (const std::string& note : content.notes)
        ASSERT_TRUE(note.starts_with(R"({"stopping":[)"));
    }
  }
}

TEST_F(JournalTest, ALostSectorInTheMiddleIsTold) {
  const std::string whole = written();
  for (std::size_t sector = 0; sector * 512 < whole.find_last_not_of('\0'); ++sector) {
    std::string torn = whole;
    std::memset(torn.data() + sector * 512, 0,
                std::min<std::size_t>(512, torn.size() - sector * 512));
    const JournalContent content = parse(torn);
    const bool last = (sector + 1) * 512 > whole.find_last_not_of('\0');
    EXPECT_TRUE(last || !content.damage.empty()) << sector;
  }
}

TEST_F(JournalTest, AnotherFormatIsRefusedNotGuessed) {
  std::string other = written();
  const std::size_t at = other.find("\"format\":1");
  ASSERT_NE(at, std::string::npos);
  other[at + 9] = '2';
  // With a checksum that fits, as a later version would write it.
  const JournalContent content = parse(other);
  EXPECT_FALSE(content.lease.has_value());
  EXPECT_NE(content.damage, "");
}

TEST_F(JournalTest, IsLockedWhileItsHolderLives) {
  auto journal = LeaseJournal::create(folder_, sample_record());
  ASSERT_TRUE(journal.ok());
  const std::string path = journal->path();
  const auto taken = LeaseJournal::adopt(path);
  ASSERT_FALSE(taken.ok());
  EXPECT_EQ(taken.error().code, base::ErrorCode::kConflict);
  { const LeaseJournal dead = std::move(*journal); }
  auto adopted = LeaseJournal::adopt(path);
  ASSERT_TRUE(adopted.ok());
  ASSERT_TRUE(adopted->remove().ok());
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(JournalTest, NoRoomLeavesNothing) {
  const auto refused = LeaseJournal::create(folder_ + "/missing", sample_record());
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().to_string().find("before any change"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST(StateDirectoryTest, AFolderThatOthersMayWriteToIsRefused) {
  const std::string folder = base::make_temporary_directory("squall-state").value();
  const std::string open = folder + "/open";
  std::filesystem::create_directory(open);
  std::filesystem::permissions(open, std::filesystem::perms::all);
  const auto created = StateDirectory{open}.create();
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().code, base::ErrorCode::kPermission);
  EXPECT_TRUE(StateDirectory{folder + "/closed"}.create().ok());
  std::filesystem::remove_all(folder);
}

TEST(StateDirectoryTest, AFolderThatCannotBeReadIsNotAnEmptyOne) {
  const std::string folder = base::make_temporary_directory("squall-state").value();
  const StateDirectory directory{folder};
  EXPECT_TRUE(directory.list_lease_files().value().empty());  // nobody has made it yet
  std::filesystem::create_symlink("leases", directory.leases());
  EXPECT_FALSE(directory.list_lease_files().ok());
  std::filesystem::remove_all(folder);
}

TEST(RegistryTest, RunIdsAreSafeFileNames) {
  EXPECT_TRUE(check_run_id("0193b1c2-1111-7abc-8def-000000000001").ok());
  for (const char* bad : {"", ".", "../x", "a/b", "a b", "\n"})
    EXPECT_FALSE(check_run_id(bad).ok());
  EXPECT_FALSE(check_run_id(std::string(65, 'a')).ok());
}

TEST(RegistryTest, ResourcesNameTargetsByPidAndStart) {
  auto binding = sample_record().binding;
  binding.details = model::Parameters{Json{{"resources", Json::array({"service/x"})}}};
  EXPECT_EQ(resources_of(binding), (std::vector<std::string>{"process/77/99", "service/x"}));
}

}  // namespace
}  // namespace squall::inject
