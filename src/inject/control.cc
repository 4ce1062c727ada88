// What can be done about active faults without any engine: see them, stop them, clean up after dead
// holders, and the kill switch.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/files.h"
#include "base/text.h"
#include "inject/client.h"
#include "inject/json_fields.h"
#include "inject/poll_loop.h"
#include "inject/registry.h"
#include "inject/replay.h"
#include "inject/warden.h"
#include "inject/wire.h"

namespace squall::inject {

namespace {

using base::Json;

// A holder that says nothing for this long hangs. Reverts that wait for a replacement are told by
// the holder's life sign: its run file stays, its process runs.
constexpr base::Duration kAnswerLimit = std::chrono::seconds(45);
constexpr base::Duration kGiveUpAfter = std::chrono::seconds(10);
constexpr std::size_t kKillSwitchLimit = 64 * 1024;

base::Result<base::UniqueFd> connect_to(const RunFile& run) {
  base::UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return base::system_error("create a socket", errno);
  const std::size_t slash = run.socket.rfind('/');
  const base::UniqueFd folder{
      ::open(run.socket.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  const std::string path =
      fmt::format("/proc/self/fd/{}{}", folder.get(), run.socket.substr(slash));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!folder || path.size() >= sizeof address.sun_path)
    return base::system_error("open the folder of " + run.socket, folder ? ENAMETOOLONG : errno);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return base::system_error("connect to " + run.socket, errno);
  return socket;
}

bool wait_readable(int fd, base::Duration limit) {
  pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
  return ::poll(&request, 1, static_cast<int>(milliseconds)) > 0;
}

base::Result<Finished> ask_to_stop(const RunFile& run, std::string_view who, std::string_view why) {
  auto told = tell_holder_to_stop(run, who, why);
  // Many may knock at this moment.
  for (int attempt = 0; attempt < 20 && !told.ok() && alive(run.holder, run.boot_id); ++attempt) {
    ::poll(nullptr, 0, 50);
    told = tell_holder_to_stop(run, who, why);
  }
  SQUALL_ASSIGN(const base::UniqueFd socket, std::move(told));
  if (!wait_readable(socket.get(), kAnswerLimit)) {
    return base::Error{.code = base::ErrorCode::kTimeout,
                       .message = fmt::format("the holder of run {} does not answer", run.run)};
  }
  SQUALL_ASSIGN(const auto answer, receive_packet(socket.get()));
  SQUALL_ASSIGN(Message message, decode(answer));
  if (auto* finished = std::get_if<Finished>(&message)) return std::move(*finished);
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = fmt::format("the holder of run {} answers garbage", run.run)};
}

int leases_of(const StateDirectory& directory, const std::string& run) {
  int count = 0;
  for (const std::string& path : directory.lease_files()) {
    const auto content = read_journal(path);
    if (content.ok() && content->lease && content->lease->run == run) ++count;
  }
  return count;
}

base::Result<std::vector<std::string>> replay_all(const StateDirectory& directory,
                                                  const std::string& run);

// Its keeper may be undoing them as well: who holds a journal undoes it, the other one waits.
bool wait_until_undone(const StateDirectory& directory, const std::string& run) {
  const base::Instant deadline = base::BootClock::now() + kAnswerLimit;
  while (leases_of(directory, run) > 0) {
    if (base::BootClock::now() >= deadline) return false;
    ::poll(nullptr, 0, 10);
  }
  return true;
}

// The holder hangs: kill it, wait until it is dead, undo its faults from the journal.
base::Result<int> kill_and_replay(const StateDirectory& directory, const RunFile& run) {
  const int leases = leases_of(directory, run.run);
  auto process = base::PidFd::open(run.holder);
  if (process.ok()) {
    if (auto killed = process->signal(SIGKILL);
        !killed.ok() && killed.error().code != base::ErrorCode::kNotFound)
      return std::move(killed).error().within("ending a holder that does not answer");
    if (!wait_readable(process->get(), kAnswerLimit)) {
      return base::Error{
          .code = base::ErrorCode::kRevertNotVerified,
          .message = fmt::format("the holder of run {}, process {}, does not even die", run.run,
                                 run.holder.pid),
          .hint = "it is stuck in the kernel; see /proc/PID/stack, then run `squall cleanup`"};
    }
  }
  SQUALL_ASSIGN(const auto lines, replay_all(directory, run.run));
  if (wait_until_undone(directory, run.run)) return leases;
  return base::Error{.code = base::ErrorCode::kRevertNotVerified,
                     .message = fmt::format("run {} has faults that are not undone yet", run.run),
                     .hint = "see `squall status`, then run `squall cleanup`"};
}

base::Result<int> stop_one(const StateDirectory& directory, const RunFile& run,
                           std::string_view who, std::string_view why) {
  auto finished = ask_to_stop(run, who, why);
  if (!finished.ok()) {
    // It may have ended by itself between our look and our knock.
    if (!alive(run.holder, run.boot_id) && leases_of(directory, run.run) == 0) return 0;
    return kill_and_replay(directory, run);
  }
  if (finished->left.empty()) return finished->leases;
  return base::Error{.code = base::ErrorCode::kRevertNotVerified,
                     .message = finished->left.front(),
                     .hint = "run `squall cleanup`",
                     .context = {fmt::format("stopping run {}", run.run)}};
}

void poll_leases(const std::vector<std::unique_ptr<Lease>>& leases, Programs& programs) {
  PollSet events;
  events.watch(programs.fd());
  base::Instant due = base::Instant::max();
  for (const auto& lease : leases) {
    due = std::min(due, lease->due());
    for (const int fd : lease->descriptors()) events.watch(fd);
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - base::BootClock::now());
  events.wait(static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1000)));
  for (const auto& lease : leases) lease->advance(events.ready());
}

