#include "stage.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <thread>

#include "base/files.h"
#include "host/host.h"
#include "lease_driver.h"
#include "support/fake_systemd.h"

namespace squall::crash_sweep {

namespace {

constexpr uid_t kOwnUser = 47'054;  // nobody else's on any host
constexpr std::uint16_t kRedisPort = 6401;
constexpr std::uint16_t kPostgresPort = 5501;
constexpr const char* kPostgresPrograms = "/usr/lib/postgresql/15/bin/";
constexpr base::Duration kServerLimit = std::chrono::seconds(20);

base::Status enter_namespaces() {
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0)
    return base::system_error("make a network namespace", errno);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return base::system_error("make mounts private", errno);
  const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
    return base::system_error("set up loopback", errno);
  return {};
}

base::Result<base::UniqueFd> listen_on_loopback(std::uint16_t& port) {
  base::UniqueFd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(listener.get(), 64) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length) != 0)
    return base::system_error("listen on loopback", errno);
  port = ntohs(name.sin_port);
  return listener;
}

// None of them contains the folder's path, by which the target is known.
std::string mark_of(const std::string& service, const std::string& folder) {
  return service + "-of-" + folder.substr(folder.rfind('/') + 1);
}

model::Service victim(const std::string& name, const std::string& mark) {
  model::Service service;
  service.name = name;
  service.process.exe = "victim_for_tests";
  service.process.argv_contains = mark;
  return service;
}

model::MemberSelector member(const std::string& name, int port) {
  model::MemberSelector member;
  member.name = member.role = name;
  member.listens = model::ListenAddress{
      .address = "127.0.0.1", .port = static_cast<std::uint16_t>(port), .unix_path = {}};
  return member;
}

std::string redis_folder(const std::string& folder) {
  return folder + "/state-redis";
}

std::vector<std::string> redis_argv(const std::string& folder, bool primary) {
  std::vector<std::string> argv{"/usr/bin/redis-server",
                                "--port",
                                std::to_string(kRedisPort + (primary ? 0 : 1)),
                                "--bind",
                                "127.0.0.1",
                                "--dir",
                                redis_folder(folder),
                                "--save",
                                "",
                                "--repl-diskless-sync-delay",
                                "0"};
  if (!primary) argv.insert(argv.end(), {"--replicaof", "127.0.0.1 " + std::to_string(kRedisPort)});
  return argv;
}

std::string postgres_folder(const std::string& folder) {
  return folder + "/state-postgres";
}

std::vector<std::string> as_postgres(std::vector<std::string> words) {
  std::vector<std::string> argv{"/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres",
                                "--clear-groups", "--"};
  words[0] = kPostgresPrograms + words[0];
  argv.insert(argv.end(), words.begin(), words.end());
  return argv;
}

std::vector<std::string> postgres_argv(const std::string& folder, bool primary) {
  const std::string home = postgres_folder(folder);
  return as_postgres({"postgres", "-D", home + (primary ? "/a" : "/b"), "-p",
                      std::to_string(kPostgresPort + (primary ? 0 : 1)), "-k", home, "-h",
                      "127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=1MB", "-c",
                      "max_connections=10", "-c", "wal_level=replica", "-c", "autovacuum=off"});
}

base::Status run(const std::vector<std::string>& argv) {
  SQUALL_ASSIGN(const auto output, base::run_command({.argv = argv}, std::chrono::seconds(60)));
  if (output.exit_status == 0) return {};
  return base::Error{.message = fmt::format("{} failed: {}", argv.back(), output.error)};
}

