#include <fmt/format.h>

#include <array>

#include "cli/commands/table.h"
#include "cli/console.h"

namespace squall::cli {

namespace {

std::string options_of(const Command& command) {
  std::string words;
  for (const Option& option : command.options) words += fmt::format("{} ", option.name);
  return words + "--help --no-color";
}

std::string command_names() {
  std::string names;
  for (const Command* command : commands()) {
    if (!command->hidden) names += fmt::format("{} ", command->name);
  }
  return names;
}

std::string for_bash() {
  std::string text = fmt::format(
      "_squall() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} options=\n"
      "  if [ \"$COMP_CWORD\" = 1 ]; then\n"
      "    COMPREPLY=($(compgen -W '{}' -- \"$word\")); return\n"
      "  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n",
      command_names());
  for (const Command* command : commands()) {
    if (command->hidden) continue;
    text += fmt::format("    {}) options='{}' ;;\n", command->name, options_of(*command));
  }
  return text +
         "  esac\n"
         "  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
         "  else COMPREPLY=($(compgen -f -- \"$word\")); fi\n"
         "}\n"
         "complete -F _squall squall\n";
}

std::string for_zsh() {
  return "#compdef squall\nautoload -U +X bashcompinit && bashcompinit\n" + for_bash();
}

std::string for_fish() {
  std::string text = "complete -c squall -f -n __fish_use_subcommand\n";
  for (const Command* command : commands()) {
    if (command->hidden) continue;
    text += fmt::format("complete -c squall -n __fish_use_subcommand -a {} -d \"{}\"\n",
                        command->name, command->summary);
    for (const Option& option : command->options) {
      text += fmt::format(
          "complete -c squall -n \"__fish_seen_subcommand_from {}\" -l {} -d "
          "\"{}\"{}\n",
          command->name, option.name.substr(2), option.summary, option.value.empty() ? "" : " -r");
    }
  }
  return text;
}

base::ExitStatus run(const Arguments& arguments) {
  const std::string shell = arguments.positional("SHELL");
  if (shell == "bash") {
    print(for_bash());
  } else if (shell == "zsh") {
    print(for_zsh());
  } else if (shell == "fish") {
    print(for_fish());
  } else {
    return fail(base::Error{.code = base::ErrorCode::kUsage,
                            .message = fmt::format("no completion for `{}`", shell),
                            .hint = "bash, zsh or fish",
                            .context = {}});
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {Positional{"SHELL", "bash, zsh or fish"}};
constexpr std::array<std::string_view, 1> kExamples = {
    "squall completion bash > /etc/bash_completion.d/squall"};

}  // namespace

const Command kCompletionCommand{
    .name = "completion",
    .group = "About",
    .summary = "Completion of commands and options for a shell",
    .details = {},
    .positionals = kPositionals,
    .options = {},
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
