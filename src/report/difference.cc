#include "report/difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/text.h"
#include "report/contents.h"
#include "report/json_parts.h"
#include "report/paint.h"

namespace squall::report {
namespace {

using judge::PredictionResult;

RunDifference::Side side_of(const Contents& contents) {
  const judge::Judgement& judgement = contents.judgement();
  return {.run = contents.header().run.text(),
          .short_id = contents.short_id(),
          .experiment = contents.experiment_name(),
          .started = contents.started(),
          .plan_hash = contents.header().plan_hash,
          .verdict = judgement.verdict,
          .outcome = judgement.outcome,
          .time_to_impact = judgement.time_to_impact,
          .time_to_recover = judgement.time_to_recover};
}

const PredictionResult* find(const judge::Judgement& judgement, const PredictionResult& like) {
  for (const PredictionResult& result : judgement.predictions) {
    if (result.name == like.name && result.steady_state == like.steady_state &&
        (!result.steady_state || result.phase == like.phase))
      return &result;
  }
  return nullptr;
}

Change change_of(model::Verdict then, model::Verdict now) {
  if (then == now) return Change::kSame;
  if (then == model::Verdict::kViolated && now == model::Verdict::kHeld) return Change::kFixed;
  if (then == model::Verdict::kHeld && now == model::Verdict::kViolated) return Change::kDiscovered;
  return Change::kOther;
}

Tone tone_of(Change change) {
  switch (change) {
    case Change::kFixed:
      return Tone::kGood;
    case Change::kDiscovered:
      return Tone::kBad;
    case Change::kOther:
    case Change::kAdded:
    case Change::kRemoved:
      return Tone::kUnsure;
    case Change::kSame:
      break;
  }
  return Tone::kPlain;
}

std::string side_text(const Paint& paint, const std::optional<PredictionResult>& result) {
  if (!result) return "not asked";
  return paint.toned(std::string(glyph(result->verdict, paint.unicode())) + " " +
                         std::string(word(result->verdict)),
                     report::tone_of(result->verdict)) +
         " " + paint.clean(value_text(*result));
}

std::string times_line(const char* what, const std::optional<base::Duration>& then,
                       const std::optional<base::Duration>& now, std::string_view arrow) {
  if (!then && !now) return {};
  const auto text = [](const std::optional<base::Duration>& time) {
    return time ? seconds_text(base::to_seconds(*time)) : std::string("-");
  };
  return fmt::format("{}: {} {} {}\n", what, text(then), arrow, text(now));
}

base::Json side_json(const RunDifference::Side& side) {
  return {{"run", side.run},
          {"short_id", side.short_id},
          {"experiment", base::valid_utf8(side.experiment)},
          {"started", side.started},
          {"plan_hash", base::valid_utf8(side.plan_hash)},
          {"verdict", model::to_string(side.verdict)},
          {"outcome", model::to_string(side.outcome)},
          {"time_to_impact_s", optional_seconds(side.time_to_impact)},
          {"time_to_recover_s", optional_seconds(side.time_to_recover)}};
}

base::Json result_json(const std::optional<PredictionResult>& result) {
  if (!result) return nullptr;
  base::Json interval;
  if (result->interval_low && result->interval_high) {
    interval = base::Json::array(
        {optional_number(result->interval_low), optional_number(result->interval_high)});
  }
  return {{"verdict", model::to_string(result->verdict)},
          {"observed", optional_number(result->observed)},
          {"interval", std::move(interval)},
          {"text", base::valid_utf8(result->text)}};
}

}  // namespace

std::string_view to_string(Change change) {
  switch (change) {
    case Change::kSame:
      return "same";
    case Change::kFixed:
      return "fixed";
    case Change::kDiscovered:
      return "discovered";
    case Change::kOther:
      return "changed";
    case Change::kAdded:
      return "added";
    case Change::kRemoved:
      return "removed";
  }
  base::check_failed("change is known", __FILE__, __LINE__);
}

int RunDifference::count(Change change) const {
  return static_cast<int>(
      std::count_if(predictions.begin(), predictions.end(),
                    [&](const PredictionDifference& each) { return each.change == change; }));
}

RunDifference compare(const RunView& then, const RunView& now) {
  RunDifference difference;
  difference.then = side_of(Contents(then));
  difference.now = side_of(Contents(now));
  for (const PredictionResult& result : now.judgement.predictions) {
    PredictionDifference each;
    each.name = result.name;
    each.phase = phase_text(result);
    each.now = result;
    each.change = Change::kAdded;
    if (const PredictionResult* earlier = find(then.judgement, result)) {
      each.then = *earlier;
      each.change = change_of(earlier->verdict, result.verdict);
      each.text_changed = earlier->text != result.text;
    }
    difference.predictions.push_back(std::move(each));
  }
  for (const PredictionResult& result : then.judgement.predictions) {
    if (find(now.judgement, result) != nullptr) continue;
    PredictionDifference each;
    each.name = result.name;
    each.phase = phase_text(result);
    each.then = result;
    each.change = Change::kRemoved;
    difference.predictions.push_back(std::move(each));
  }
  return difference;
}

std::string render_difference_terminal(const RunDifference& difference,
                                       const TerminalOptions& options) {
  const Paint paint(options);
  const std::string_view arrow = paint.unicode() ? "→" : "->";
  const auto side = [&](const RunDifference::Side& s) {
    const auto outcome =
        s.outcome == model::Outcome::kCompleted ? word(s.verdict) : model::to_string(s.outcome);
    return fmt::format("{} {} ({})", paint.clean(s.short_id), outcome, paint.clean(s.started));
  };
  std::string out = paint.bold(paint.clean(difference.now.experiment)) + "\n";
  if (difference.then.experiment != difference.now.experiment) {
    out +=
        paint.wrapped("The earlier run is of another experiment: " + difference.then.experiment, 0);
  } else if (difference.then.plan_hash != difference.now.plan_hash) {
    out += paint.wrapped("The plan changed between the runs.", 0);
  }
  out += side(difference.then) + " " + std::string(arrow) + " " + side(difference.now) + "\n\n";
  int name_column = 0;
  for (const PredictionDifference& each : difference.predictions)
    name_column = std::max(name_column, columns(paint.clean(each.name)));
  name_column = std::min(name_column, 40);
  for (const PredictionDifference& each : difference.predictions) {
    out += paint.toned(padded(to_string(each.change), 12), tone_of(each.change)) +
           paint.bold(padded(paint.clean(each.name), name_column)) + "  " +
           side_text(paint, each.then) + " " + std::string(arrow) + " " +
           side_text(paint, each.now) + "\n";
    if (each.text_changed) {
      out += paint.wrapped("the prediction was " + each.then->text + ", now " + each.now->text, 12);
    }
  }
  out += fmt::format("\n{} fixed, {} discovered, {} the same\n", difference.count(Change::kFixed),
                     difference.count(Change::kDiscovered), difference.count(Change::kSame));
  out += times_line("Time to impact", difference.then.time_to_impact, difference.now.time_to_impact,
                    arrow);
  out += times_line("Time to recover", difference.then.time_to_recover,
                    difference.now.time_to_recover, arrow);
  return out;
}

base::Json render_difference_json(const RunDifference& difference) {
  base::Json predictions = base::Json::array();
  for (const PredictionDifference& each : difference.predictions) {
    predictions.push_back({{"name", base::valid_utf8(each.name)},
                           {"phase", base::valid_utf8(each.phase)},
                           {"change", to_string(each.change)},
                           {"text_changed", each.text_changed},
                           {"then", result_json(each.then)},
                           {"now", result_json(each.now)}});
  }
  return {{"then", side_json(difference.then)},
          {"now", side_json(difference.now)},
          {"fixed", difference.count(Change::kFixed)},
          {"discovered", difference.count(Change::kDiscovered)},
          {"predictions", std::move(predictions)}};
}

}  // namespace squall::report
