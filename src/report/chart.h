#pragma once
// Graphs and the timeline of events as SVG, with titles and descriptions for those who do not see
// them. Colours come from the style sheet of the page. Internal.

#include "report/graph.h"
#include "report/markup.h"

namespace squall::report {

// `id` is unique in the page.
void draw_graph(Markup& out, const Contents& contents, const judge::PredictionResult& result,
                const Graph& graph, const std::string& id);
void draw_timeline(Markup& out, const Contents& contents, const std::string& id);

}  // namespace squall::report
