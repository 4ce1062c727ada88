#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/scale.h"
#include "report/words.h"

namespace squall::report {
namespace {

constexpr double kWidth = 880;
constexpr double kHeight = 250;
constexpr double kLeft = 70;
constexpr double kRight = 14;
constexpr double kTop = 40;
constexpr double kBottom = 34;

std::string px(double value) {
  return fmt::format("{:.1f}", value);
}

struct Frame {
  Scale x;
  Scale y;
  double top = kTop;
  double bottom = kHeight - kBottom;
};

// The range of values to show: all points, and the threshold and interval beside them.
Scale value_scale(const Graph& graph, const judge::PredictionResult& result) {
  double low = INFINITY;
  double high = -INFINITY;
  const auto include = [&](std::optional<double> value) {
    if (!value || !std::isfinite(*value)) return;
    low = std::min(low, *value);
    high = std::max(high, *value);
  };
  for (const GraphPoint& point : graph.points)
    if (!std::isnan(point.value)) include(point.value);
  if (graph.comparable) {
    include(result.threshold);
    include(result.threshold_high);
    include(result.interval_low);
    include(result.interval_high);
  }
  const double bottom = kHeight - kBottom;
  if (!(low <= high)) return {0, 1, bottom, kTop};
  const bool is_duration = graph.dimension == base::Dimension::kDuration;
  if (is_duration && low > 0 && high / low > 50)
    return {low / 1.3, high * 1.3, bottom, kTop, /*logarithmic=*/true};
  if (graph.dimension == base::Dimension::kShare && high <= 1 && low >= 0) {
    const double room = std::max((1 - low) * 0.15, 0.0005);
    return {std::max(0.0, low - room), 1 + room * 0.3, bottom, kTop};
  }
  if (low > 0) low = 0;
  if (high < 0) high = 0;
  if (high == low) high = low + 1;
  const double room = (high - low) * 0.12;
  // Steps at zero need room below, so that they do not lie on the axis.
  return {low < 0 || graph.steps ? low - room / 2 : low, high + room, bottom, kTop};
}

void draw_line(Markup& out, double x1, double y1, double x2, double y2, std::string_view style) {
  out.empty("line",
            {{"class", style}, {"x1", px(x1)}, {"y1", px(y1)}, {"x2", px(x2)}, {"y2", px(y2)}});
}

void draw_text(Markup& out, double x, double y, std::string_view anchor, std::string_view style,
               std::string_view text) {
  out.element("text", text,
              {{"class", style}, {"x", px(x)}, {"y", px(y)}, {"text-anchor", anchor}});
}

void draw_stretch(Markup& out, const Frame& frame, double begin, double end,
                  std::string_view style) {
  const double left = frame.x.at(begin);
  const double width = std::max(frame.x.at(end) - left, 1.0);
  out.empty("rect", {{"class", style},
                     {"x", px(left)},
                     {"y", px(frame.top)},
                     {"width", px(width)},
                     {"height", px(frame.bottom - frame.top)}});
}

// Baseline, fault and recovery: the fault windows shaded, all named at the top.
void draw_phases(Markup& out, const Contents& contents, const Frame& frame) {
  const evidence::Timeline& timeline = contents.timeline();
  const auto name = [&](const std::optional<evidence::Window>& window, std::string_view text,
                        std::string_view style) {
    if (!window) return;
    const double left = frame.x.at(contents.offset_seconds(window->begin));
    const double right = frame.x.at(contents.offset_seconds(window->end));
    if (right - left < 30) return;  // no room for a word
    draw_text(out, (left + right) / 2, 14, "middle", style, text);
  };
  for (const evidence::FaultWindow& fault : timeline.faults) {
    const auto active = fault.active();
    if (!active) continue;
    const double begin = contents.offset_seconds(active->begin);
    const double end = contents.offset_seconds(active->end);
    draw_stretch(out, frame, begin, end, "fault");
    draw_line(out, frame.x.at(begin), frame.top, frame.x.at(begin), frame.bottom, "fault-edge");
    draw_line(out, frame.x.at(end), frame.top, frame.x.at(end), frame.bottom, "fault-edge");
  }
  name(timeline.baseline, "baseline", "phase");
  name(timeline.fault, timeline.faults.size() == 1 ? "fault: " + timeline.faults[0].name : "fault",
       "phase phase-fault");
  name(timeline.recovery, "recovery", "phase");
}

void draw_axes(Markup& out, const Frame& frame, base::Dimension dimension) {
  for (const Tick& tick : frame.y.ticks(dimension)) {
    const double y = frame.y.at(tick.value);
    draw_line(out, kLeft, y, kWidth - kRight, y, "grid");
    draw_text(out, kLeft - 7, y + 4, "end", "tick", tick.label);
  }
  for (const Tick& tick : frame.x.time_ticks()) {
    const double x = frame.x.at(tick.value);
    draw_line(out, x, frame.bottom, x, frame.bottom + 4, "axis");
    draw_text(out, x, frame.bottom + 20, "middle", "tick", tick.label);
  }
  draw_line(out, kLeft, frame.bottom, kWidth - kRight, frame.bottom, "axis");
  if (frame.y.logarithmic()) draw_text(out, 4, frame.bottom + 20, "start", "tick", "log scale");
}

void draw_series(Markup& out, const Frame& frame, const Graph& graph) {
  std::string path;
  bool pen_down = false;
  for (const GraphPoint& point : graph.points) {
    if (std::isnan(point.value)) {
      pen_down = false;
      continue;
    }
    const double y = frame.y.at(point.value);
    if (graph.steps) {
      path += fmt::format("{}{:.1f} {:.1f}H{:.1f}", pen_down ? "L" : "M", frame.x.at(point.begin),
                          y, frame.x.at(point.end));
    } else {
      path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M",
                          frame.x.at((point.begin + point.end) / 2), y);
      // A window alone between gaps would be invisible.
      if (!pen_down) path += "h0.1";
    }
    pen_down = true;
  }
  out.empty("path", {{"class", "series"}, {"d", path}});
}

// Invisible areas whose titles browsers show under the pointer: no script needed.
void draw_hints(Markup& out, const Frame& frame, const Graph& graph) {
  for (const GraphPoint& point : graph.points) {
    if (std::isnan(point.value)) continue;
    const double left = frame.x.at(point.begin);
    out.open("rect", {{"class", "hint"},
                      {"x", px(left)},
                      {"y", px(frame.top)},
                      {"width", px(std::max(frame.x.at(point.end) - left, 0.5))},
                      {"height", px(frame.bottom - frame.top)}});
    out.element("title",
                fmt::format("{} to {}: {}", seconds_text(point.begin), seconds_text(point.end),
                            number_text(point.value, graph.dimension)));
    out.close();
  }
}

void draw_threshold(Markup& out, const Frame& frame, const judge::PredictionResult& result) {
  for (const auto& threshold : {result.threshold, result.threshold_high}) {
    if (!threshold || !std::isfinite(*threshold)) continue;
    const double y = frame.y.at(*threshold);
    draw_line(out, kLeft, y, kWidth - kRight, y, "limit");
  }
  if (!result.threshold || !std::isfinite(*result.threshold)) return;
  const double y = frame.y.at(*result.threshold);
  // Below the line when there is no room above it.
  draw_text(out, kWidth - kRight - 4, y - 6 < frame.top + 8 ? y + 15 : y - 6, "end", "limit-label",
            "threshold " + threshold_text(result));
}

// What was judged: the stretch as a bar on the axis, the interval as a band over it.
void draw_judged(Markup& out, const Contents& contents, const Frame& frame, const Graph& graph,
                 const judge::PredictionResult& result) {
  const auto stretch = contents.stretch_of(result);
  if (!stretch) return;
  const double left = frame.x.at(contents.offset_seconds(stretch->begin));
  const double right = std::max(frame.x.at(contents.offset_seconds(stretch->end)), left + 1);
  out.open("rect", {{"class", "judged"},
                    {"x", px(left)},
                    {"y", px(frame.bottom + 3)},
                    {"width", px(right - left)},
                    {"height", "4"}});
  out.element("title", "judged from " + contents.offset(stretch->begin) + " to " +
                           contents.offset(stretch->end));
  out.close();
  if (!graph.comparable || !result.interval_low || !result.interval_high) return;
  const double high = frame.y.at(*result.interval_high);
  const double low = frame.y.at(*result.interval_low);
  out.open("rect", {{"class", "interval"},
                    {"x", px(left)},
                    {"y", px(high)},
                    {"width", px(right - left)},
                    {"height", px(std::max(low - high, 2.0))}});
  out.element("title", "observed over the judged stretch: " + value_text(result));
  out.close();
  if (result.observed) {
    const double y = frame.y.at(*result.observed);
    draw_line(out, left, y, right, y, "observed");
  }
}

void draw_moment(Markup& out, const Frame& frame, double seconds, double label_y,
                 std::string_view style, const std::string& label) {
  const double x = frame.x.at(seconds);
  draw_line(out, x, label_y + 3, x, frame.bottom, style);
  const bool at_right = x > kWidth * 0.7;
  draw_text(out, at_right ? x - 4 : x + 4, label_y + 12, at_right ? "end" : "start",
            std::string(style) + "-label", label);
}

std::string describe(const Contents& contents, const judge::PredictionResult& result,
                     const Graph& graph) {
  const GraphPoint* lowest = nullptr;
  const GraphPoint* highest = nullptr;
  for (const GraphPoint& point : graph.points) {
    if (std::isnan(point.value)) continue;
    if (lowest == nullptr || point.value < lowest->value) lowest = &point;
    if (highest == nullptr || point.value > highest->value) highest = &point;
  }
  std::string text =
      graph.what + ", from the start of the run to " + seconds_text(graph.end) + ". ";
  if (lowest != nullptr) {
    text += fmt::format("Lowest {} at {}, highest {} at {}. ",
                        number_text(lowest->value, graph.dimension), seconds_text(lowest->begin),
                        number_text(highest->value, graph.dimension), seconds_text(highest->begin));
  }
  if (const std::string limit = threshold_text(result); !limit.empty())
    text += "Threshold " + limit + ". ";
  for (const evidence::FaultWindow& fault : contents.timeline().faults) {
    if (const auto active = fault.active())
      text += fmt::format("Fault {} from {} to {}. ", fault.name, contents.offset(active->begin),
                          contents.offset(active->end));
  }
  if (result.first_violation)
    text += "First violated at " + contents.offset(*result.first_violation) + ". ";
  if (result.returned) text += "Back for good at " + contents.offset(*result.returned) + ".";
  return text;
}

}  // namespace

