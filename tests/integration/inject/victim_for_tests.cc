// A process for tests to break: `victim_for_tests MARKER [children=N] [ignore-term] [forks]`.
// Found by its marker; ends by itself after two minutes, whatever becomes of the test.

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

void start_child() {
  if (::fork() != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(120);
  while (true) ::pause();
}

// Always has a few short-lived children, as a server that forks for each request has.
[[noreturn]] void fork_for_ever() {
  while (true) {
    for (int i = 0; i < 3; ++i) {
      if (::fork() == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::usleep(2000);
        ::_exit(0);
      }
    }
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    ::usleep(1000);
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::alarm(120);
  bool forks = false;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("children=")) {
      for (int n = std::atoi(word.c_str() + 9); n > 0; --n) start_child();
    }
    if (word == "ignore-term") ::signal(SIGTERM, SIG_IGN);
    forks = forks || word == "forks";
  }
  if (forks) fork_for_ever();
  while (true) ::pause();
}
