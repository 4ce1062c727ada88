#include "report/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/check.h"
#include "base/text.h"
#include "report/contents.h"

namespace squall::report {

std::string_view word(model::Verdict verdict) {
  switch (verdict) {
    case model::Verdict::kHeld:
      return "held";
    case model::Verdict::kViolated:
      return "violated";
    case model::Verdict::kInconclusive:
      return "inconclusive";
    case model::Verdict::kNoData:
      return "no data";
  }
  base::check_failed("verdict is known", __FILE__, __LINE__);
}

std::string_view word(model::RunVerdict verdict) {
  switch (verdict) {
    case model::RunVerdict::kHeld:
      return "held";
    case model::RunVerdict::kMixed:
      return "mixed";
    case model::RunVerdict::kRefuted:
      return "refuted";
    case model::RunVerdict::kInconclusive:
      return "inconclusive";
    case model::RunVerdict::kNone:
      return "nothing judged";
  }
  base::check_failed("verdict is known", __FILE__, __LINE__);
}

std::string_view glyph(model::Verdict verdict, bool unicode) {
  switch (verdict) {
    case model::Verdict::kHeld:
      return unicode ? "✔" : "+";
    case model::Verdict::kViolated:
      return unicode ? "✘" : "x";
    case model::Verdict::kInconclusive:
      return "?";
    case model::Verdict::kNoData:
      return unicode ? "–" : "-";
  }
  base::check_failed("verdict is known", __FILE__, __LINE__);
}

Tone tone_of(model::Verdict verdict) {
  switch (verdict) {
    case model::Verdict::kHeld:
      return Tone::kGood;
    case model::Verdict::kViolated:
      return Tone::kBad;
    case model::Verdict::kInconclusive:
    case model::Verdict::kNoData:
      return Tone::kUnsure;
  }
  base::check_failed("verdict is known", __FILE__, __LINE__);
}

Tone tone_of_run(const judge::Judgement& judgement) {
  if (!judgement.reverts_verified) return Tone::kBad;
  if (judgement.outcome != model::Outcome::kCompleted) return Tone::kBad;
  switch (judgement.verdict) {
    case model::RunVerdict::kHeld:
      return Tone::kGood;
    case model::RunVerdict::kMixed:
    case model::RunVerdict::kRefuted:
      return Tone::kBad;
    case model::RunVerdict::kInconclusive:
      return Tone::kUnsure;
    case model::RunVerdict::kNone:
      return Tone::kPlain;
  }
  base::check_failed("verdict is known", __FILE__, __LINE__);
}

std::string_view class_name(Tone tone) {
  switch (tone) {
    case Tone::kGood:
      return "good";
    case Tone::kBad:
      return "bad";
    case Tone::kUnsure:
      return "unsure";
    case Tone::kPlain:
      return "plain";
  }
  base::check_failed("tone is known", __FILE__, __LINE__);
}

std::string banner(const judge::Judgement& judgement) {
  std::string text(judgement.outcome == model::Outcome::kCompleted
                       ? word(judgement.verdict)
                       : model::to_string(judgement.outcome));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string counts_text(const VerdictCounts& counts) {
  std::vector<std::string> parts;
  const auto add = [&parts](int count, std::string_view what) {
    if (count > 0) parts.push_back(fmt::format("{} {}", count, what));
  };
  add(counts.violated, "violated");
  add(counts.inconclusive, "inconclusive");
  add(counts.no_data, "without data");
  add(counts.held, "held");
  return parts.empty() ? "no predictions" : base::enumerate(parts);
}

std::string headline(const Contents& contents) {
  const VerdictCounts& counts = contents.counts();
  std::string judged;
  if (counts.all() == 0) {
    judged = "Nothing was judged.";
  } else if (counts.held == counts.all()) {
    judged = counts.all() == 1 ? "The prediction held."
                               : fmt::format("All {} predictions held.", counts.all());
  } else {
    judged = fmt::format("Of {} {}: {}.", counts.all(),
                         counts.all() == 1 ? "prediction" : "predictions", counts_text(counts));
  }
  const judge::Judgement& judgement = contents.judgement();
  if (judgement.outcome == model::Outcome::kCompleted) return judged;
  std::string reason = judgement.outcome_reason;
  if (reason.empty()) return judged;
  if (reason.back() != '.') reason += '.';
  return reason + " " + judged;
}

std::string alarm(const judge::Judgement& judgement) {
  if (!judgement.reverts_verified) {
    return "A revert was not verified: a fault may still be active. Run `squall status`, then "
           "`squall cleanup`.";
  }
  if (!judgement.effect_proven && judgement.outcome == model::Outcome::kCompleted)
    return "A fault was never seen to touch its target: what held, held without it.";
  return {};
}

std::string seconds_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  if (std::fabs(seconds) < 120) {
    std::string text = fmt::format("{:.1f}", seconds);
    if (text.ends_with(".0")) text.resize(text.size() - 2);
    return (text == "-0" ? "0" : text) + "s";
  }
  if (std::fabs(seconds) >= 1e9) return fmt::format("{:.3g}s", seconds);
  const auto whole = static_cast<long long>(std::llround(std::fabs(seconds)));
  const char* sign = seconds < 0 ? "-" : "";
  if (whole < 7200) return fmt::format("{}{}min {}s", sign, whole / 60, whole % 60);
  return fmt::format("{}{}h {}min", sign, whole / 3600, whole % 3600 / 60);
}

std::string number_text(double value, base::Dimension dimension) {
  return base::humanize(base::Quantity{value, dimension});
}

std::string value_text(const judge::PredictionResult& result) {
  if (!result.observed) return "-";
  const std::string value = number_text(*result.observed, result.dimension);
  if (!result.interval_low || !result.interval_high) return value;
  return fmt::format("{} [{}, {}]", value, number_text(*result.interval_low, result.dimension),
                     number_text(*result.interval_high, result.dimension));
}

std::string threshold_text(const judge::PredictionResult& result) {
  if (!result.threshold) return {};
  const std::string low = number_text(*result.threshold, result.dimension);
  if (result.threshold_high)
    return fmt::format("between {} and {}", low,
                       number_text(*result.threshold_high, result.dimension));
  // The comparator stands in the text: the first one outside brackets, longest form first.
  int depth = 0;
  for (std::size_t i = 0; i < result.text.size(); ++i) {
    const char c = result.text[i];
    if (c == '(' || c == '[') ++depth;
    if (c == ')' || c == ']') --depth;
    if (depth != 0) continue;
    for (const std::string_view comparator : {"<=", ">=", "==", "!=", "<", ">"}) {
      if (std::string_view(result.text).substr(i).starts_with(comparator))
        return fmt::format("{} {}", comparator, low);
    }
  }
  return low;
}

bool goes_by(const judge::PredictionResult& result, std::string_view name) {
  if (result.name == name) return true;
  return result.steady_state && result.name == fmt::format("{} ({})", name, result.phase);
}

std::string phase_text(const judge::PredictionResult& result) {
  if (!result.steady_state) return result.phase;
  return result.phase.empty() ? "steady state" : "steady state, " + result.phase;
}

std::string phase_note(const judge::PredictionResult& result) {
  return result.steady_state && result.name.ends_with("(" + result.phase + ")")
             ? "steady state"
             : phase_text(result);
}

std::string shell_word(std::string_view word) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_-./:=@%+,").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace squall::report
