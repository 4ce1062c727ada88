#pragma once
// The sections of the HTML report, each a landmark or a part of one. Internal.

#include "report/contents.h"
#include "report/markup.h"

namespace squall::report {

void add_predictions(Markup& out, const Contents& contents);  // table, then one card each
void add_timeline(Markup& out, const Contents& contents);     // graph and table of events
void add_plan(Markup& out, const Contents& contents);
void add_binding(Markup& out, const Contents& contents);
void add_proofs(Markup& out, const Contents& contents);
void add_checks(Markup& out, const Contents& contents);
void add_environment(Markup& out, const Contents& contents);  // host, health of the load
void add_notes(Markup& out, const Contents& contents);        // notes and damage
void add_reproduction(Markup& out, const Contents& contents);

// ---- Building blocks
// ------------------------------------------------------------------------------

void add_heading(Markup& out, std::string_view id, std::string_view text);
void add_badge(Markup& out, model::Verdict verdict);
// One pair of a <dl class="facts">; nothing when the value is empty.
void add_fact(Markup& out, std::string_view name, std::string_view value);
void add_table_head(Markup& out, std::initializer_list<std::string_view> columns);
// A list of texts as <ul>; a single one as it is.
void add_texts(Markup& out, const std::vector<std::string>& texts);
// Any JSON as nested definition lists.
void add_json(Markup& out, const base::Json& json);

}  // namespace squall::report
