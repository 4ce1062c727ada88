#pragma once
// A Podman of the test's own: its engine's socket, its image of one static program, its containers.
// Nothing of it is shared with the host's own containers, and nothing stays behind.

#include <sys/mount.h>

#include <cstdlib>

#include "base/text.h"
#include "host/containers.h"
#include "integration/inject/fixture.h"

namespace squall::inject {

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
    std::filesystem::create_directories(folder_ + "/root/bin");
    write("/containers.conf",
          "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1000:1000\"]\n"
          "[engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n");
    std::filesystem::copy_file("/bin/busybox", folder_ + "/root/bin/busybox");
    for (const char* name : {"sh", "sleep", "nc", "httpd", "cat"})
      std::filesystem::create_symlink("busybox", folder_ + "/root/bin/" + name);
    run({"tar", "-C", folder_ + "/root", "-cf", folder_ + "/image.tar", "."});
    run(podman({"import", folder_ + "/image.tar", "squall-test:1"}));
    start_service();
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

  void start_service() {
    auto service =
        base::spawn({.argv = podman({"system", "service", "--time=0", "unix://" + socket()}),
                     .environment = environment(),
                     .parent_death_signal = SIGKILL});
    ASSERT_TRUE(service.ok()) << service.error().to_string();
    service_ = std::move(*service);
    ::setenv("DOCKER_HOST", ("unix://" + socket()).c_str(), 1);
    const base::Instant deadline = base::BootClock::now() + 20s;
    while (!host::read_containers({socket()}).ok() || ::access(socket().c_str(), F_OK) != 0) {
      ASSERT_LT(base::BootClock::now(), deadline) << "podman's service does not come up";
      ::usleep(5000);
    }
  }
  void stop_service() {
    if (!service_.pidfd().valid()) return;
    static_cast<void>(service_.pidfd().signal(SIGKILL));
    static_cast<void>(service_.wait(10s));
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

  std::string run(const std::vector<std::string>& argv, bool must_work = true) const {
    const auto output = base::run_command({.argv = argv, .environment = environment()}, 60s);
    EXPECT_TRUE(output.ok()) << argv.front();
    if (!output.ok()) return {};
    EXPECT_TRUE(!must_work || output->exit_status == 0) << base::join(argv, " ") << output->error;
    return std::string(base::trim(output->output));
  }

  void write(const std::string& name, const std::string& text) const {
    const base::UniqueFd file{
        ::open((folder_ + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
    EXPECT_TRUE(base::write_all(file.get(), text).ok());
  }

  std::string folder_;
  base::ChildProcess service_;
};

// One Podman for all tests of a suite; each test removes its containers.
class ContainerTest : public InjectTest {
 protected:
  static void SetUpTestSuite() {
    if (::geteuid() != 0 || !Podman::missing().empty()) return;
    suite_folder_ = base::make_temporary_directory("squall-podman").value();
    podman_ = std::make_unique<Podman>(suite_folder_);
  }
  static void TearDownTestSuite() {
    podman_.reset();
    std::error_code ignored;
    if (!suite_folder_.empty()) std::filesystem::remove_all(suite_folder_, ignored);
  }

  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    if (!Podman::missing().empty()) GTEST_SKIP() << "no podman here: " << Podman::missing();
  }
  void TearDown() override {
    if (podman_) podman_->podman_says({"rm", "-af", "-t", "0"}, false);
    InjectTest::TearDown();
  }

  model::Service& add_boxes(int members = 1) {
    model::Service service;
    service.name = "boxes";
    service.container.label = "app=boxes";
    service.expected_members = members;
    map_.services.push_back(service);
    return map_.services.back();
  }
  static Json chosen(Json more = Json::object()) {
    Json parameters = {{"service", "boxes"}, {"count", 1}, {"random", true}};
    parameters.update(more);
    return parameters;
  }

  static inline std::string suite_folder_;
  static inline std::unique_ptr<Podman> podman_;
};

}  // namespace squall::inject
