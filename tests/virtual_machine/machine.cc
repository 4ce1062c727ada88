#include "virtual_machine/machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/files.h"

namespace squall::virtual_machine {

namespace {

using base::Json;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

// On an idle machine it boots in about 20 s; others may use the processors meanwhile.
constexpr base::Duration kBootLimit = 240s;
constexpr base::Duration kImageLimit = 600s;
constexpr int kMissing = 77;

std::string images() {
  return std::string(SQUALL_BINARY_DIR) + "/virtual_machine";
}

base::Result<base::UniqueFd> connect_to(const std::string& folder, const std::string& name) {
  // Through the folder's descriptor, for a socket's path has room for 107 characters only.
  const base::UniqueFd directory{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", directory.get(), name);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return socket;
  return base::system_error("connect to " + name, errno);
}

base::Result<std::string> read_line(int fd, std::string& received, base::Duration limit) {
  const base::Instant deadline = base::BootClock::now() + limit;
  while (true) {
    if (const auto end = received.find('\n'); end != std::string::npos) {
      std::string line = received.substr(0, end);
      received.erase(0, end + 1);
      return line;
    }
    const base::Duration left = deadline - base::BootClock::now();
    pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
    if (left <= 0s || ::poll(&request, 1, static_cast<int>(left / 1ms) + 1) == 0)
      return base::Error{.code = base::ErrorCode::kTimeout, .message = "no answer in time"};
    std::array<char, 4096> buffer{};
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got <= 0) {
      return base::Error{.code = base::ErrorCode::kUnavailable,
                         .message = "the virtual machine has ended"};
    }
    received.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

// Those of tests that were killed: their processes are dead, for they die with them.
void remove_old_folders() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(images(), error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("run-")) continue;
    if (!base::identify_process(std::atoi(name.c_str() + 4)).ok()) fs::remove_all(entry, error);
  }
}

}  // namespace

base::Result<std::unique_ptr<Machine>> Machine::create() {
  auto made = base::run_command(
      {.argv = {std::string(SQUALL_SOURCE_DIR) + "/tests/virtual_machine/build_image",
                SQUALL_BINARY_DIR}},
      kImageLimit);
  if (!made.ok()) return std::move(made).error().within("making the image");
  if (made->exit_status == kMissing)
    return base::Error{.code = base::ErrorCode::kUnsupported, .message = made->output};
  if (made->exit_status != 0)
    return base::Error{.message = "the image cannot be made: " + made->output + made->error};
  remove_old_folders();
  const std::string folder = fmt::format("{}/run-{}", images(), ::getpid());
  SQUALL_TRY(base::make_directories(folder));
  std::unique_ptr<Machine> machine{new Machine(folder)};
  const auto copied = base::run_command(
      {.argv = {"cp", "--sparse=always", images() + "/root.ext4", machine->path("disk")}}, 120s);
  if (!copied.ok() || copied->exit_status != 0)
    return base::Error{.message = "the disk cannot be copied"};
  return machine;
}

Machine::Machine(std::string folder) : folder_(std::move(folder)) {}

Machine::~Machine() {
  (void)cut_power();
  std::error_code error;
  fs::remove_all(folder_, error);
}

base::Status Machine::start() {
  received_.clear();
  // One processor whose clock counts its instructions, at 2 ns each (slower than any real one): so
  // the guest's times do not depend on what else the host does.
  const std::string kernel_words = "console=ttyS0 panic=-1 quiet systemd.show_status=0";
  SQUALL_ASSIGN(emulator_, base::spawn({.argv = {"qemu-system-x86_64",
                                                 "-accel",
                                                 "tcg",
                                                 "-M",
                                                 "q35",
                                                 "-m",
                                                 "768",
                                                 "-icount",
                                                 "shift=1",
                                                 "-nodefaults",
                                                 "-no-user-config",
                                                 "-display",
                                                 "none",
                                                 "-kernel",
                                                 images() + "/kernel",
                                                 "-initrd",
                                                 images() + "/initial.cpio",
                                                 "-append",
                                                 kernel_words,
                                                 "-drive",
                                                 "file=disk,format=raw,if=virtio,cache=writeback",
                                                 "-chardev",
                                                 "file,id=console,path=console,append=on",
                                                 "-device",
                                                 "isa-serial,chardev=console",
                                                 "-chardev",
                                                 "socket,id=agent,path=agent,server=on,wait=off",
                                                 "-device",
                                                 "virtio-serial",
                                                 "-device",
                                                 "virtserialport,chardev=agent,name=agent",
                                                 "-qmp",
                                                 "unix:control,server=on,wait=off"},
                                        .working_directory = folder_,
                                        .parent_death_signal = SIGKILL}));
  const base::Instant deadline = base::BootClock::now() + 30s;
  while (true) {
    auto connected = connect_to(folder_, "agent");
    if (connected.ok()) {
      agent_ = std::move(*connected);
      break;
    }
    if (emulator_.pidfd().ended() || base::BootClock::now() > deadline)
      return std::move(connected).error().within("QEMU does not start");
    ::usleep(20'000);
  }
  return wait_for_agent();
}

base::Status Machine::wait_for_agent() {
  const base::Instant start = base::BootClock::now();
  while (true) {
    auto said = receive(kBootLimit);
    if (!said.ok()) {
      base::Error error = std::move(said).error().within("booting");
      error.hint = console();
      return error;
    }
    if (!said->contains("ready")) continue;
    boot_id_ = said->value("ready", "");
    while (boot_id_.ends_with('\n')) boot_id_.pop_back();
    boot_took_ = base::BootClock::now() - start;
    return {};
  }
}

base::Status Machine::cut_power() {
  if (!emulator_.pidfd().valid()) return {};
  agent_.reset();
  (void)emulator_.pidfd().signal(SIGKILL);
  SQUALL_TRY(emulator_.wait(30s));
  emulator_ = {};
  std::error_code error;
  fs::remove(path("agent"), error);
  fs::remove(path("control"), error);
  return {};
}

base::Status Machine::reset() {
  SQUALL_ASSIGN(const base::UniqueFd control, connect_to(folder_, "control"));
  std::string received;
  for (const char* command : {"", "qmp_capabilities", "system_reset"}) {
    if (*command != 0)
      SQUALL_TRY(base::write_all(control.get(), fmt::format("{{\"execute\": \"{}\"}}\n", command)));
    SQUALL_TRY(read_line(control.get(), received, 30s));
  }
  received_.clear();
  return wait_for_agent();
}

base::Result<Json> Machine::receive(base::Duration limit) {
  SQUALL_ASSIGN(const std::string line, read_line(agent_.get(), received_, limit));
  auto json = base::parse_json(line);
  // What the firmware says on the line at a start is no JSON.
  return json.ok() && json->is_object() ? std::move(*json) : Json::object();
}

Machine::Outcome Machine::ask(const Json& request, base::Duration limit) {
  if (auto sent = base::write_all(agent_.get(), request.dump() + "\n"); !sent.ok())
    return {.status = -1, .output = {}, .error = sent.error().to_string(), .at = {}};
  // The limit is the guest's time, which passes more slowly when the host is busy.
  const auto answer = receive(10 * limit + 60s);
  if (!answer.ok())
    return {.status = -1, .output = {}, .error = answer.error().to_string(), .at = {}};
  return {.status = answer->value("status", -1),
          .output = answer->value("output", ""),
          .error = answer->value("error", ""),
          .at = base::instant_from_nanoseconds(answer->value("at", std::int64_t{0}))};
}

Machine::Outcome Machine::run(const std::vector<std::string>& argv, base::Duration limit) {
  return ask({{"argv", argv}, {"limit_s", limit / 1s}}, limit);
}

Machine::Outcome Machine::start_in_background(const std::vector<std::string>& argv,
                                              const std::string& output) {
  return ask({{"argv", argv}, {"background", output}}, 30s);
}

std::string Machine::console() const {
  const auto text = base::read_file(path("console"), 4u << 20);
  if (!text.ok()) return {};
  return text->size() > 3000 ? text->substr(text->size() - 3000) : *text;
}

}  // namespace squall::virtual_machine