template <typename Condition>
base::Status await(const std::string& what, const Condition& condition) {
  const base::Instant end = base::BootClock::now() + kServerLimit;
  while (!condition()) {
    if (base::BootClock::now() > end)
      return base::Error{.code = base::ErrorCode::kTimeout, .message = what + " does not come up"};
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {};
}

void end(base::ChildProcess& child) {
  if (!child.pidfd().valid()) return;
  if (!child.pidfd().ended() && !child.pidfd().signal(SIGKILL).ok()) return;
  static_cast<void>(child.wait(std::chrono::seconds(5)));
}

void kill_members(const model::Service& service) {
  const auto members = host::find_members(host::real_host(), service);
  if (!members.ok()) return;
  for (const host::Member& found : *members) {
    const auto process = base::PidFd::open(found.process.identity);
    if (!process.ok() || !process->signal(SIGKILL).ok()) continue;
    pollfd request{.fd = process->get(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 5000);
  }
}

// Targets that were killed: thousands of zombies make every look at the processes slow.
void bury_the_dead() {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

// Version one has one hierarchy for each controller, version two one for all.
std::vector<std::string> group_folders(const std::string& folder) {
  const std::string name = folder.substr(folder.rfind('/') + 1);
  std::vector<std::string> folders;
  for (const char* controller : {"cpu", "memory", "pids", "blkio"}) {
    const std::string hierarchy = fmt::format("/sys/fs/cgroup/{}", controller);
    if (::access((hierarchy + "/cgroup.procs").c_str(), F_OK) == 0)
      folders.push_back(hierarchy + "/" + name);
  }
  if (folders.empty()) folders.push_back("/sys/fs/cgroup/" + name);
  return folders;
}

bool write_to(const std::string& path, const std::string& text) {
  const base::UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  return file && base::write_all(file.get(), text).ok();
}

}  // namespace

void remove_groups(const std::string& folder) {
  for (const std::string& group : group_folders(folder)) ::rmdir(group.c_str());
}

base::Result<Stage> Stage::make(const std::string& folder) {
  SQUALL_TRY(enter_namespaces());
  Stage stage;
  stage.folder_ = folder;
  if (::access("/usr/bin/systemctl", X_OK) == 0) {
    SQUALL_TRY(test::stand_in_for_systemd(folder));
    SQUALL_TRY(test::write_fake_unit("sweep.service"));
  }
  const std::string disk = folder + "/disk";
  SQUALL_TRY(base::make_directories(disk));
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=1m,nr_inodes=100") != 0)
    return base::system_error("mount a filesystem", errno);
  // The journal lies in memory, as in /run: what it must survive here is not a power cut.
  const std::string state = folder + "/state";
  SQUALL_TRY(base::make_directories(state));
  if (::mount("none", state.c_str(), "tmpfs", 0, "mode=755") != 0)
    return base::system_error("mount a filesystem", errno);
  SQUALL_TRY(base::make_directories(base::join_path(folder, "data")));
  SQUALL_TRY(base::write_file_atomically(folder + "/state-boot-id", "the first boot\n"));
  if (::mkfifo((folder + kLookedPipe).c_str(), 0600) != 0)
    return base::system_error("make a pipe", errno);
  // As a machine's controller would: the instance boots, or it does not.
  SQUALL_TRY(base::write_file_atomically(
      folder + "/new-boot",
      fmt::format("#!/bin/sh\ncat /proc/sys/kernel/random/uuid > {0}/state-$$ &&\n"
                  "mv {0}/state-$$ {0}/state-boot-id\n",
                  folder),
      0755));
  std::uint16_t port = 0;
  SQUALL_ASSIGN(stage.listener_, listen_on_loopback(port));
  model::Service target = victim("target", folder);
  target.start = {VICTIM_PROGRAM, folder};
  target.expected_members = 1;
  model::Service server;
  server.name = "server";
  server.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
  model::Service users;
  users.name = "users";
  users.external = true;
  users.depends_on = {"server"};
  model::Service box;
  box.name = "box";
  box.container.name = "box";
  model::Service queue;
  queue.name = "queue";
  queue.kind = "redis";
  queue.members = {member("one", kRedisPort), member("two", kRedisPort + 1)};
  queue.start = redis_argv(folder, /*primary=*/true);
  model::Service database;
  database.name = "db";
  database.kind = "postgres";
  database.members = {member("a", kPostgresPort), member("b", kPostgresPort + 1)};
  database.start = postgres_argv(folder, /*primary=*/true);
  stage.map_.services = {target,
                         victim("own-user", mark_of("own-user", folder)),
                         victim("grouped", mark_of("grouped", folder)),
                         server,
                         users,
                         box,
                         queue,
                         database};
  stage.map_.name = "crash-sweep";
  stage.map_.directory = folder;
  stage.map_.file = folder + "/squall.yaml";
  return stage;
}

Stage::~Stage() {
  if (folder_.empty()) return;
  end(grouped_);
  remove_groups(folder_);
}

const model::Service& Stage::service(const std::string& name) const {
  return *std::find_if(map_.services.begin(), map_.services.end(),
                       [&](const model::Service& service) { return service.name == name; });
}

int Stage::members_of(const model::Service& service) {
  return service.members.empty() ? 1 : static_cast<int>(service.members.size());
}

std::string Stage::missing_for(const Scenario& scenario) {
  if (scenario.service == "box") return test::Podman::missing();
  if (scenario.service == "queue" && ::access("/usr/bin/redis-server", X_OK) != 0)
    return "redis-server is missing";
  if (scenario.service == "db" &&
      ::access(fmt::format("{}initdb", kPostgresPrograms).c_str(), X_OK) != 0)
    return "postgresql-15 is missing";
  return {};
}

base::Status Stage::set_up(const Scenario& scenario) {
  bury_the_dead();
  if (scenario.service == "box") return start_box();
  if (scenario.service == "queue") return start_redis();
  if (scenario.service == "db") return start_postgres();
  // They end by themselves after two minutes, so that none is left behind.
  if (base::BootClock::now() - started_ > std::chrono::seconds(60)) {
    tear_down();
    started_ = base::BootClock::now();
  }
  if (scenario.service == "grouped") SQUALL_TRY(start_grouped());
  SQUALL_ASSIGN(const auto members, host::find_members(host::real_host(), target()));
  if (!members.empty()) return {};
  base::SpawnOptions options;
  options.argv = target().start;
  options.new_session = true;
  SQUALL_ASSIGN([[maybe_unused]] const auto child, base::spawn(options));
  if (own_user_.pidfd().valid() && !own_user_.pidfd().ended()) return {};
  end(own_user_);
  SQUALL_ASSIGN(own_user_, base::spawn({.argv = {VICTIM_PROGRAM, mark_of("own-user", folder_)},
                                        .user = kOwnUser,
                                        .parent_death_signal = SIGKILL}));
  return {};
}

base::Status Stage::start_grouped() {
  if (grouped_.pidfd().valid() && !grouped_.pidfd().ended()) return {};
  end(grouped_);
  SQUALL_ASSIGN(grouped_, base::spawn({.argv = {VICTIM_PROGRAM, mark_of("grouped", folder_)},
                                       .parent_death_signal = SIGKILL}));
  groups_ = group_folders(folder_);
  for (const std::string& group : groups_) {
    const std::string above = group.substr(0, group.rfind('/'));
    for (const char* controller : {"+cpu", "+memory", "+pids", "+io"})
      write_to(above + "/cgroup.subtree_control", controller);
    if (::mkdir(group.c_str(), 0755) != 0 && errno != EEXIST)
      return base::system_error("make " + group, errno);
    if (!write_to(group + "/cgroup.procs", std::to_string(grouped_.pid())))
      return base::Error{.message = "cannot move a process to " + group};
  }
  return {};
}

base::Status Stage::start_box() {
  if (podman_) {
    if (!podman_->is_running("box")) podman_->podman_says({"start", "box"});
    return {};
  }
  // Below a name that the snapshot leaves out: an engine writes as it likes.
  const std::string home = folder_ + "/state-podman";
  SQUALL_TRY(base::make_directories(home));
  podman_ = std::make_unique<test::Podman>(home);
  SQUALL_TRY(podman_->start_service());
  podman_->start("box");
  return {};
}

// Nobody's child, so that it is buried at once when it is killed: its successor takes a zombie for
// a living owner of its data.
base::Status Stage::start_apart(std::vector<std::string> argv) const {
  argv.insert(argv.begin(), {"/usr/bin/setsid", "--fork"});
  SQUALL_ASSIGN(auto child, base::spawn({.argv = std::move(argv)}));
  SQUALL_ASSIGN([[maybe_unused]] const int status, child.wait(kServerLimit));
  return {};
}

base::Status Stage::start_redis() {
  SQUALL_TRY(base::make_directories(redis_folder(folder_)));
  SQUALL_ASSIGN(const auto members, host::find_members(host::real_host(), service("queue")));
  const auto runs = [&](const std::string& name) {
    return std::any_of(members.begin(), members.end(),
                       [&](const host::Member& found) { return found.name == name; });
  };
  if (!runs("one")) SQUALL_TRY(start_apart(redis_argv(folder_, /*primary=*/true)));
  if (!runs("two")) SQUALL_TRY(start_apart(redis_argv(folder_, /*primary=*/false)));
  const auto linked = [&] {
    const auto said =
        base::run_command({.argv = {"/usr/bin/redis-cli", "-p", std::to_string(kRedisPort + 1),
                                    "info", "replication"}},
                          std::chrono::seconds(2));
    return said.ok() && said->output.find("master_link_status:up") != std::string::npos;
  };
  return await("redis", linked);
}

base::Status Stage::start_postgres() {
  const std::string home = postgres_folder(folder_);
  const auto streams = [&] {
    const auto said = base::run_command(
        {.argv = as_postgres({"psql", "-qAt", "-h", home, "-p", std::to_string(kPostgresPort), "-d",
                              "postgres", "-c", "select count(*) from pg_stat_replication"})},
        std::chrono::seconds(2));
    return said.ok() && said->output == "1\n";
  };
  if (has_postgres_) {
    SQUALL_ASSIGN(const auto members, host::find_members(host::real_host(), service("db")));
    for (const bool primary : {true, false}) {
      const bool runs = std::any_of(members.begin(), members.end(), [&](const host::Member& found) {
        return found.name == (primary ? "a" : "b");
      });
      if (!runs) SQUALL_TRY(start_apart(postgres_argv(folder_, primary)));
    }
    return await("postgres", streams);
  }
  SQUALL_TRY(base::make_directories(home));
  ::chmod(folder_.c_str(), 0711);
  ::chmod(home.c_str(), 0777);
  SQUALL_TRY(run(as_postgres({"initdb", "-D", home + "/a", "--auth=trust", "--no-sync",
                              "--no-instructions", "--locale=C"})));
  SQUALL_TRY(start_apart(postgres_argv(folder_, /*primary=*/true)));
  SQUALL_TRY(await("postgres", [&] {
    return run(as_postgres({"pg_basebackup", "-D", home + "/b", "-R", "-X", "stream",
                            "--checkpoint=fast", "--no-sync", "-h", home, "-p",
                            std::to_string(kPostgresPort)}))
        .ok();
  }));
  SQUALL_TRY(start_apart(postgres_argv(folder_, /*primary=*/false)));
  has_postgres_ = true;
  return await("postgres' replication", streams);
}

void Stage::accept_all() const {
  while (base::UniqueFd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)}) {
  }
}

base::Status Stage::replace_target(const Scenario& scenario) {
  kill_members(target());
  return set_up(scenario);
}

void Stage::tear_down() {
  podman_.reset();
  end(own_user_);
  end(grouped_);
  kill_members(target());
  if (::access(test::kFakeUnits, F_OK) == 0)
    static_cast<void>(test::write_fake_unit("sweep.service"));
}

}  // namespace squall::crash_sweep
