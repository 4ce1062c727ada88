// Keeper and holder as a program of its own, for tests that run without the squall binary:
//   holder_for_tests keeper HOLDER ARGUMENTS...
//   holder_for_tests holder

#include <string_view>

#include "inject/client.h"
#include "inject/keeper.h"

int main(int argc, char** argv) {
  if (argc > 2 && std::string_view(argv[1]) == "keeper")
    return squall::inject::keeper_main({argv + 2, argv + argc});
  return squall::inject::holder_main();
}
