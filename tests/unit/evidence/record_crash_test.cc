// What is left of a record when its writer is killed or its disk is full: real processes, real
// filesystems.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/random.h"
#include "evidence/recorder.h"

namespace squall::evidence {
namespace {

using std::chrono::milliseconds;

// Runs `body` in a child process and says how it ended, as in waitpid. Failed expectations of the
// child make it exit with 1.
int run_in_child(const std::function<void()>& body,
                 const std::function<void(pid_t)>& meanwhile = {}) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  if (meanwhile) meanwhile(child);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

class RecordCrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = base::make_temporary_directory("squall-crash-");
    ASSERT_TRUE(folder.ok());
    folder_ = *folder;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return base::join_path(folder_, "run.squall"); }
  std::string folder_;
};

// Counters that child and parent share: how many appends were acknowledged.
struct Acknowledged {
  std::atomic<std::uint64_t> events{0};
  std::atomic<std::uint64_t> samples{0};
};

class SharedCounters {
 public:
  SharedCounters()
      : memory_(::mmap(nullptr, sizeof(Acknowledged), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        counters_(new (memory_) Acknowledged()) {}
  SharedCounters(const SharedCounters&) = delete;
  SharedCounters& operator=(const SharedCounters&) = delete;
  ~SharedCounters() { ::munmap(memory_, sizeof(Acknowledged)); }
  Acknowledged* operator->() { return counters_; }

 private:
  void* memory_;
  Acknowledged* counters_;
};

void write_until_killed(const std::string& path, SharedCounters& acknowledged) {
  auto writer = RecordWriter::create(path, {}, 64 * 1024);
  if (!writer.ok()) ::_exit(2);
  Recorder recorder(**writer, nullptr);
  const auto requests = recorder.declare({.name = "reads", .kind = SeriesKind::kRequests});
  const auto gauge = recorder.declare({.name = "stuck.value"});
  if (!requests.ok() || !gauge.ok()) ::_exit(2);
  for (std::uint64_t i = 1;; ++i) {
    const base::Instant at{milliseconds(i)};
    recorder.add({at, "note", std::to_string(i), "", ""});
    acknowledged->events = i;
    recorder.add(*requests,
                 RequestSample{.intended = at, .sent = at, .done = at + milliseconds(1)});
    recorder.add(*gauge, GaugeSample{at, static_cast<double>(i)});
    if (!recorder.flush().ok()) ::_exit(2);
    acknowledged->samples = i;
  }
}

TEST_F(RecordCrashTest, EverythingAcknowledgedIsThereAfterKill) {
  base::Random random(20261121);
  for (int round = 0; round < 25; ++round) {
    SharedCounters acknowledged;
    const std::uint64_t target = random.below(400);
    const int status = run_in_child(
        [&] { write_until_killed(path(), acknowledged); },
        [&](pid_t child) {
          int ended = 0;
          while (acknowledged->events < target && ::waitpid(child, &ended, WNOHANG | WNOWAIT) == 0)
            ::sched_yield();
          ::kill(child, SIGKILL);
        });
    ASSERT_TRUE(WIFSIGNALED(status));
    const auto record = Record::read(path());
    if (!record.ok()) {
      // Killed before the header was whole: nothing was acknowledged.
      ASSERT_EQ(acknowledged->events, 0u) << record.error().to_string();
    } else {
      ASSERT_FALSE(record->finished());
      ASSERT_GE(record->events().size(), acknowledged->events);
      ASSERT_LE(record->events().size(), acknowledged->events + 1);
      for (std::size_t i = 0; i < record->events().size(); ++i)
        ASSERT_EQ(record->events()[i].subject, std::to_string(i + 1));
      std::uint64_t requests = 0;
      std::size_t samples = 0;
      if (const Series* reads = record->find("reads"))
        for (const RequestBucket& bucket : reads->buckets) requests += bucket.count();
      if (const Series* stuck = record->find("stuck.value")) samples = stuck->samples.size();
      ASSERT_GE(requests, acknowledged->samples);
      ASSERT_GE(samples, acknowledged->samples);
      ASSERT_LE(record->damage().size(), 1u);  // at most the torn tail
    }
    std::filesystem::remove(path());
  }
}

// Fills the disk with samples and checks that the end still fits, whatever `limit` bounds the file.
void fill_and_finish(const std::string& path) {
  auto writer = RecordWriter::create(path, {}, 64 * 1024);
  ASSERT_TRUE(writer.ok()) << writer.error().to_string();
  const auto id = (*writer)->declare({.name = "g"});
  ASSERT_TRUE(id.ok());
  std::vector<std::pair<SeriesId, GaugeSample>> samples(1000);
  base::Status status;
  std::size_t written = 0;
  for (int i = 0; i < 10'000 && status.ok(); ++i) {
    for (std::size_t k = 0; k < samples.size(); ++k)
      samples[k] = {*id, {base::Instant{milliseconds(i)}, 0.1 * i + static_cast<double>(k)}};
    status = (*writer)->append(samples);
    if (status.ok()) written += samples.size();
  }
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, base::ErrorCode::kExhausted) << status.error().to_string();
  EXPECT_FALSE(status.error().hint.empty());
  // Sticky, even for what would fit.
  EXPECT_FALSE((*writer)->append(std::span(samples).first(1)).ok());
  EXPECT_EQ((*writer)->failure().error().message, status.error().message);
  // Readable as it is.
  auto record = Record::read(path);
  ASSERT_TRUE(record.ok());
  EXPECT_TRUE(record->damage().empty()) << record->damage().front();
  EXPECT_EQ(record->find("g")->samples.size(), written);
  // The reserve takes what ends a run.
  EXPECT_TRUE(
      (*writer)->append({base::Instant{milliseconds(1)}, "fault.reverted", "x", "", ""}).ok());
  EXPECT_TRUE((*writer)->append_document("judgement", std::string(30'000, 'j')).ok());
  EXPECT_TRUE((*writer)->finish().ok());
  record = Record::read(path);
  ASSERT_TRUE(record.ok());
  EXPECT_TRUE(record->finished());
  EXPECT_TRUE(record->damage().empty());
  EXPECT_EQ(record->events().size(), 1u);
}

TEST_F(RecordCrashTest, AFullDiskIsAStickyErrorAndTheReserveTakesTheEnd) {
  const int status = run_in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=1m") != 0)
      ::_exit(77);
    fill_and_finish(path());
    // A disk without room for the reserve is told before the run, and nothing stays behind.
    auto second = RecordWriter::create(path() + "2", {}, 8 << 20);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, base::ErrorCode::kExhausted);
    EXPECT_FALSE(std::filesystem::exists(path() + "2"));
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(status, 0);
}

TEST_F(RecordCrashTest, AFileSizeLimitIsTreatedLikeAFullDisk) {
  const int status = run_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{512 * 1024, 512 * 1024};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    fill_and_finish(path());
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace squall::evidence
