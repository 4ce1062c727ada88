#pragma once
#include "base/json.h"
#include "model/vocabulary.h"

namespace squall::model {

// JSON Schema (draft-07) of the two files, generated from the same tables as the parser. Shipped as
// schema/squall.schema.json and schema/experiment.schema.json; a test compares.
base::Json system_map_schema(const Vocabulary& vocabulary);
base::Json experiment_schema(const Vocabulary& vocabulary);

}  // namespace squall::model