void draw_graph(Markup& out, const Contents& contents, const judge::PredictionResult& result,
                const Graph& graph, const std::string& id) {
  const Frame frame{.x = Scale(graph.begin, graph.end, kLeft, kWidth - kRight),
                    .y = value_scale(graph, result)};
  out.open("svg", {{"class", "graph"},
                   {"role", "img"},
                   {"viewBox", fmt::format("0 0 {:.0f} {:.0f}", kWidth, kHeight)},
                   {"aria-labelledby", id + "-title " + id + "-text"}});
  out.element("title", result.name + ": " + std::string(word(result.verdict)),
              {{"id", id + "-title"}});
  out.element("desc", describe(contents, result, graph), {{"id", id + "-text"}});
  draw_axes(out, frame, graph.dimension);
  draw_phases(out, contents, frame);
  draw_judged(out, contents, frame, graph, result);
  if (graph.comparable) draw_threshold(out, frame, result);
  draw_series(out, frame, graph);
  double label_y = 17;
  if (result.first_violation) {
    draw_moment(out, frame, contents.offset_seconds(*result.first_violation), label_y, "violation",
                "✘ first violated " + contents.offset(*result.first_violation));
  }
  if (result.first_violation && result.returned) {
    const double apart = frame.x.at(contents.offset_seconds(*result.returned)) -
                         frame.x.at(contents.offset_seconds(*result.first_violation));
    if (std::fabs(apart) < 170) label_y += 13;
    draw_moment(out, frame, contents.offset_seconds(*result.returned), label_y, "return",
                "✔ back " + contents.offset(*result.returned));
  }
  draw_hints(out, frame, graph);
  out.close();
}

