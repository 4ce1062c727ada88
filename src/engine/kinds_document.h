#pragma once
// Kinds described from their descriptors: for `squall kinds`, docs/faults.md and docs/probes.md.

#include <string>

#include "base/json.h"
#include "model/vocabulary.h"

namespace squall::engine {

std::string kind_as_text(const model::FaultKindDescriptor& kind);
std::string kind_as_text(const model::ProbeKindDescriptor& kind);
base::Json kind_as_json(const model::FaultKindDescriptor& kind);
base::Json kind_as_json(const model::ProbeKindDescriptor& kind);
std::string faults_document();  // Markdown
std::string probes_document();

}  // namespace squall::engine
