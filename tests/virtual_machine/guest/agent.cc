// Inside the test's virtual machine: runs what the test outside asks for. A line of JSON each way
// over a virtio port (a serial line loses bytes on a busy host): {"argv": [...], "limit_s": 10} is
// answered with {"status": 0, "output": "...", "error": "...", "at": nanoseconds of the boot
// clock}; with "background" it is started and answered at once.

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/process.h"

namespace {

using namespace squall;  // NOLINT: a test program
using base::Json;

constexpr std::size_t kOutputLimit = 256 * 1024;

void say(int line, const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (!base::write_all(line, text).ok()) ::_exit(1);
}

Json answer(const Json& request) {
  const auto argv = request.value("argv", std::vector<std::string>{});
  base::SpawnOptions options{.argv = argv, .working_directory = "/root"};
  if (request.contains("background")) {
    const std::string path = request["background"];
    const base::UniqueFd output{
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    options.standard_output = options.standard_error = output.get();
    options.new_session = true;
    const auto child = base::spawn(options);
    if (!child.ok()) return {{"status", -1}, {"error", child.error().to_string()}};
    return {{"status", 0}, {"pid", child->pid()}};
  }
  const auto done =
      base::run_command(options, std::chrono::seconds(request.value("limit_s", 60)), kOutputLimit);
  if (!done.ok()) return {{"status", -1}, {"error", done.error().to_string()}};
  return {{"status", done->exit_status}, {"output", done->output}, {"error", done->error}};
}

}  // namespace

int main() {
  ::setenv("HOME", "/root", 1);
  // There is no udev that would give it a name. Nobody listens until the host has connected.
  base::UniqueFd line;
  for (int tries = 0; !line && tries < 600; ++tries) {
    for (const char* path : {"/dev/vport0p1", "/dev/vport1p1", "/dev/vport2p1", "/dev/vport3p1"}) {
      if (!line) line.reset(::open(path, O_RDWR | O_CLOEXEC));
    }
    if (!line) ::usleep(100'000);
  }
  if (!line) return 1;
  auto boot = base::read_pseudo_file("/proc/sys/kernel/random/boot_id");
  say(line.get(), {{"ready", std::move(boot).value_or("")}});
  std::string waiting;
  while (true) {
    char byte = 0;
    if (::read(line.get(), &byte, 1) != 1) return 1;
    if (byte != '\n') {
      waiting += byte;
      continue;
    }
    const auto request = base::parse_json(waiting);
    waiting.clear();
    Json said = request.ok() ? answer(*request) : Json{{"status", -1}, {"error", "no JSON"}};
    said["at"] = base::to_nanoseconds(base::BootClock::now());
    say(line.get(), said);
  }
}
