// Warden, keeper and holder as a program of its own, for tests that run without the squall binary:
//   holder_for_tests warden STATE_DIRECTORY
//   holder_for_tests keeper HOLDER ARGUMENTS...
//   holder_for_tests holder

#include <string_view>

#include "inject/client.h"
#include "inject/keeper.h"
#include "inject/warden.h"

int main(int argc, char** argv) {
  using namespace squall::inject;  // NOLINT: a test program
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "warden" && argc == 3)
    return warden_main({.state_directory = argv[2], .holder_argv = {argv[0], "holder"}});
  if (role == "keeper" && argc > 2) return keeper_main({argv + 2, argv + argc});
  return holder_main();
}
