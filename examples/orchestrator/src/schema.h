#pragma once

namespace orchestrator {

// Tables and views, made by the scheduler when it starts. Making them again changes nothing.
extern const char* const kSchema;

}  // namespace orchestrator
