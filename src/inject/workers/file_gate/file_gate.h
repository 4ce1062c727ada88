#pragma once
// What the file gate is told: at which files it stands, whose accesses it holds, and which.

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "inject/workers/interception/interception.h"

namespace squall::inject {

// Before `processes` and all that descends from them.
struct FileGateConfiguration : InterceptionOrder {
  std::string path;  // a file, or a folder with what is in it
  bool tree = true;  // and in the folders in it
  bool opens = false;
  bool reads = false;
  bool writes = false;
  // Whose accesses alone are met; empty: everybody's. The holder says it, no binding does.
  std::vector<uid_t> users = {};
};

base::Json to_json(const FileGateConfiguration& configuration);

// Said to the worker with a process's identity: it is a target from then on, with its descendants.
inline constexpr std::string_view kJoinWord = "join ";

base::Result<FileGateConfiguration> file_gate_configuration_from_json(const base::Json& json);

// The folders at which marks are set for `path`: itself and, for a tree, all in it on the same
// filesystem. For a file: itself. kUnsupported when there are too many.
base::Result<std::vector<std::string>> marked_paths(const std::string& path, bool tree);

// Whether the kernel can hold these accesses to `path` and let them fail with `error` (0: they are
// only delayed). Tried at a mark that meets nobody.
base::Status check_gate(const FileGateConfiguration& configuration);

}  // namespace squall::inject
