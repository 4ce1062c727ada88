#include <fmt/format.h>

#include "report/contents.h"
#include "report/html_parts.h"
#include "report/html_style.h"
#include "report/markup.h"
#include "report/report.h"
#include "report/words.h"

namespace squall::report {
namespace {

std::string_view run_glyph(Tone tone) {
  switch (tone) {
    case Tone::kGood:
      return "✔";
    case Tone::kBad:
      return "✘";
    case Tone::kUnsure:
      return "?";
    case Tone::kPlain:
      return "–";
  }
  return "";
}

void add_head(Markup& out, const Contents& contents) {
  out.constant("<!doctype html>\n");
  out.open("html", {{"lang", "en"}});
  out.open("head");
  out.empty("meta", {{"charset", "utf-8"}});
  // Nothing may be loaded or run, whatever a record tries to say.
  out.empty("meta", {{"http-equiv", "Content-Security-Policy"},
                     {"content",
                      "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
                      "form-action 'none'"}});
  out.empty("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
  out.empty("meta", {{"name", "color-scheme"}, {"content", "light dark"}});
  out.element("title", contents.experiment_name() + ": " + banner(contents.judgement()));
  out.open("style");
  out.constant(kStyleSheet);
  out.close();
  out.close();
  out.line_break();
}

void add_facts(Markup& out, const Contents& contents) {
  const judge::Judgement& judgement = contents.judgement();
  out.open("dl", {{"class", "facts"}});
  add_fact(out, "Run", contents.header().run.text());
  add_fact(out, "Environment", contents.header().environment);
  add_fact(out, "Started", contents.started());
  add_fact(out, "Took", seconds_text(base::to_seconds(contents.length())));
  add_fact(out, "Outcome", model::to_string(judgement.outcome));
  add_fact(out, "Exit status", std::to_string(judge::exit_status_of(judgement)));
  if (judgement.time_to_impact)
    add_fact(out, "Time to impact", seconds_text(base::to_seconds(*judgement.time_to_impact)));
  if (judgement.time_to_recover)
    add_fact(out, "Time to recover", seconds_text(base::to_seconds(*judgement.time_to_recover)));
  add_fact(out, "Reverts",
           judgement.reverts_verified ? "all verified" : "not verified: see the warning");
  out.close();
}

void add_header(Markup& out, const Contents& contents) {
  const judge::Judgement& judgement = contents.judgement();
  const Tone tone = tone_of_run(judgement);
  out.open("header");
  out.element("p", "Squall: report of a run", {{"class", "kicker"}});
  out.element("h1", contents.experiment_name());
  if (!contents.scenario().empty()) out.element("p", contents.scenario(), {{"class", "lead"}});
  out.open("div", {{"class", "verdict " + std::string(class_name(tone))}});
  out.element("strong", std::string(run_glyph(tone)) + " " + banner(judgement));
  out.element("span", headline(contents));
  out.close();
  if (const std::string warning = alarm(judgement); !warning.empty())
    out.element("p", "⚠ " + warning, {{"class", "alarm"}, {"role", "alert"}});
  add_facts(out, contents);
  out.close();
  out.line_break();
}

void add_footer(Markup& out, const Contents& contents) {
  out.open("footer");
  std::string text = "Made by Squall";
  if (!contents.header().squall_version.empty()) text += " " + contents.header().squall_version;
  text += " from the record of the run. Times count from the start of the run.";
  out.element("p", text);
  out.close();
}

}  // namespace

std::string render_html(const RunView& view) {
  const Contents contents(view);
  Markup out;
  add_head(out, contents);
  out.open("body");
  out.element("a", "Skip to the predictions", {{"class", "skip"}, {"href", "#predictions"}});
  add_header(out, contents);
  out.open("main");
  add_predictions(out, contents);
  add_timeline(out, contents);
  add_plan(out, contents);
  add_binding(out, contents);
  add_proofs(out, contents);
  add_checks(out, contents);
  add_environment(out, contents);
  add_notes(out, contents);
  add_reproduction(out, contents);
  out.close();
  add_footer(out, contents);
  out.close();
  out.close();
  out.line_break();
  return std::move(out).take();
}

}  // namespace squall::report
