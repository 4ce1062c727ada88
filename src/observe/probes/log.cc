// How many lines of a log file say something.

#include <fmt/format.h>
#include <regex.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "observe/common_parameters.h"
#include "observe/log_tail.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using model::ValueType;

constexpr std::size_t kReadAtOnce = 1u << 20;  // bytes between two looks at the stop flag
constexpr std::size_t kReadATick = 64u << 20;  // bytes; the rest waits for the next tick

constexpr std::array<model::ParameterDescriptor, 5> kParameters = {{
    {.name = "file",
     .type = ValueType::kPath,
     .required = true,
     .summary = "The file; followed from its end, over rotation and truncation."},
    {.name = "contains",
     .type = ValueType::kText,
     .minimum = 1,
     .maximum = 1000,
     .summary = "Counts the lines that contain this text."},
    {.name = "matches",
     .type = ValueType::kText,
     .minimum = 1,
     .maximum = 500,
     .summary = "Counts the lines that fit this POSIX extended regular expression."},
    every_parameter("500ms"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 1> kSignals = {{
    {.field = "matches",
     .type = model::SignalType::kCounter,
     .unit = "",
     .summary = "Lines that fit, since the sample before."},
}};

// POSIX extended regular expressions by the C library, without back references: those are what
// makes matching explode.
class LinePattern {
 public:
  static base::Result<std::unique_ptr<LinePattern>> compile(const std::string& text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
      if (text[i] != '\\') continue;
      ++i;
      if (text[i] >= '1' && text[i] <= '9') {
        return base::Error{.code = base::ErrorCode::kBadFile,
                           .message = "`matches` has a back reference in it",
                           .hint = "a line is matched once; write the text twice"};
      }
    }
    std::unique_ptr<LinePattern> pattern(new LinePattern());
    const int error = regcomp(&pattern->compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB);
    if (error == 0) {
      pattern->valid_ = true;
      return pattern;
    }
    std::array<char, 200> message{};
    regerror(error, &pattern->compiled_, message.data(), message.size());
    return base::Error{
        .code = base::ErrorCode::kBadFile,
        .message = fmt::format("`matches` is no regular expression: {}", message.data()),
        .hint = "POSIX extended syntax: (error|fatal).*timeout; or use `contains`"};
  }
  ~LinePattern() {
    if (valid_) regfree(&compiled_);
  }
  LinePattern(const LinePattern&) = delete;
  LinePattern& operator=(const LinePattern&) = delete;
  bool fits(std::string_view line) {
    text_.assign(line);
    return regexec(&compiled_, text_.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  LinePattern() = default;
  regex_t compiled_{};
  bool valid_ = false;
  std::string text_;
};

class LogProbe final : public TickingProbe {
 public:
  LogProbe(const model::ProbeSpecification& specification, ProbeContext context)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"), std::chrono::seconds(5)),
        tail_(specification.parameters.text("file")),
        contains_(specification.parameters.optional_text("contains").value_or("")) {}

  base::Status set_up(const model::Parameters& parameters) {
    const auto matches = parameters.optional_text("matches");
    if (matches.has_value() == !contains_.empty()) {
      return base::Error{.code = base::ErrorCode::kBadFile,
                         .message = "exactly one of `contains` and `matches` is needed",
                         .hint = "contains: \"connection refused\""};
    }
    if (matches) {
      SQUALL_ASSIGN(pattern_, LinePattern::compile(*matches));
    }
    return {};
  }

  base::Status check() override {
    if (access(tail_.path().c_str(), R_OK) == 0) return {};
    base::Error error = base::system_error("read " + tail_.path(), errno);
    error.hint = "check the path; relative ones start at the folder of the system map";
    return error;
  }

  base::Status prepare() override {
    SQUALL_ASSIGN(matches_, declare_counter("matches"));
    tail_.start();
    return {};
  }

 private:
  void tick(base::Instant) override {
    std::uint64_t count = 0;
    const auto on_line = [&](std::string_view line) {
      count += pattern_ != nullptr ? pattern_->fits(line)
                                   : line.find(contains_) != std::string_view::npos;
    };
    for (std::size_t read = 0; read < kReadATick; read += kReadAtOnce) {
      if (!tail_.poll(kReadAtOnce, on_line)) break;
    }
    add(matches_, static_cast<double>(count));
  }

  LogTail tail_;
  std::string contains_;
  std::unique_ptr<LinePattern> pattern_;
  evidence::SeriesId matches_ = 0;
};

}  // namespace

constexpr model::ProbeKindDescriptor kLogProbe = {
    .name = "log",
    .summary = "Follows a log file and counts the lines that say something.",
    .parameters = kParameters,
    .signals = kSignals,
    .example = "panics: { log: { file: log/api.log, contains: \"panic:\" } }"};

base::Result<std::unique_ptr<Probe>> make_log_probe(const model::ProbeSpecification& specification,
                                                    ProbeContext context) {
  auto probe = std::make_unique<LogProbe>(specification, std::move(context));
  SQUALL_TRY(probe->set_up(specification.parameters));
  return std::unique_ptr<Probe>(std::move(probe));
}

}  // namespace squall::observe
