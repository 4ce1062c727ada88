#include "settings.h"
#include "worker.h"

int main(int argc, char** argv) {
  const auto settings = orchestrator::read_settings(argc, argv);
  if (!settings) return 2;
  orchestrator::Worker(*settings).run();
}
