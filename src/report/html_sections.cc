#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "report/chart.h"
#include "report/html_parts.h"
#include "report/words.h"

namespace squall::report {
namespace {

constexpr std::size_t kEventRows = 1000;
constexpr std::size_t kEventsShownOpen = 40;
constexpr std::size_t kFileLimit = 64 * 1024;

void open_section(Markup& out, std::string_view id, std::string_view heading) {
  out.open("section", {{"aria-labelledby", id}});
  add_heading(out, id, heading);
}

void open_table(Markup& out, std::initializer_list<std::string_view> columns) {
  // Reachable by keyboard, because it scrolls on narrow screens.
  out.open("div", {{"class", "card scroll"}, {"tabindex", "0"}});
  out.open("table");
  add_table_head(out, columns);
  out.open("tbody");
}

void close_table(Markup& out) {
  out.close();
  out.close();
  out.close();
  out.line_break();
}

std::string_view words_of(model::LifetimeClass lifetime) {
  switch (lifetime) {
    case model::LifetimeClass::kKernelHeld:
      return "kernel-held: the kernel ends it";
    case model::LifetimeClass::kJournaled:
      return "journaled: the warden's replay ends it";
    case model::LifetimeClass::kOneWay:
      return "one-way: nothing undoes it";
  }
  return "";
}

void add_changes(Markup& out, const model::PlannedFault& fault) {
  for (const model::PlannedChange& change : fault.changes) {
    out.open("tr");
    out.element("th", fault.name, {{"scope", "row"}});
    out.element("td", change.change);
    out.element("td", change.revert);
    out.element("td", words_of(change.lifetime));
    out.close();
  }
}

void add_planned_faults(Markup& out, const model::Plan& plan) {
  open_table(out, {"Fault", "Kind", "Target", "When", "Touches at most"});
  for (const model::PlannedFault& fault : plan.faults) {
    out.open("tr");
    out.element("th", fault.name, {{"scope", "row"}});
    out.open("td");
    out.element("code", fault.kind);
    out.close();
    out.element("td", fault.target);
    out.element("td", fmt::format("at {} for {}", base::format_duration(fault.at),
                                  base::format_duration(fault.duration)));
    std::string touches = base::enumerate(fault.services);
    if (fault.processes_max > 0)
      touches += fmt::format("{}{} {}", touches.empty() ? "" : ", ", fault.processes_max,
                             fault.processes_max == 1 ? "process" : "processes");
    if (fault.overlap) touches += touches.empty() ? "overlap allowed" : "; overlap allowed";
    out.element("td", touches);
    out.close();
  }
  close_table(out);
  open_table(out, {"Fault", "Change", "Revert", "Lifetime"});
  for (const model::PlannedFault& fault : plan.faults) add_changes(out, fault);
  close_table(out);
}

void add_decidability(Markup& out, const model::Plan& plan) {
  const bool any = std::any_of(plan.decidability.begin(), plan.decidability.end(),
                               [](const auto& each) { return !each.message.empty(); });
  if (!any) return;
  out.open("details");
  out.element("summary", "Could the planned traffic decide?");
  open_table(out, {"Prediction", "Decidable", "Why"});
  for (const model::Decidability& each : plan.decidability) {
    out.open("tr");
    out.element("th", each.prediction, {{"scope", "row"}});
    out.element("td", each.decidable ? "yes" : "no");
    out.element("td", each.message.empty() ? each.method : each.message);
    out.close();
  }
  close_table(out);
  out.close();
}

}  // namespace

void add_heading(Markup& out, std::string_view id, std::string_view text) {
  out.element("h2", text, {{"id", id}});
}

void add_badge(Markup& out, model::Verdict verdict) {
  out.element("span", std::string(glyph(verdict)) + " " + std::string(word(verdict)),
              {{"class", "badge " + std::string(class_name(tone_of(verdict)))}});
}

void add_fact(Markup& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out.open("div");
  out.element("dt", name);
  out.element("dd", value);
  out.close();
}

void add_table_head(Markup& out, std::initializer_list<std::string_view> columns) {
  out.open("thead");
  out.open("tr");
  for (const std::string_view column : columns) out.element("th", column, {{"scope", "col"}});
  out.close();
  out.close();
}

void add_texts(Markup& out, const std::vector<std::string>& texts) {
  if (texts.size() == 1) {
    out.text(texts[0]);
    return;
  }
  out.open("ul");
  for (const std::string& text : texts) out.element("li", text);
  out.close();
}

namespace {

void add_json_at(Markup& out, const base::Json& json, int depth) {
  if (depth > 16) {
    out.text("…");
  } else if (json.is_object() && !json.empty()) {
    out.open("dl", {{"class", "tree"}});
    for (const auto& [key, value] : json.items()) {
      out.element("dt", key);
      out.open("dd");
      add_json_at(out, value, depth + 1);
      out.close();
    }
    out.close();
  } else if (json.is_array() && !json.empty()) {
    out.open("ul", {{"class", "tree"}});
    for (const base::Json& value : json) {
      out.open("li");
      add_json_at(out, value, depth + 1);
      out.close();
    }
    out.close();
  } else if (json.is_string()) {
    out.text(json.get_ref<const std::string&>());
  } else if (json.is_boolean()) {
    out.text(json.get<bool>() ? "yes" : "no");
  } else if (json.is_null() || json.is_structured()) {
    out.text("–");
  } else {
    out.text(json.dump());
  }
}

}  // namespace

void add_json(Markup& out, const base::Json& json) {
  add_json_at(out, json, 0);
}

void add_timeline(Markup& out, const Contents& contents) {
  const auto& events = contents.record().events();
  if (events.empty()) return;
  open_section(out, "timeline", "What happened");
  out.open("div", {{"class", "card scroll"},
                   {"tabindex", "0"},
                   {"role", "region"},
                   {"aria-label", "Timeline"}});
  draw_timeline(out, contents, "timeline-graph");
  out.close();
  const bool folded = events.size() > kEventsShownOpen;
  if (folded) {
    out.open("details");
    out.element("summary", fmt::format("{} events", base::humanize_count(events.size())));
  }
  open_table(out, {"When", "Event", "Of", "What"});
  for (std::size_t i = 0; i < std::min(events.size(), kEventRows); ++i) {
    out.open("tr");
    // Finer than elsewhere: the steps of a fault are milliseconds apart.
    out.element("td", fmt::format("{:.3f}s", contents.offset_seconds(events[i].at)),
                {{"class", "number"}});
    out.open("td");
    out.element("code", events[i].type);
    out.close();
    out.element("td", events[i].subject);
    out.element("td", events[i].text);
    out.close();
  }
  close_table(out);
  if (events.size() > kEventRows)
    out.element("p",
                fmt::format("The first {} are shown; `squall show --json` has all.", kEventRows));
  if (folded) out.close();
  out.close();
}

void add_plan(Markup& out, const Contents& contents) {
  const model::Plan* plan = contents.plan();
  if (plan == nullptr) return;
  open_section(out, "plan", "Plan");
  if (!plan->faults.empty()) add_planned_faults(out, *plan);
  out.open("div", {{"class", "card"}});
  out.open("dl", {{"class", "facts"}});
  add_fact(out, "Blast radius", base::enumerate(plan->blast_radius.services));
  add_fact(out, "Longest", base::format_duration(plan->blast_radius.duration));
  add_fact(out, "Baseline", base::format_duration(plan->phases.baseline));
  add_fact(out, "Recovery, at most", base::format_duration(plan->phases.recovery));
  add_fact(out, "Weakest lifetime", words_of(plan->lifetime));
  add_fact(out, "Seed", std::to_string(plan->seed));
  add_fact(out, "Plan hash", contents.header().plan_hash.substr(0, 16));
  out.close();
  if (!plan->abort_when.empty()) {
    out.element("h3", "Aborts when");
    out.open("ul");
    for (const std::string& rule : plan->abort_when) {
      out.open("li");
      out.element("code", rule);
      out.close();
    }
    out.close();
  }
  if (!plan->warnings.empty()) {
    out.element("h3", "Advice");
    out.open("ul");
    for (const std::string& warning : plan->warnings) out.element("li", warning);
    out.close();
  }
  add_decidability(out, *plan);
  out.close();
  out.close();
}

void add_binding(Markup& out, const Contents& contents) {
  const model::Binding* binding = contents.binding();
  if (binding == nullptr || binding->faults.empty()) return;
  open_section(out, "binding", "Binding: what exactly was touched");
  open_table(out, {"Fault", "Target", "Mechanism", "Lifetime"});
  for (const model::FaultBinding& fault : binding->faults) {
    out.open("tr");
    out.element("th", fault.fault, {{"scope", "row"}});
    out.open("td");
    std::vector<std::string> targets;
    for (const model::BoundTarget& target : fault.targets) {
      std::string text = target.description;
      if (!target.service.empty()) text = target.service + ": " + text;
      targets.push_back(std::move(text));
    }
    add_texts(out, targets);
    out.close();
    out.element("td", fault.mechanism);
    out.element("td", words_of(fault.lifetime));
    out.close();
  }
  close_table(out);
  out.close();
}

void add_proofs(Markup& out, const Contents& contents) {
  const base::Json proofs = document_of(contents.record(), "proofs");
  if (proofs.is_null()) return;
  open_section(out, "proofs", "Proofs of effect and revert");
  out.open("div", {{"class", "card"}});
  add_json(out, proofs);
  out.close();
  out.close();
}

void add_checks(Markup& out, const Contents& contents) {
  if (contents.checks().empty()) return;
  open_section(out, "preflight", "Preflight checks");
  open_table(out, {"Result", "Check", "Reason", "Remedy"});
  for (const CheckResult& check : contents.checks()) {
    const bool pass = check.result == "pass";
    const bool block = check.result == "block";
    out.open("tr");
    out.open("td");
    out.element("span",
                pass    ? "✔ pass"
                : block ? "✘ block"
                        : "? cannot tell",
                {{"class", pass    ? "badge good"
                           : block ? "badge bad"
                                   : "badge unsure"}});
    out.close();
    out.element("th", check.name, {{"scope", "row"}});
    out.element("td", check.reason);
    out.element("td", check.remedy);
    out.close();
  }
  close_table(out);
  out.close();
}

namespace {

void add_load_health(Markup& out, const Contents& contents) {
  const auto& all = contents.record().series();
  const bool any = std::any_of(all.begin(), all.end(), [](const evidence::Series& series) {
    return !series.buckets.empty();
  });
  if (!any) return;
  out.element("h3", "Health of the load");
  open_table(out, {"Series", "Requests", "Not sent", "Lag p50", "Lag p99", "Lag max"});
  for (const evidence::Series& series : all) {
    if (series.buckets.empty()) continue;
    std::uint64_t requests = 0;
    std::uint64_t dropped = 0;
    evidence::Histogram lag;
    for (const evidence::RequestBucket& bucket : series.buckets) {
      requests += bucket.count();
      dropped += bucket.dropped;
      lag.merge(bucket.lag);
    }
    out.open("tr");
    out.element("th", series.declaration.name, {{"scope", "row"}});
    out.element("td", base::humanize_count(requests), {{"class", "number"}});
    out.element("td", base::humanize_count(dropped), {{"class", "number"}});
    for (const double q : {0.5, 0.99, 1.0})
      out.element("td", base::humanize(lag.quantile(q)), {{"class", "number"}});
    out.close();
  }
  close_table(out);
}

void add_file(Markup& out, std::string_view what, const std::string& text) {
  if (text.empty()) return;
  out.open("details");
  out.element("summary", what);
  out.open("pre", {{"tabindex", "0"}});
  out.element("code", std::string_view(text).substr(0, kFileLimit));
  out.close();
  out.close();
}

}  // namespace

void add_environment(Markup& out, const Contents& contents) {
  open_section(out, "environment", "Environment");
  const base::Json host = document_of(contents.record(), "environment");
  const model::Binding* binding = contents.binding();
  out.open("div", {{"class", "card"}});
  out.open("dl", {{"class", "facts"}});
  if (binding != nullptr) {
    add_fact(out, "Host", binding->hostname);
    add_fact(out, "Kernel", binding->kernel);
  }
  add_fact(out, "Squall", contents.header().squall_version);
  out.close();
  if (!host.is_null()) add_json(out, host);
  out.close();
  add_load_health(out, contents);
  out.close();
}

void add_notes(Markup& out, const Contents& contents) {
  const auto& notes = contents.judgement().notes;
  const auto& damage = contents.record().damage();
  if (notes.empty() && damage.empty() && contents.record().finished()) return;
  open_section(out, "notes", "Notes");
  out.open("div", {{"class", "card"}});
  out.open("ul");
  if (!contents.record().finished())
    out.element("li", "The record was never finished: the run ended before its end was written.");
  for (const std::string& note : notes) out.element("li", note);
  for (const std::string& finding : damage) out.element("li", "Damage to the record: " + finding);
  out.close();
  out.close();
  out.close();
}

void add_reproduction(Markup& out, const Contents& contents) {
  open_section(out, "again", "Run it again");
  out.open("div", {{"class", "card"}});
  out.open("pre", {{"tabindex", "0"}});
  out.element("code", contents.reproduce_command());
  out.close();
  const model::Plan* plan = contents.plan();
  if (plan != nullptr && plan->seed != 0) {
    out.open("p");
    out.text("For the same random choices, put ");
    out.element("code", "seed: " + std::to_string(plan->seed));
    out.text(" into the experiment.");
    out.close();
  }
  if (!contents.short_id().empty()) {
    out.open("p");
    out.text("This report again: ");
    out.element("code", "squall report " + contents.short_id());
    out.close();
  }
  add_file(out, "The experiment as it was run", contents.header().experiment_text);
  add_file(out, "The system map as it was", contents.header().system_map_text);
  out.close();
  out.close();
}

}  // namespace squall::report
