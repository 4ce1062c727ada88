// An engine that can be killed: `engine_for_tests HOLDER STATE_DIRECTORY BINDING_FILE SECONDS`.
// Arms one fault, writes each state to standard output as a line, and renews until the end.

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "inject/client.h"

using namespace squall;  // NOLINT: a test program

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const auto text = base::read_file(argv[3], 1 << 20);
  if (!text.ok()) return 2;
  const auto json = base::parse_json(*text);
  if (!json.ok()) return 2;
  const auto binding = model::fault_binding_from_json(*json);
  if (!binding.ok()) return 2;
  inject::HolderOptions options;
  options.run = "engine-for-tests";
  options.experiment = "test";
  options.state_directory = argv[2];
  options.keeper_argv = {argv[1], "keeper", argv[1], "holder"};
  auto client = inject::HolderClient::start(options);
  if (!client.ok()) return 3;
  const auto lease =
      (*client)->arm({.binding = *binding, .duration = std::chrono::seconds(std::atoi(argv[4]))});
  if (!lease.ok()) return 4;
  for (int turns = 0; turns < 600; ++turns) {
    pollfd request{.fd = (*client)->fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 200);
    if (auto renewed = (*client)->renew(); !renewed.ok()) return 5;
    const auto events = (*client)->take_events();
    if (!events.ok()) return 6;
    for (const auto& event : *events) {
      std::printf("%s\n", std::string(inject::to_string(event.state)).c_str());
      std::fflush(stdout);
    }
  }
  return 0;
}
