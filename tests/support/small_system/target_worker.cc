// The process that experiments kill: writes its pid to --pid-file and waits. Ends by itself after
// two minutes, whatever became of the test.

#include <unistd.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  std::string pid_file;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string(argv[i]) == "--pid-file") pid_file = argv[i + 1];
  }
  if (!pid_file.empty()) {
    const std::string beside = pid_file + ".new." + std::to_string(getpid());
    if (std::FILE* file = std::fopen(beside.c_str(), "w"); file != nullptr) {
      std::fprintf(file, "%d\n", getpid());
      std::fclose(file);
      std::rename(beside.c_str(), pid_file.c_str());
    }
  }
  alarm(120);
  while (true) pause();
}
