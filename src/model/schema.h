#pragma once
#include "base/json.h"
#include "model/vocabulary.h"

namespace squall::model {

// JSON Schema (draft-07) of the two files; parameters come from the same descriptors as in the
// parser. Every file that the parser accepts is accepted, and every structural mistake (unknown
// key, wrong type, missing key, wrong choice or unit) is refused; what needs the meaning of names
// is left to the parser. Shipped as schema/squall.schema.json and schema/experiment.schema.json.
base::Json system_map_schema(const Vocabulary& vocabulary);
base::Json experiment_schema(const Vocabulary& vocabulary);

}  // namespace squall::model