bool hopeless(const Lease& lease) {
  return !lease.trouble().empty() &&
         base::BootClock::now() - lease.reverting_since() > kGiveUpAfter;
}

base::Result<std::vector<std::string>> replay_all(const StateDirectory& directory,
                                                  const std::string& run) {
  SQUALL_ASSIGN(auto programs, fork_starter());
  const Lease::Means means{
      .host = host::real_host(), .programs = *programs, .tell = [](const LeaseEvent&) {}};
  DeadLeases dead = take_up_dead_leases(directory, run, means);
  for (const auto& lease : dead.leases) lease->revert("cleanup");
  const auto settled = [](const auto& lease) { return lease->over() || hopeless(*lease); };
  while (!std::all_of(dead.leases.begin(), dead.leases.end(), settled))
    poll_leases(dead.leases, *programs);
  for (const auto& lease : dead.leases) {
    if (lease->over())
      dead.lines.push_back(describe_lease(lease->record(), lease->last_text()));
    else
      dead.left.push_back(describe_lease(lease->record(), lease->trouble()));
  }
  for (std::string& line : set_aside(std::move(dead.damaged))) dead.left.push_back(std::move(line));
  remove_dead_run_files(directory);
  if (dead.left.empty()) return std::move(dead.lines);
  std::string message = dead.left.front();
  for (std::size_t i = 1; i < dead.left.size(); ++i) message += "; " + dead.left[i];
  return base::Error{.code = base::ErrorCode::kRevertNotVerified,
                     .message = message,
                     .hint =
                         "put it right by hand, then run `squall cleanup` again; what cannot or "
                         "need not be put right: `squall cleanup --forget RUN`",
                     .context = dead.lines};
}

// One question to the warden's socket for everybody.
base::Result<Message> ask_warden(const StateDirectory& directory, const Message& question,
                                 base::Duration limit) {
  SQUALL_ASSIGN(const base::UniqueFd socket, connect_to_public(directory));
  SQUALL_ASSIGN(const auto packet, encode(question));
  SQUALL_TRY(send_packet(socket.get(), packet));
  if (!wait_readable(socket.get(), limit))
    return base::Error{.code = base::ErrorCode::kTimeout,
                       .message = "the warden does not answer",
                       .hint = "see `systemctl status squall-warden`"};
  SQUALL_ASSIGN(const auto answer, receive_packet(socket.get()));
  return decode(answer);
}

