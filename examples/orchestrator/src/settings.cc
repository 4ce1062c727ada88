#include "settings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "log.h"

namespace orchestrator {
namespace {

struct Arguments {
  std::string settings_file;
  std::string instance;
  unsigned max_lifetime_s = 1800;
  Cures cures;
};

bool read_flag(std::string_view argument, Cures& cures) {
  if (argument == "--hardened") {
    cures = {true, true, true, true, true, true};
  } else if (argument == "--visibility-timeout") {
    cures.visibility_timeout = true;
  } else if (argument == "--cache-retries") {
    cures.cache_retries = true;
  } else if (argument == "--reaper") {
    cures.reaper = true;
  } else if (argument == "--requeue-dead") {
    cures.requeue_dead = true;
  } else if (argument == "--warm-pool") {
    cures.warm_pool = true;
  } else if (argument == "--mind-the-spool") {
    cures.mind_the_spool = true;
  } else {
    return false;
  }
  return true;
}

std::optional<Arguments> read_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto equals = argument.find('=');
    const std::string_view key = argument.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? "" : argument.substr(equals + 1);
    if (read_flag(argument, arguments.cures)) continue;
    if (key == "--settings") {
      arguments.settings_file = value;
    } else if (key == "--instance") {
      arguments.instance = value;
    } else if (key == "--max-lifetime") {
      const auto [end, error] =
          std::from_chars(value.data(), value.data() + value.size(), arguments.max_lifetime_s);
      if (error != std::errc{} || end != value.data() + value.size()) {
        log_warning("--max-lifetime wants a number of seconds");
        return std::nullopt;
      }
    } else {
      log_warning(fmt::format("unknown argument '{}'", argument));
      return std::nullopt;
    }
  }
  if (arguments.settings_file.empty() || arguments.instance.find('/') == std::string::npos) {
    log_warning("--settings=FILE and --instance=NAME/MEMBER are needed; `up` gives both");
    return std::nullopt;
  }
  return arguments;
}

}  // namespace

std::optional<Settings> read_settings(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return std::nullopt;

  std::ifstream file(arguments->settings_file);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    log_warning(fmt::format("{} is not a readable settings file", arguments->settings_file));
    return std::nullopt;
  }
  Settings settings;
  settings.member = arguments->instance.substr(arguments->instance.find('/') + 1);
  settings.incarnation = fmt::format("{}/{}-{}", settings.member, ::getpid(), std::time(nullptr));
  settings.cures = arguments->cures;
  try {
    json.at("primary_dsn").get_to(settings.primary_dsn);
    json.at("standby_dsn").get_to(settings.standby_dsn);
    json.at("api_port").get_to(settings.api_port);
    json.at("sentinel_port").get_to(settings.sentinel_port);
    json.at("queue_password").get_to(settings.queue_password);
    json.at("spool").get_to(settings.spool);
  } catch (const nlohmann::json::exception& error) {
    log_warning(fmt::format("{}: {}", arguments->settings_file, error.what()));
    return std::nullopt;
  }
  set_log_name(settings.member);
  // SIGALRM keeps its default action. There is no clean-up to run: the orchestrator is crash-only,
  // and ending it by a signal is the same event as any other death.
  ::alarm(arguments->max_lifetime_s);
  std::signal(SIGPIPE, SIG_IGN);
  return settings;
}

}  // namespace orchestrator