namespace {

constexpr double kRow = 30;
constexpr double kNameColumn = 130;

void draw_bar(Markup& out, const Contents& contents, const Scale& x, double y, base::Instant begin,
              base::Instant end, std::string_view style, const std::string& label,
              const std::string& hint) {
  const double left = x.at(contents.offset_seconds(begin));
  const double width = std::max(x.at(contents.offset_seconds(end)) - left, 2.0);
  out.open("rect", {{"class", style},
                    {"x", px(left)},
                    {"y", px(y + 4)},
                    {"width", px(width)},
                    {"height", px(kRow - 8)}});
  out.element("title", hint);
  out.close();
  if (width > 7.0 * static_cast<double>(label.size()))
    draw_text(out, left + width / 2, y + kRow / 2 + 4, "middle", "bar-label", label);
}

void draw_phase_row(Markup& out, const Contents& contents, const Scale& x, double y) {
  const evidence::Timeline& timeline = contents.timeline();
  const auto bar = [&](const std::optional<evidence::Window>& window, const std::string& name,
                       std::string_view style) {
    if (!window) return;
    draw_bar(out, contents, x, y, window->begin, window->end, style, name,
             fmt::format("{}: {} to {}", name, contents.offset(window->begin),
                         contents.offset(window->end)));
  };
  bar(timeline.baseline, "baseline", "bar bar-phase");
  bar(timeline.fault, "fault", "bar bar-fault");
  bar(timeline.recovery, "recovery", "bar bar-phase");
}

void draw_fault_row(Markup& out, const Contents& contents, const Scale& x, double y,
                    const evidence::FaultWindow& fault) {
  const base::Instant end = fault.verified.value_or(fault.revert.value_or(fault.record_end));
  draw_bar(out, contents, x, y, fault.inject, std::max(end, fault.inject), "bar bar-span", "",
           fmt::format("{}: injected {}, {}", fault.name, contents.offset(fault.inject),
                       fault.verified ? "revert verified " + contents.offset(*fault.verified)
                                      : std::string("revert not verified")));
  if (const auto active = fault.active()) {
    draw_bar(out, contents, x, y, active->begin, active->end, "bar bar-fault", "effective",
             fmt::format("{}: effective from {} to {}", fault.name, contents.offset(active->begin),
                         contents.offset(active->end)));
  }
}

// Events that a reader of a timeline looks for; log lines and notes come as plain dots.
std::string_view event_style(std::string_view type) {
  if (type == "abort.breached" || type == "fault.failed" || type == "member.gone")
    return "dot dot-bad";
  if (type == "member.restarted" || type == "probe.stuck") return "dot dot-unsure";
  return "dot";
}

void draw_event_row(Markup& out, const Contents& contents, const Scale& x, double y) {
  constexpr std::size_t kDots = 500;
  std::size_t drawn = 0;
  for (const evidence::Event& event : contents.record().events()) {
    if (event.type.starts_with("phase.") || event.type.starts_with("run.") ||
        event.type == "check.finished")
      continue;
    if (++drawn > kDots) break;
    out.open("circle", {{"class", event_style(event.type)},
                        {"cx", px(x.at(contents.offset_seconds(event.at)))},
                        {"cy", px(y + kRow / 2)},
                        {"r", "4"}});
    out.element("title", contents.offset(event.at) + " " + event.type + " " + event.subject +
                             (event.text.empty() ? "" : ": " + event.text));
    out.close();
  }
}

}  // namespace