// The journals are root's: they may hold the secrets of a `command`.
base::Result<std::vector<ActiveLease>> others_leases(const StateDirectory& directory) {
  auto answer = ask_warden(directory, StatusMessage{}, std::chrono::seconds(10));
  if (answer.ok()) {
    if (auto* reply = std::get_if<StatusReply>(&*answer)) return std::move(reply->leases);
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the warden answers garbage"};
  }
  if (answer.error().code != base::ErrorCode::kUnavailable) return std::move(answer).error();
  if (directory.lease_files().empty()) return std::vector<ActiveLease>{};
  return base::Error{.code = base::ErrorCode::kPermission,
                     .message =
                         "faults are active on this host, and only root may read which: no "
                         "warden runs that would tell",
                     .hint = "sudo squall status"};
}

// What somebody else than root asks the warden to end.
base::Result<int> stop_through_warden(const StateDirectory& directory, const StopMessage& request) {
  SQUALL_ASSIGN(const Message answer, ask_warden(directory, request, kAnswerLimit));
  const auto* finished = std::get_if<Finished>(&answer);
  if (finished == nullptr)
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the warden answers garbage"};
  // A holder that died instead of answering is being replayed.
  const base::Instant deadline = base::BootClock::now() + kAnswerLimit;
  while (base::BootClock::now() < deadline) {
    SQUALL_ASSIGN(const auto leases, others_leases(directory));
    const bool left = std::any_of(leases.begin(), leases.end(), [&](const ActiveLease& lease) {
      return request.run.empty() || lease.run == request.run;
    });
    if (!left && finished->left.empty()) return finished->leases;
    if (!left || !finished->left.empty()) break;
    ::poll(nullptr, 0, 50);
  }
  return base::Error{.code = base::ErrorCode::kRevertNotVerified,
                     .message = finished->left.empty() ? "not every fault has ended"
                                                       : base::join(finished->left, "; "),
                     .hint = "see `squall status`, then: sudo squall cleanup"};
}

std::string now_text() {
  return base::format_wall_time(base::real_clock().wall_now());
}

}  // namespace

base::Result<base::UniqueFd> tell_holder_to_stop(const RunFile& run, std::string_view who,
                                                 std::string_view why) {
  SQUALL_ASSIGN(base::UniqueFd socket, connect_to(run));
  SQUALL_ASSIGN(const auto packet,
                encode(StopMessage{.who = std::string(who), .why = std::string(why)}));
  SQUALL_TRY(send_packet(socket.get(), packet));
  return socket;
}

base::Result<std::vector<ActiveLease>> active_leases(const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  if (::geteuid() != 0) return others_leases(directory);
  std::vector<ActiveLease> leases;
  for (const std::string& path : directory.lease_files()) {
    const auto content = read_journal(path);
    if (!content.ok()) continue;  // removed since it was listed
    if (!content->lease) {
      leases.push_back({.lease = {},
                        .run = "unknown",
                        .experiment = "unknown",
                        .fault = path,
                        .kind = "damaged journal",
                        .reason = content->damage,
                        .targets = {},
                        .processes = {},
                        .owner = "unknown",
                        .state = LeaseState::kFailed,
                        .ends = {},
                        .holder = {},
                        .holder_alive = false,
                        .overlap = false});
      continue;
    }
    const LeaseRecord& record = *content->lease;
    std::vector<std::string> targets;
    std::vector<base::ProcessIdentity> processes;
    for (const auto& target : record.binding.targets) {
      targets.push_back(target.description);
      if (target.process.pid != 0) processes.push_back(target.process);
    }
    leases.push_back({.lease = record.lease,
                      .run = record.run,
                      .experiment = record.experiment,
                      .fault = record.binding.fault,
                      .kind = record.binding.kind,
                      .reason = record.reason,
                      .targets = std::move(targets),
                      .processes = std::move(processes),
                      .owner = record.owner,
                      .state = content->state,
                      .ends = content->ends,
                      .holder = record.holder,
                      .holder_alive = alive(record.holder, record.boot_id),
                      .overlap = record.binding.overlap});
  }
  return leases;
}

base::Result<int> stop(const std::string& run, std::string_view who, std::string_view why,
                       const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  if (::geteuid() != 0 && connect_to_public(directory).ok()) {
    const auto runs = run_files(directory);
    const bool known =
        std::any_of(runs.begin(), runs.end(), [&](const RunFile& file) { return file.run == run; });
    if (run.empty() || known)
      return stop_through_warden(directory,
                                 {.who = std::string(who), .why = std::string(why), .run = run});
  }
  int ended = 0;
  bool found = false;
  std::optional<base::Error> failure;
  for (const RunFile& file : run_files(directory)) {
    if (!run.empty() && file.run != run) continue;
    found = true;
    auto stopped = stop_one(directory, file, who, why);
    if (stopped.ok())
      ended += *stopped;
    else if (!failure)
      failure = std::move(stopped).error();
  }
  if (failure) return *failure;
  if (found || run.empty()) return ended;
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("no run {} is active on this host", run),
                     .hint = "`squall status` lists what is"};
}

