// Warden, keeper and holder as a program of its own, for tests that run without the squall binary:
//   holder_for_tests warden STATE_DIRECTORY [GROUP POLICY_FILE]
//   holder_for_tests keeper HOLDER ARGUMENTS...
//   holder_for_tests holder

#include <cstdlib>
#include <string_view>

#include "inject/client.h"
#include "inject/keeper.h"
#include "inject/warden.h"

int main(int argc, char** argv) {
  using namespace squall::inject;  // NOLINT: a test program
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "warden" && (argc == 3 || argc == 5)) {
    WardenOptions options{.state_directory = argv[2], .holder_argv = {argv[0], "holder"}};
    if (argc == 5) {
      options.group = static_cast<gid_t>(std::atoi(argv[3]));
      options.policy_file = argv[4];
    }
    return warden_main(options);
  }
  if (role == "keeper" && argc > 2) return keeper_main({argv + 2, argv + argc});
  return holder_main();
}
