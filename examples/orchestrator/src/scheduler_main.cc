#include "scheduler.h"
#include "settings.h"

int main(int argc, char** argv) {
  const auto settings = orchestrator::read_settings(argc, argv);
  if (!settings) return 2;
  orchestrator::Scheduler(*settings).run();
}
