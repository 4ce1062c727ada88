#pragma once
// What the tests of callers share: a warden with a group and a policy of the test's own, and
// engines and other programs of users that this host does not know.

#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "inject/journal.h"
#include "inject/registry.h"
#include "inject/warden.h"
#include "inject/wire.h"
#include "integration/inject/fixture.h"

namespace squall::inject {

inline const Account kAlice{.user = 61234, .group = 61234, .groups = {61234, 61299}};
inline const Account kBob{.user = 61235, .group = 61235, .groups = {61235}};  // not of the group
constexpr gid_t kMembers = 61299;

// In a child of ours, which becomes the account for good.
inline void become(const Account& account) {
  if (::setgroups(account.groups.size(), account.groups.data()) != 0 ||
      ::setresgid(account.group, account.group, account.group) != 0 ||
      ::setresuid(account.user, account.user, account.user) != 0)
    ::_exit(90);
}

// What `work` says when it is done as that account.
inline std::string said_as(const Account& account, const std::function<std::string()>& work) {
  std::array<int, 2> pipe{};
  EXPECT_EQ(::pipe(pipe.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    become(account);
    const std::string text = work();
    [[maybe_unused]] const auto wrote = ::write(pipe[1], text.data(), text.size());
    ::_exit(0);
  }
  ::close(pipe[1]);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 1; (got = ::read(pipe[0], buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(got));
  ::close(pipe[0]);
  ::waitpid(child, nullptr, 0);
  return text;
}

// An engine of that account with one fault: tells each state as a line, renews until its input
// ends, and reverts when it reads a byte.
class UserEngine {
 public:
  UserEngine(const Account& account, const HolderOptions& options,
             const model::FaultBinding& binding, base::Duration duration = 30s,
             bool rehearses = false) {
    std::array<int, 2> input{};
    std::array<int, 2> output{};
    EXPECT_EQ(::pipe2(input.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(output.data(), O_CLOEXEC | O_NONBLOCK), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::alarm(100);
      ::close(input[1]);
      ::close(output[0]);
      become(account);
      run(options, binding, duration, rehearses, input[0], output[1]);
      ::_exit(0);
    }
    ::close(input[0]);
    ::close(output[1]);
    input_.reset(input[1]);
    output_.reset(output[0]);
  }
  UserEngine(const UserEngine&) = delete;
  UserEngine& operator=(const UserEngine&) = delete;
  ~UserEngine() { end(); }

  void revert() const { EXPECT_EQ(::write(input_.get(), "r", 1), 1); }
  void end() {
    input_.reset();
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    end();
  }
  pid_t pid() const { return pid_; }

  // The rest of the first line that begins with `state`; fails after 30 s.
  std::string wait_for(const std::string& state) {
    const base::Instant deadline = base::BootClock::now() + 30s;
    while (base::BootClock::now() < deadline) {
      for (std::size_t end = said_.find('\n'); end != std::string::npos; end = said_.find('\n')) {
        const std::string line = said_.substr(0, end);
        said_.erase(0, end + 1);
        heard_ += line + "\n";
        if (line.starts_with(state + " ")) return line.substr(state.size() + 1);
      }
      pollfd request{.fd = output_.get(), .events = POLLIN, .revents = 0};
      ::poll(&request, 1, 100);
      std::array<char, 4096> buffer{};
      const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
      if (got > 0) said_.append(buffer.data(), static_cast<std::size_t>(got));
      if (got == 0) break;
    }
    ADD_FAILURE() << "the engine did not say `" << state << "`, but:\n" << heard_ << said_;
    return {};
  }

 private:
  static void say(int output, std::string_view state, std::string text) {
    std::replace(text.begin(), text.end(), '\n', '|');
    const std::string line = fmt::format("{} {}\n", state, text);
    [[maybe_unused]] const auto wrote = ::write(output, line.data(), line.size());
  }

  static void run(const HolderOptions& options, model::FaultBinding binding,
                  base::Duration duration, bool rehearses, int input, int output) {
    const bool aims_at_itself = binding.fault == "at-itself";
    auto client = HolderClient::start(options);
    if (!client.ok())
      return say(output, "refused", client.error().message + " Next: " + client.error().hint);
    if (aims_at_itself) binding.targets[0].process = base::identify_process(::getpid()).value();
    if (rehearses) {
      const auto rehearsed = (*client)->rehearse(binding);
      say(output, rehearsed.ok() ? "rehearsed" : "unrehearsed",
          rehearsed.ok() ? *rehearsed : rehearsed.error().message);
    }
    if (auto armed = (*client)->arm({.binding = binding, .duration = duration}); !armed.ok())
      return say(output, "refused", armed.error().message);
    while (true) {
      std::array<pollfd, 2> requests{{{.fd = (*client)->fd(), .events = POLLIN, .revents = 0},
                                      {.fd = input, .events = POLLIN, .revents = 0}}};
      ::poll(requests.data(), requests.size(), 200);
      if (auto renewed = (*client)->renew(); !renewed.ok())
        return say(output, "ended", renewed.error().message);
      const auto events = (*client)->take_events();
      if (!events.ok()) return say(output, "ended", events.error().message);
      for (const LeaseEvent& event : *events) {
        say(output, event.notice ? "notice" : to_string(event.state),
            event.cause + ": " + event.text);
      }
      if (requests[1].revents == 0) continue;
      char byte = 0;
      if (::read(input, &byte, 1) <= 0) return;
      if (auto sent = (*client)->revert_all("asked"); !sent.ok())
        say(output, "unreverted", sent.error().message);
    }
  }

  pid_t pid_ = 0;
  base::UniqueFd input_;
  base::UniqueFd output_;
  std::string said_;
  std::string heard_;
};

class CallerTest : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    ::chmod(folder_.c_str(), 0755);
    policy_ = folder_ + "/policy.yaml";
    add_service(1);
  }
  void TearDown() override {
    client_.reset();
    if (warden_) end_warden(SIGTERM);
    InjectTest::TearDown();
  }

  void write_policy(const std::string& text) const { std::ofstream(policy_) << text; }
  void start_warden() {
    warden_ =
        base::spawn({.argv = {program("holder_for_tests"), "warden", state_,
                              std::to_string(kMembers), policy_},
                     .environment = std::map<std::string, std::string>{{"PATH", "/usr/bin:/bin"},
                                                                       {"SECRET", "of-root"}},
                     .parent_death_signal = SIGKILL})
            .value();
    wait_until([&] { return connect_to_warden(StateDirectory{state_}).ok(); }, "the warden");
  }
  void end_warden(int signal) {
    EXPECT_TRUE(warden_->pidfd().signal(signal).ok());
    EXPECT_TRUE(warden_->wait(20s).ok());
    warden_.reset();
  }
  // A member of the service `victim` that belongs to this account.
  base::ProcessIdentity start_victim_of(const Account& account,
                                        const std::vector<std::string>& words = {}) {
    std::vector<std::string> argv{program("victim_for_tests"), folder_};
    argv.insert(argv.end(), words.begin(), words.end());
    auto child = base::spawn({.argv = argv,
                              .user = account.user,
                              .group = account.group,
                              .supplementary_groups = account.groups,
                              .parent_death_signal = SIGKILL});
    EXPECT_TRUE(child.ok());
    const base::ProcessIdentity identity = child->pidfd().identity();
    victims_.push_back(std::move(*child));
    wait_until([&] { return find_victims().size() == victims_.size(); }, "the victim");
    return identity;
  }
  // A folder that only this account may write to.
  std::string folder_of(const Account& account) const {
    const std::string path = fmt::format("{}/of-{}", folder_, account.user);
    ::mkdir(path.c_str(), 0755);
    EXPECT_EQ(::chown(path.c_str(), account.user, account.group), 0);
    return path;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream file(path);  // also of /proc, where files have no size
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static uid_t owner_of(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_uid : static_cast<uid_t>(-1);
  }
  LeaseRecord only_lease() const {
    const auto files = StateDirectory{state_}.lease_files();
    EXPECT_EQ(files.size(), 1u);
    const auto content = files.empty() ? base::Result<JournalContent>{JournalContent{}}
                                       : read_journal(files.front());
    return content.ok() && content->lease ? *content->lease : LeaseRecord{};
  }

  std::string policy_;
  std::optional<base::ChildProcess> warden_;
};

}  // namespace squall::inject
