#include "cli/progress_display.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "base/units.h"
#include "cli/console.h"

namespace squall::cli {

namespace {

// Text cut to `width` columns (bytes stand for columns: our own texts are ASCII but for the
// glyphs).
std::string fit(std::string_view text, std::size_t width) {
  if (text.size() <= width) return std::string(text);
  return std::string(text.substr(0, width > 3 ? width - 3 : width)) + "...";
}

std::string sparkline(const std::vector<double>& values, std::size_t width) {
  static constexpr std::array<std::string_view, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::size_t from = values.size() > width ? values.size() - width : 0;
  double low = INFINITY;
  double high = -INFINITY;
  for (std::size_t i = from; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  std::string line;
  for (std::size_t i = from; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      line += ' ';
      continue;
    }
    const double share = high > low ? (values[i] - low) / (high - low) : 0;
    line += kBars[static_cast<std::size_t>(std::lround(share * 7))];
  }
  return line;
}

// One line an event; what a log file or CI wants.
class PlainDisplay : public engine::Progress {
 public:
  void planned(const model::Plan& plan, std::string_view run) override {
    say(fmt::format("run {}", run));
    say(fmt::format("{}: {}", plan.experiment, plan.scenario));
    for (const std::string& warning : plan.warnings) warn(warning);
  }
  void bound(const model::Binding& binding) override {
    for (const model::FaultBinding& fault : binding.faults) {
      for (const model::BoundTarget& target : fault.targets) {
        line(fmt::format("{} will touch {} by {}", fault.fault, target.description,
                         fault.mechanism));
      }
    }
  }
  void checked(const std::vector<safety::CheckResult>& results) override {
    for (const safety::CheckResult& result : results) {
      if (result.answer == safety::Answer::kPass) {
        line(fmt::format("{} {:<14} {}", paint("pass ", Colour::kGreen, colour_on_error()),
                         result.name, result.reason));
        continue;
      }
      line(fmt::format("{} {:<14} {}", paint("BLOCK", Colour::kRed, colour_on_error()), result.name,
                       result.reason));
      if (!result.remedy.empty()) line(fmt::format("      remedy: {}", result.remedy));
    }
  }
  void phase_started(std::string_view phase, base::Duration limit) override {
    line(limit > base::Duration::zero()
             ? fmt::format("phase {} ({} at most)", phase, base::format_duration(limit))
             : fmt::format("phase {}", phase));
  }
  void step(std::string_view text) override { line(text); }
  void warn(std::string_view text) override {
    line(fmt::format("{} {}", paint("warning:", Colour::kYellow, colour_on_error()), text));
  }

 protected:
  virtual void line(std::string_view text) { say(text); }
};

// Redraws a block below the lines that stay.
class TerminalDisplay final : public PlainDisplay {
 public:
  ~TerminalDisplay() override { erase(); }

  void tick(std::string_view phase, base::Duration elapsed, base::Duration limit,
            const std::vector<judge::LiveRow>& rows) override {
    // Four times a second is as fast as people read.
    if (++ticks_ % 3 != 1) return;
    erase();
    const auto width = static_cast<std::size_t>(terminal_width());
    std::string block;
    const double left = std::max(0.0, base::to_seconds(limit - elapsed));
    block += fmt::format("{}  {:.0f} s left\n",
                         paint(fmt::format("[{}]", phase), Colour::kBold, colour_on_error()), left);
    drawn_ = 1;
    for (const judge::LiveRow& row : rows) {
      block += draw(row, width) + "\n";
      ++drawn_;
    }
    // Straight to the terminal: the block ends with a new line of its own.
    block.pop_back();
    say(block);
  }

 protected:
  void line(std::string_view text) override {
    erase();
    say(text);
  }

 private:
  static std::string draw(const judge::LiveRow& row, std::size_t width) {
    Colour colour = Colour::kDim;
    std::string_view glyph = "·";
    if (row.state == judge::LiveRow::State::kWithin) {
      colour = Colour::kGreen;
      glyph = "✓";
    } else if (row.state == judge::LiveRow::State::kBeyond) {
      colour = Colour::kRed;
      glyph = "✗";
    }
    constexpr std::size_t kSpark = 20;
    const std::size_t room = width > kSpark + 36 ? width - kSpark - 36 : 0;
    return fmt::format("{} {:<18} {:>10}  {}{:<{}}  {}", paint(glyph, colour, colour_on_error()),
                       fit(row.name, 18), fit(row.value, 10), sparkline(row.recent, kSpark), "",
                       row.recent.size() < kSpark ? kSpark - row.recent.size() : 0,
                       paint(fit(row.text, room), Colour::kDim, colour_on_error()));
  }

  void erase() {
    if (drawn_ == 0) return;
    // Up to the first line of the block, and clear to the end of the screen.
    std::string codes = fmt::format("\033[{}A\033[J", drawn_);
    (void)!write(2, codes.data(), codes.size());
    drawn_ = 0;
  }

  int ticks_ = 0;
  int drawn_ = 0;
};

class QuietDisplay final : public engine::Progress {
 public:
  void warn(std::string_view text) override { say(text); }
};

}  // namespace

std::unique_ptr<engine::Progress> make_progress_display(DisplayStyle style) {
  switch (style) {
    case DisplayStyle::kQuiet:
      return std::make_unique<QuietDisplay>();
    case DisplayStyle::kPlain:
      return std::make_unique<PlainDisplay>();
    case DisplayStyle::kTerminal:
      return std::make_unique<TerminalDisplay>();
  }
  return std::make_unique<PlainDisplay>();
}

}  // namespace squall::cli
