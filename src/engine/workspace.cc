#include "engine/workspace.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/files.h"
#include "inject/client.h"
#include "observe/probe.h"

namespace squall::engine {

namespace {

// What a person writes by hand is far smaller; anything larger is a mistake or an attack.
constexpr std::size_t kFileLimit = 1u << 20;

base::Result<std::string> read_user_file(const std::string& path) {
  auto text = base::read_file(path, kFileLimit);
  if (text.ok()) return text;
  base::Error error = std::move(text).error();
  if (error.code == base::ErrorCode::kExhausted) {
    error.code = base::ErrorCode::kBadFile;
    error.message =
        fmt::format("{} is larger than 1 MiB, the limit for a map or an experiment", path);
    error.hint = "check that this is the file you meant";
  } else if (error.code == base::ErrorCode::kNotFound) {
    error.code = base::ErrorCode::kBadFile;
    error.hint = "check the path; `squall init` writes a first system map";
  }
  return error;
}

std::vector<model::Diagnostic> warnings_of(const model::Diagnostics& diagnostics) {
  std::vector<model::Diagnostic> warnings;
  for (const model::Diagnostic& each : diagnostics.all()) {
    if (each.severity == model::Severity::kWarning) warnings.push_back(each);
  }
  return warnings;
}

}  // namespace

const model::Vocabulary& vocabulary() {
  static const model::Vocabulary all{inject::fault_kinds(), observe::probe_kinds()};
  return all;
}

base::Result<std::string> find_map(const std::string& near) {
  std::error_code ignored;
  std::filesystem::path folder = std::filesystem::absolute(near, ignored).lexically_normal();
  if (!std::filesystem::is_directory(folder, ignored)) folder = folder.parent_path();
  for (std::filesystem::path at = folder; !at.empty(); at = at.parent_path()) {
    if (std::filesystem::exists(at / "squall.yaml", ignored)) return (at / "squall.yaml").string();
    if (at == at.parent_path()) break;
  }
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("no squall.yaml in {} or above it", folder.string()),
                     .hint = "write a first map with `squall init`, or name one with --map FILE",
                     .context = {}};
}

base::Result<LoadedMap> load_map(const std::string& path, const std::string& environment) {
  std::error_code ignored;
  LoadedMap loaded;
  loaded.path = std::filesystem::absolute(path, ignored).lexically_normal().string();
  SQUALL_ASSIGN(loaded.text, read_user_file(path));
  model::Diagnostics diagnostics;
  diagnostics.set_source(loaded.path, loaded.text);
  loaded.map =
      model::parse_system_map(loaded.text, loaded.path, environment, vocabulary(), diagnostics);
  if (diagnostics.has_errors()) return diagnostics.to_error();
  loaded.warnings = warnings_of(diagnostics);
  return loaded;
}

base::Result<LoadedExperiment> load_experiment(const std::string& path,
                                               const model::SystemMap& map) {
  std::error_code ignored;
  LoadedExperiment loaded;
  loaded.path = std::filesystem::absolute(path, ignored).lexically_normal().string();
  SQUALL_ASSIGN(loaded.text, read_user_file(path));
  model::Diagnostics diagnostics;
  diagnostics.set_source(loaded.path, loaded.text);
  loaded.experiment =
      model::parse_experiment(loaded.text, loaded.path, map, vocabulary(), diagnostics);
  if (diagnostics.has_errors()) return diagnostics.to_error();
  loaded.warnings = warnings_of(diagnostics);
  return loaded;
}

Workspace::Workspace(std::string map_directory)
    : directory_(base::join_path(map_directory, ".squall")) {}

base::Status Workspace::create() const {
  return base::make_directories(runs_directory());
}

std::string Workspace::runs_directory() const {
  return base::join_path(directory_, "runs");
}

std::string Workspace::record_path(std::string_view run) const {
  return base::join_path(runs_directory(), fmt::format("{}.record", run));
}

base::Result<store::Store> Workspace::open_store() const {
  SQUALL_TRY(create());
  return store::Store::open(base::join_path(directory_, "index.db"));
}

}  // namespace squall::engine
