#pragma once
// A Podman of the test's own: its engine's socket, its image of one static program, its containers.
// Nothing of it is shared with the host's own containers, and nothing stays behind.

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "host/containers.h"

namespace squall::test {

class Podman {
 public:
  // Why it cannot be used here; empty when it can.
  static std::string missing() {
    for (const char* needed : {"/usr/bin/podman", "/usr/bin/conmon", "/bin/busybox"}) {
      if (::access(needed, X_OK) != 0)
        return std::string(needed) + " is missing (podman, conmon, busybox-static)";
    }
    if (::access("/usr/sbin/runc", X_OK) != 0 && ::access("/usr/bin/runc", X_OK) != 0)
      return "runc is missing";
    return {};
  }

  explicit Podman(const std::string& folder) : folder_(folder) {
    std::filesystem::create_directories(folder_ + "/image/bin");
    write("/containers.conf",
          "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1000:1000\"]\n"
          "[engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n");
    std::filesystem::copy_file("/bin/busybox", folder_ + "/image/bin/busybox");
    for (const char* name : {"sh", "sleep", "nc", "httpd", "cat"})
      std::filesystem::create_symlink("busybox", folder_ + "/image/bin/" + name);
    run({"tar", "-C", folder_ + "/image", "-cf", folder_ + "/image.tar", "."});
    run(podman({"import", folder_ + "/image.tar", "squall-test:1"}));
  }

  ~Podman() {
    run(podman({"rm", "-af", "-t", "0"}));
    stop_service();
    // The storage is a bind mount of itself while it is in use.
    ::umount2((folder_ + "/store/vfs").c_str(), MNT_DETACH);
    ::umount2((folder_ + "/store").c_str(), MNT_DETACH);
    ::unsetenv("DOCKER_HOST");
  }

  std::string socket() const { return folder_ + "/engine.sock"; }

  base::Status start_service() {
    SQUALL_ASSIGN(
        service_,
        base::spawn({.argv = podman({"system", "service", "--time=0", "unix://" + socket()}),
                     .environment = environment(),
                     .parent_death_signal = SIGKILL}));
    ::setenv("DOCKER_HOST", ("unix://" + socket()).c_str(), 1);
    const base::Instant deadline = base::BootClock::now() + std::chrono::seconds(20);
    while (!host::read_containers({socket()}).ok() || ::access(socket().c_str(), F_OK) != 0) {
      if (base::BootClock::now() > deadline)
        return base::Error{.message = "podman's service does not come up"};
      ::usleep(5000);
    }
    return {};
  }
  void stop_service() {
    if (!service_.pidfd().valid()) return;
    static_cast<void>(service_.pidfd().signal(SIGKILL));
    static_cast<void>(service_.wait(std::chrono::seconds(10)));
    ::unlink(socket().c_str());
  }

  // Runs to its end; what it printed, trimmed.
  std::string podman_says(const std::vector<std::string>& words, bool must_work = true) const {
    return run(podman(words), must_work);
  }

  // A container of the service `boxes` that runs `program`; its id.
  std::string start(const std::string& name, const std::vector<std::string>& options = {},
                    const std::vector<std::string>& program = {"/bin/sh", "-c",
                                                               "trap 'exit 0' TERM; while :; do "
                                                               "sleep 0.1; done"}) const {
    std::vector<std::string> words{"run", "-d", "--name", name, "--label", "app=boxes"};
    if (std::find_if(options.begin(), options.end(), [](const std::string& option) {
          return option.starts_with("--network");
        }) == options.end())
      words.emplace_back("--network=none");
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back("squall-test:1");
    words.insert(words.end(), program.begin(), program.end());
    return podman_says(words);
  }

  std::string inspect(const std::string& name, const std::string& format) const {
    return podman_says({"inspect", "--type", "container", "-f", format, name}, false);
  }
  pid_t pid(const std::string& name) const {
    return std::atoi(inspect(name, "{{.State.Pid}}").c_str());
  }
  bool is_running(const std::string& name) const {
    return inspect(name, "{{.State.Status}}") == "running";
  }

 private:
  std::vector<std::string> podman(std::vector<std::string> words) const {
    std::vector<std::string> argv{
        "podman",         "--root",   folder_ + "/store", "--runroot",
        folder_ + "/run", "--tmpdir", folder_ + "/tmp",   "--storage-driver=vfs"};
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }

  std::map<std::string, std::string> environment() const {
    const char* path = std::getenv("PATH");
    return {{"PATH", path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path},
            {"HOME", folder_},
            {"CONTAINERS_CONF", folder_ + "/containers.conf"}};
  }

  // What it printed; what failed and must not shows in the log, and in what is asked afterwards.
  std::string run(const std::vector<std::string>& argv, bool must_work = true) const {
    const auto output =
        base::run_command({.argv = argv, .environment = environment()}, std::chrono::seconds(60));
    if (!output.ok()) return {};
    if (must_work && output->exit_status != 0)
      std::cerr << base::join(argv, " ") << ": " << output->error << "\n";
    return std::string(base::trim(output->output));
  }

  void write(const std::string& name, const std::string& text) const {
    const base::UniqueFd file{
        ::open((folder_ + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
    static_cast<void>(base::write_all(file.get(), text));
  }

  std::string folder_;
  base::ChildProcess service_;
};

}  // namespace squall::test
