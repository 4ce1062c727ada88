// What a lease holds in the kernel lives in one process: a second one with the same descriptor
// would keep the fault in force when the holder dies.

#include <dirent.h>
#include <sys/stat.h>

#include <map>

#include "inject/registry.h"
#include "integration/inject/network_fixture.h"

namespace squall::inject {
namespace {

// What the descriptors of a process lead to: sockets and files by their inode. Kernel objects
// without one (timers, signals, pidfds) hold no fault.
std::map<std::string, int> descriptors_of(pid_t pid) {
  std::map<std::string, int> found;
  const std::string path = "/proc/" + std::to_string(pid) + "/fd";
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return found;
  while (const dirent* entry = ::readdir(folder)) {
    struct stat info {};
    const int number = std::atoi(entry->d_name);
    if (number < 3 || ::stat((path + "/" + entry->d_name).c_str(), &info) != 0) continue;
    if (!S_ISSOCK(info.st_mode) && !S_ISREG(info.st_mode)) continue;
    found[std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino)] = number;
  }
  ::closedir(folder);
  return found;
}

using LeaseDescriptors = NetworkTest;

TEST_F(LeaseDescriptors, EachIsInExactlyOneProcess) {
  Server server;
  add_server(server);
  start_holder();
  const auto free = [] {  // a port that was free a moment ago
    return Server().port();
  };
  arm(bind_or_die("network.blackhole",
                  {{"from", "users"}, {"to", "server"}, {"direction", "both"}}));
  wait_for(LeaseState::kArmed);
  arm(bind_or_die("resource.port",
                  {{"port", free()}, {"address", "127.0.0.1"}, {"protocol", "tcp"}}));
  wait_for(LeaseState::kEffective);
  arm(bind_or_die("resource.cpu_load", {{"processors", 1}, {"load", 0.05}}));  // a worker
  wait_for(LeaseState::kEffective);
  const pid_t holder = run_files(StateDirectory{state_}).at(0).holder.pid;
  const auto held = descriptors_of(holder);
  EXPECT_GE(held.size(), 7u);  // engine, keeper, starter, stop, table, port, journals
  const auto table = read_process_table();
  ASSERT_TRUE(table.ok());
  for (const ProcessEntry& entry : *table) {
    if (entry.identity.pid == holder) continue;
    for (const auto& [object, number] : descriptors_of(entry.identity.pid)) {
      const auto shared = held.find(object);
      if (shared == held.end()) continue;
      ADD_FAILURE() << "descriptor " << shared->second << " of the holder is descriptor " << number
                    << " of " << entry.name << ", too";
    }
  }
}

}  // namespace
}  // namespace squall::inject
