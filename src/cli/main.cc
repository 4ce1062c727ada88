#include <csignal>

#include "cli/command.h"

int main(int argc, char** argv) {
  // A reader that goes away is an error of write(2), not the end of us.
  std::signal(SIGPIPE, SIG_IGN);
  return squall::cli::run_command_line(argc, argv);
}
