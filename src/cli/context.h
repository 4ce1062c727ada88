#pragma once
// What most commands start with: the system map that is meant, and runs named by id.

#include <memory>
#include <string>

#include "cli/command.h"
#include "engine/archive.h"
#include "engine/workspace.h"

namespace squall::cli {

// Options that name the map: put them into a command's table.
inline constexpr Option kMapOption{"--map", "FILE",
                                   "System map (default: squall.yaml here or in a folder above)"};
inline constexpr Option kEnvironmentOption{"--env", "NAME",
                                           "Environment of the map (default: production)"};
inline constexpr Positional kRunPositional{
    "RUN", "Run id, part of it, a record file, or `last` (default)", /*required=*/false};
inline constexpr Option kJsonOption{"--json", {}, "Print JSON"};

// --map, else the map near `near` (an experiment, or empty: the current folder).
base::Result<std::string> map_path(const Arguments& arguments, const std::string& near = {});
base::Result<engine::LoadedMap> load_map(const Arguments& arguments, const std::string& near = {});

// The workspace of the map, without parsing the map: commands about past runs need only the folder.
base::Result<engine::Workspace> open_workspace(const Arguments& arguments);

// A run by id, unique part of an id, "last", or the path of a record file.
base::Result<std::unique_ptr<engine::ArchivedRun>> open_run(const Arguments& arguments,
                                                            const std::string& id);

}  // namespace squall::cli
