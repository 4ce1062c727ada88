#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "inject/json_fields.h"
#include "inject/workers/file_gate/file_gate.h"
#include "inject/workers/file_gate/permission_group.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr std::size_t kMostFolders = 10'000;

base::Error senseless() {
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = "the file gate's configuration makes no sense"};
}

}  // namespace

Json to_json(const FileGateConfiguration& configuration) {
  Json json = order_to_json(configuration);
  json.update({{"path", configuration.path},
               {"tree", configuration.tree},
               {"opens", configuration.opens},
               {"reads", configuration.reads},
               {"writes", configuration.writes}});
  return json;
}

base::Result<FileGateConfiguration> file_gate_configuration_from_json(const Json& json) {
  FileGateConfiguration result;
  SQUALL_ASSIGN(static_cast<InterceptionOrder&>(result), order_from_json(json, "the file gate"));
  result.path = text_field(json, "path");
  result.tree = boolean_field(json, "tree");
  result.opens = boolean_field(json, "opens");
  result.reads = boolean_field(json, "reads");
  result.writes = boolean_field(json, "writes");
  for (const Json& user : field(json, "users")) {
    if (!user.is_number_unsigned()) return senseless();
    result.users.push_back(user.get<uid_t>());
  }
  if (!result.path.starts_with('/') || !(result.opens || result.reads || result.writes))
    return senseless();
  return result;
}

base::Result<std::vector<std::string>> marked_paths(const std::string& path, bool tree) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return base::system_error("look at " + path, errno);
  std::vector<std::string> paths{path};
  if (!S_ISDIR(info.st_mode) || !tree) return paths;
  for (std::size_t i = 0; i < paths.size(); ++i) {  // grows while we walk
    const std::string folder = paths[i];
    DIR* handle = ::opendir(folder.c_str());
    if (handle == nullptr) continue;  // gone, or not to be read by us
    while (const dirent* item = ::readdir(handle)) {
      if (std::strcmp(item->d_name, ".") == 0 || std::strcmp(item->d_name, "..") == 0) continue;
      const std::string inner = folder + (folder == "/" ? "" : "/") + item->d_name;
      struct stat found {};
      if (::lstat(inner.c_str(), &found) == 0 && S_ISDIR(found.st_mode) &&
          found.st_dev == info.st_dev)
        paths.push_back(inner);
    }
    ::closedir(handle);
    if (paths.size() <= kMostFolders) continue;
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} holds more than {} folders", path, kMostFolders),
                       .hint = "name a smaller part of it, or say `tree: false`"};
  }
  return paths;
}

base::Status check_gate(const FileGateConfiguration& configuration) {
  SQUALL_ASSIGN(const PermissionGroup group, PermissionGroup::open());
  const int error = configuration.interception.error;
  if (error != 0 && !can_fail_with(error)) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("this kernel cannot let an access to a file fail with {}: it knows "
                               "EPERM only",
                               ::strerrorname_np(error)),
        .hint = "say `error: EPERM`, or use Linux 6.13 or newer"};
  }
  struct stat info {};
  if (::stat(configuration.path.c_str(), &info) != 0)
    return base::system_error("look at " + configuration.path, errno);
  // Without FAN_EVENT_ON_CHILD a folder's mark meets nobody.
  std::string probed = configuration.path;
  if (!S_ISDIR(info.st_mode)) probed = std::filesystem::path(probed).parent_path().string();
  if (configuration.opens) SQUALL_TRY(group.mark(probed, kOpenEvent, true));
  if (configuration.reads) SQUALL_TRY(group.mark(probed, kReadEvent, true));
  if (configuration.writes) SQUALL_TRY(group.mark(probed, kAnyAccessEvent, true));
  return {};
}

}  // namespace squall::inject
