#include "cli/run_view.h"

#include <cstdlib>
#include <string_view>

#include "cli/console.h"

namespace squall::cli {

namespace {

// LANG=C and POSIX promise nothing beyond ASCII; anything else that is set in our days is UTF-8.
bool unicode_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    return std::string_view(value) != "C" && std::string_view(value) != "POSIX";
  }
  return true;
}

}  // namespace

report::RunView view_of(const engine::ArchivedRun& run) {
  return {run.record,      run.judgement,
          &run.plan,       run.binding.faults.empty() ? nullptr : &run.binding,
          &run.experiment, &run.map};
}

report::TerminalOptions terminal_options() {
  return {colour_on_output(), terminal_width(), unicode_locale()};
}

}  // namespace squall::cli