void draw_timeline(Markup& out, const Contents& contents, const std::string& id) {
  const evidence::Timeline& timeline = contents.timeline();
  const double length = contents.offset_seconds(timeline.end);
  if (!(length > 0) || length > 86400) return;
  const Scale x(0, length, kNameColumn, kWidth - kRight);
  const std::size_t faults = std::min<std::size_t>(timeline.faults.size(), 20);
  const double height = kRow * static_cast<double>(faults + 2) + 26;
  out.open("svg", {{"class", "graph"},
                   {"role", "img"},
                   {"viewBox", fmt::format("0 0 {:.0f} {:.0f}", kWidth, height)},
                   {"aria-labelledby", id + "-title " + id + "-text"}});
  out.element("title", "Timeline of the run", {{"id", id + "-title"}});
  out.element("desc", "Phases, faults and events over time; the table below says the same.",
              {{"id", id + "-text"}});
  double y = 0;
  const auto row = [&](std::string_view name) {
    draw_text(out, 2, y + kRow / 2 + 4, "start", "row-name", name);
    draw_line(out, kNameColumn, y + kRow, kWidth - kRight, y + kRow, "grid");
  };
  row("phases");
  draw_phase_row(out, contents, x, y);
  for (std::size_t i = 0; i < faults; ++i) {
    y += kRow;
    row(timeline.faults[i].name.substr(0, 18));
    draw_fault_row(out, contents, x, y, timeline.faults[i]);
  }
  y += kRow;
  row("events");
  draw_event_row(out, contents, x, y);
  y += kRow;
  for (const Tick& tick : x.time_ticks()) {
    draw_line(out, x.at(tick.value), y, x.at(tick.value), y + 4, "axis");
    draw_text(out, x.at(tick.value), y + 17, "middle", "tick", tick.label);
  }
  out.close();
}

}  // namespace squall::report
