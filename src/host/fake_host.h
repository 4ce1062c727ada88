#pragma once
// A machine made up by a test. Not thread-safe while it is being changed.

#include <map>
#include <vector>

#include "host/host.h"

namespace squall::host {

class FakeHost final : public Host {
 public:
  // Adds a process; absent parts are made up (start time: the order of adding).
  Process& add_process(pid_t pid, pid_t parent, std::vector<std::string> argv);
  // Adds a TCP listener held by `owners`.
  Socket& add_listener(std::string address, std::uint16_t port, std::vector<pid_t> owners);
  // Adds both ends of a TCP connection from a port of its own to address:port.
  void add_connection(pid_t client, pid_t server, std::string address, std::uint16_t port);
  void remove_process(pid_t pid);

  base::Result<std::vector<Process>> processes() const override;
  base::Result<Process> process(pid_t pid) const override;
  base::Result<ProcessUsage> usage(const base::ProcessIdentity& identity) const override;
  base::Result<std::vector<Socket>> sockets(Owners owners) const override;
  base::Result<std::string> hostname() const override { return std::string("fake"); }
  base::Result<std::vector<Container>> containers() const override { return containers_; }
  pid_t self() const override { return self_; }
  bool hides_processes() const override { return hides_processes_; }

  void set_usage(pid_t pid, ProcessUsage usage) { usage_[pid] = usage; }
  void set_self(pid_t pid) { self_ = pid; }
  void set_hides_processes(bool hides) { hides_processes_ = hides; }
  void add_container(Container container) { containers_.push_back(std::move(container)); }

 private:
  std::map<pid_t, Process> processes_;
  std::map<pid_t, ProcessUsage> usage_;
  std::vector<Socket> sockets_;
  std::vector<Container> containers_;
  std::uint64_t next_start_time_ = 1000;
  std::uint64_t next_inode_ = 5000;
  std::uint16_t next_port_ = 40000;
  pid_t self_ = 0;
  bool hides_processes_ = false;
};

}  // namespace squall::host
