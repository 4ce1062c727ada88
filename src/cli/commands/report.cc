#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/text.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "cli/run_view.h"

namespace squall::cli {

namespace {

const std::vector<std::string> kFormats = {"html", "markdown", "junit", "json", "terminal"};

// The format that a file's ending asks for; empty: none we know.
std::string format_of(const std::string& path) {
  const auto ends = [&](std::string_view ending) {
    return path.size() >= ending.size() &&
           path.compare(path.size() - ending.size(), ending.size(), ending) == 0;
  };
  if (ends(".html")) return "html";
  if (ends(".md")) return "markdown";
  if (ends(".xml")) return "junit";
  if (ends(".json")) return "json";
  if (ends(".txt")) return "terminal";
  return {};
}

// `format` is one of kFormats.
std::string render(const report::RunView& view, const std::string& format, bool strict) {
  if (format == "html") return report::render_html(view);
  if (format == "markdown") return report::render_markdown(view);
  if (format == "junit") {
    return report::render_junit(
        view, strict ? report::Strictness::kStrict : report::Strictness::kLenient);
  }
  if (format == "json") {
    return report::render_json(view).dump(2, ' ', false, base::Json::error_handler_t::replace) +
           "\n";
  }
  return report::render_terminal(view, {});
}

base::ExitStatus run(const Arguments& arguments) {
  const auto output = arguments.option("--output");
  std::string format = arguments.option_or("--format", "");
  if (format.empty() && output) format = format_of(*output);
  if (format.empty()) format = output ? "html" : "markdown";
  if (std::find(kFormats.begin(), kFormats.end(), format) == kFormats.end()) {
    return fail(base::Error{.code = base::ErrorCode::kUsage,
                            .message = fmt::format("there is no format `{}`.{}", format,
                                                   base::did_you_mean(format, kFormats)),
                            .hint = fmt::format("one of {}", base::enumerate(kFormats))});
  }
  auto archived = open_run(arguments, arguments.positional("RUN"));
  if (!archived.ok()) return fail(archived.error());
  const std::string text = render(view_of(**archived), format, arguments.flag("--strict"));
  if (!output) {
    print(text);
    return base::ExitStatus::kHeld;
  }
  if (const auto written = base::write_file_atomically(*output, text); !written.ok()) {
    return fail(written.error());
  }
  print_line(*output);
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {kRunPositional};
constexpr std::array kOptions = {
    kMapOption, Option{"--format", "NAME", "html, markdown, junit, json or terminal"},
    Option{"--output", "FILE", "Where to write it; its ending chooses the format"},
    Option{"--strict", {}, "JUnit: inconclusive and no data are failures, not skips"}};
constexpr std::array<std::string_view, 3> kExamples = {
    "squall report last --output report.html",
    "squall report last --format junit --strict > squall.xml",
    "squall report >> $GITHUB_STEP_SUMMARY"};

}  // namespace

const Command kReportCommand{
    .name = "report",
    .group = "Learn",
    .summary = "One run as a page, for a pull request, or for CI",
    .details = "The HTML is one file that opens offline.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
