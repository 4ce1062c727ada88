// The holder as a program of its own, for tests that run without the squall binary.

#include "inject/client.h"

int main() {
  return squall::inject::holder_main();
}