base::Result<std::vector<std::string>> cleanup(const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  if (directory.lease_files().empty() && run_files(directory).empty() &&
      ::access(directory.path().c_str(), F_OK) != 0)
    return std::vector<std::string>{};
  if (::geteuid() != 0 && ::access(directory.leases().c_str(), W_OK) != 0) {
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message = "undoing the faults of a dead holder needs root",
                       .hint = "sudo squall cleanup"};
  }
  return replay_all(directory, {});
}

base::Result<std::vector<std::string>> forget(const std::string& run,
                                              const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  SQUALL_ASSIGN(auto lines, forget_dead_leases(directory, run));
  remove_dead_run_files(directory);
  if (!lines.empty()) return lines;
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("run {} has left nothing on this host", run),
                     .hint = "`squall status` lists what is left"};
}

base::Result<KillSwitch> kill_switch(const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  const std::string path = directory.kill_switch();
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return KillSwitch{};
  // Present but unreadable counts as engaged: any doubt before an injection blocks it.
  KillSwitch found{.engaged = true,
                   .who = "unknown",
                   .why = fmt::format("{} cannot be read", path),
                   .since = "unknown"};
  const auto text = base::read_file(path, kKillSwitchLimit);
  const auto json = text.ok() ? base::parse_json(*text) : base::Result<Json>{text.error()};
  if (!json.ok()) return found;
  found.who = text_field(*json, "who");
  found.why = text_field(*json, "why");
  found.since = text_field(*json, "since");
  return found;
}

base::Status engage_kill_switch(std::string_view who, std::string_view why,
                                const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  SQUALL_TRY(directory.create());
  const Json json = {{"who", who}, {"why", why}, {"since", now_text()}};
  // Under the lock, so that no lease slips in between somebody's look and our write.
  SQUALL_ASSIGN(const base::UniqueFd lock, directory.lock());
  return base::write_file_atomically(directory.kill_switch(),
                                     json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

base::Status release_kill_switch(const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  if (::geteuid() != 0) {
    SQUALL_ASSIGN(const base::UniqueFd socket, connect_to_warden(directory));
    SQUALL_ASSIGN(const auto packet, encode(ReleaseMessage{}));
    SQUALL_TRY(send_packet(socket.get(), packet));
    if (!wait_readable(socket.get(), std::chrono::seconds(10)))
      return base::Error{.code = base::ErrorCode::kTimeout,
                         .message = "the warden does not answer"};
    SQUALL_ASSIGN(const auto answer, receive_packet(socket.get()));
    SQUALL_ASSIGN(const Message message, decode(answer));
    if (std::holds_alternative<Finished>(message)) return {};
    const auto* refused = std::get_if<RehearsedMessage>(&message);
    if (refused != nullptr && refused->error) return *refused->error;
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the warden answers garbage"};
  }
  if (::unlink(directory.kill_switch().c_str()) != 0 && errno != ENOENT)
    return base::system_error("remove " + directory.kill_switch(), errno);
  return {};
}

base::Result<int> stop_everything(std::string_view who, std::string_view why,
                                  const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  if (::geteuid() != 0 && connect_to_public(directory).ok())
    return stop_through_warden(
        directory, {.who = std::string(who), .why = std::string(why), .everything = true});
  // The switch first, so that nothing starts while the rest is being ended. Without it the rest is
  // ended all the same.
  auto engaged = engage_kill_switch(who, why, state_directory);
  SQUALL_ASSIGN(const int ended, stop({}, who, why, state_directory));
  if (engaged.ok()) return ended;
  base::Error error = std::move(engaged).error();
  error.message =
      fmt::format("{} ended, but new ones are not refused: {}",
                  base::counted(static_cast<std::size_t>(ended), "fault"), error.message);
  error.hint = "sudo squall stop --all";
  return error;
}

}  // namespace squall::inject
