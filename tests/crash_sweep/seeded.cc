// Which of the bugs in bugs/ is at work: the one that the environment names.

#include <cstdlib>
#include <cstring>

bool seeded(const char* bug);

bool seeded(const char* bug) {
  const char* wanted = std::getenv("SQUALL_SEEDED_BUG");
  return wanted != nullptr && std::strcmp(wanted, bug) == 0;
}
