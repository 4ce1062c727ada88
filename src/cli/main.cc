#include <csignal>

#include "cli/command.h"

int main(int argc, char** argv) {
  // A reader that goes away and a limit on file sizes are errors of write(2), not the end of us.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  return squall::cli::run_command_line(argc, argv);
}
