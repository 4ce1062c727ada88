#include "cli/context.h"

#include <fmt/format.h>

#include <filesystem>

namespace squall::cli {

base::Result<std::string> map_path(const Arguments& arguments, const std::string& near) {
  if (const auto named = arguments.option("--map")) return *named;
  std::error_code ignored;
  if (!near.empty() && !std::filesystem::exists(near, ignored)) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = fmt::format("there is no file {}", near),
                       .hint = "check the path of the experiment"};
  }
  return engine::find_map(near.empty() ? "." : near);
}

base::Result<engine::LoadedMap> load_map(const Arguments& arguments, const std::string& near) {
  SQUALL_ASSIGN(const std::string path, map_path(arguments, near));
  return engine::load_map(path, arguments.option_or("--env", ""));
}

base::Result<engine::Workspace> open_workspace(const Arguments& arguments) {
  SQUALL_ASSIGN(const std::string path, map_path(arguments));
  std::error_code ignored;
  return engine::Workspace(std::filesystem::absolute(path, ignored).parent_path().string());
}

base::Result<std::unique_ptr<engine::ArchivedRun>> open_run(const Arguments& arguments,
                                                            const std::string& id) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(id, ignored)) return engine::open_archived(id);
  SQUALL_ASSIGN(const engine::Workspace workspace, open_workspace(arguments));
  SQUALL_ASSIGN(const store::Store store, workspace.open_store());
  SQUALL_ASSIGN(const store::RunRow row, store.find(id.empty() ? "last" : id));
  return engine::open_archived(row.record_path);
}

}  // namespace squall::cli
