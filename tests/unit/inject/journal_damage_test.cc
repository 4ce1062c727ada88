// A journal that is torn, flipped or mixed of two versions is replayed or refused loudly: whoever
// takes up dead leases either has the lease to undo, or says what is wrong, and keeps the file.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "base/process.h"
#include "inject/replay.h"
#include "inject/state_directory.h"

namespace squall::inject {
namespace {

constexpr std::size_t kSector = 512;

class NoPrograms final : public Programs {
 public:
  std::uint64_t start(const ProgramRequest&) override { return 1; }
  ProgramOutcome outcome(std::uint64_t) override { return {}; }
  int fd() const override { return -1; }
  base::ProcessIdentity process() const override { return {}; }
  void end(std::uint64_t) override {}
  void tell(std::uint64_t, const std::string&) override {}
};

class JournalDamage : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = base::make_temporary_directory("squall-damage").value();
    directory_.emplace(folder_);
    ASSERT_TRUE(directory_->create().ok());
    write_journal();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Takes the file as it is after each append: the lease, three notes, two states.
  void write_journal() {
    LeaseRecord record;
    record.lease.value = 0x0123456789abcdef;
    record.run = "run-1";
    record.boot_id = boot_id();
    record.holder = {.pid = 4242, .start_time = 1};
    record.binding.fault = "hang";
    record.binding.kind = "process.pause";
    record.binding.mechanism = "SIGSTOP";
    record.binding.targets = {
        {.member = "worker-2", .process = {.pid = 77, .start_time = 99}, .description = "worker"}};
    record.duration = std::chrono::seconds(20);
    auto journal = LeaseJournal::create(directory_->leases(), record).value();
    path_ = journal.path();
    keep_version();
    for (int i = 0; i < 3; ++i) {
      const std::string padding(100u + 150u * static_cast<unsigned>(i), 'p');
      ASSERT_TRUE(
          journal.note(R"({"stopping":[{"pid":77,"start_time":1}],"padding":")" + padding + "\"}")
              .ok());
      keep_version();
    }
    journal.state(LeaseState::kArmed, base::BootClock::now(), "armed");
    keep_version();
    journal.state(LeaseState::kReverting, base::BootClock::now(), "asked");
    keep_version();
  }

  void keep_version() {
    std::string content = base::read_file(path_, 1 << 20).value();
    used_ = content.find_last_not_of('\0') + 1;
    content.resize((used_ / kSector + 2) * kSector);  // and some of the zeros
    versions_.push_back(std::move(content));
  }

  static JournalContent parse(const std::string& bytes) {
    return parse_journal(std::as_bytes(std::span{bytes.data(), bytes.size()}));
  }

  // Undone or told, never neither; and never both whole and damaged.
  ::testing::AssertionResult is_replayed_or_refused(const std::string& bytes) {
    std::filesystem::remove(path_);
    std::filesystem::remove(path_ + ".damaged");
    std::ofstream(path_, std::ios::binary) << bytes;
    const JournalContent content = parse(bytes);
    NoPrograms programs;
    const Lease::Means means{
        .host = host::real_host(), .programs = programs, .tell = [](const LeaseEvent&) {}};
    DeadLeases dead = take_up_dead_leases(*directory_, {}, means);
    const std::size_t left = dead.left.size();
    const std::size_t leases = dead.leases.size();
    const std::size_t told = left + dead.damaged.size();
    dead.leases.clear();
    const std::size_t aside = set_aside(std::move(dead.damaged)).size();
    const bool kept = std::filesystem::exists(path_) || std::filesystem::exists(path_ + ".damaged");
    if (!kept) return ::testing::AssertionFailure() << "nobody keeps it";
    if (!dead.lines.empty()) return ::testing::AssertionFailure() << dead.lines.front();
    if (content.damage.empty() && leases != 1)
      return ::testing::AssertionFailure() << "whole, and not taken up";
    if (!content.damage.empty() && told == 0)
      return ::testing::AssertionFailure() << "not told: " << content.damage;
    if (leases + left == 0) return ::testing::AssertionFailure() << "neither undone nor told";
    if (left == 0 && aside != (content.damage.empty() ? 0u : 1u))
      return ::testing::AssertionFailure() << "not set aside";
    return ::testing::AssertionSuccess();
  }

  std::string folder_;
  std::optional<StateDirectory> directory_;
  std::string path_;
  std::vector<std::string> versions_;
  std::size_t used_ = 0;
};

TEST_F(JournalDamage, EveryPrefix) {
  const std::string& whole = versions_.back();
  for (std::size_t length = 1; length <= used_; ++length) {
    std::string torn = whole.substr(0, length);
    if (length % 16 == 0) {
      ASSERT_TRUE(is_replayed_or_refused(torn)) << "cut after " << length;
    }
    torn.resize(whole.size(), '\0');  // as a preallocated file is
    ASSERT_TRUE(is_replayed_or_refused(torn)) << "zeros after " << length;
  }
}

TEST_F(JournalDamage, EveryFlippedByte) {
  const std::string& whole = versions_.back();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    if (at % 4 == 0) {
      ASSERT_TRUE(is_replayed_or_refused(flipped)) << at;
    }
    ASSERT_NE(parse(flipped).damage, "") << at;
    flipped = whole;
    flipped[at] = static_cast<char>(~flipped[at]);
    ASSERT_NE(parse(flipped).damage, "") << at;
  }
}

// A sector that never reached the disk: zeros, or what it held one append before.
TEST_F(JournalDamage, EveryTornSector) {
  for (std::size_t version = 1; version < versions_.size(); ++version) {
    const std::string& now = versions_[version];
    std::string before = versions_[version - 1];
    before.resize(now.size(), '\0');
    const JournalContent synced = parse(before);
    for (std::size_t at = 0; at < now.size(); at += kSector) {
      for (const std::string& old : {before, std::string(now.size(), '\0')}) {
        std::string torn = now;
        std::memcpy(torn.data() + at, old.data() + at, kSector);
        ASSERT_TRUE(is_replayed_or_refused(torn)) << version << ", sector " << at / kSector;
        const JournalContent content = parse(torn);
        if (old != before) continue;
        // What was synced before is read in any case.
        ASSERT_GE(content.notes.size(), synced.notes.size());
        ASSERT_TRUE(std::equal(synced.notes.begin(), synced.notes.end(), content.notes.begin()));
      }
      // And the other way round: it is the only one that reached the disk.
      std::string early = before;
      std::memcpy(early.data() + at, now.data() + at, kSector);
      ASSERT_TRUE(is_replayed_or_refused(early)) << version << ", sector " << at / kSector;
    }
  }
}

TEST_F(JournalDamage, ALostSectorOfAWholeJournalIsTold) {
  const std::string& whole = versions_.back();
  for (std::size_t at = 0; at + kSector < used_; at += kSector) {
    std::string torn = whole;
    std::memset(torn.data() + at, 0, kSector);
    ASSERT_NE(parse(torn).damage, "") << at / kSector;
  }
}

TEST_F(JournalDamage, AnEmptyFileIsToldToo) {
  ASSERT_TRUE(is_replayed_or_refused(""));
  ASSERT_TRUE(is_replayed_or_refused(std::string(4096, '\0')));
}

}  // namespace
}  // namespace squall::inject
