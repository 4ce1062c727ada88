#include "inject/freezer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.h"
#include "base/text.h"

namespace squall::inject {

namespace {

std::string thaw_file(const Freezer& freezer) {
  return freezer.folder + (freezer.v2 ? "/cgroup.freeze" : "/freezer.state");
}

std::string_view thaw_word(const Freezer& freezer) {
  return freezer.v2 ? "0" : "THAWED";
}

}  // namespace

base::Result<Freezer> freezer_of(pid_t pid) {
  // v2 has no controller of this name: what is found is v1's.
  auto group = controller_group_of(pid, "freezer", "freezer");
  if (group.ok()) return Freezer{.folder = group->folder, .v2 = false};
  SQUALL_ASSIGN(const std::string mount, v2_mount());
  SQUALL_ASSIGN(const std::string path, v2_group_of(pid));
  return Freezer{.folder = mount + path, .v2 = true};
}

base::Result<FreezeState> read_freezer(const Freezer& freezer) {
  if (!freezer.v2) {
    SQUALL_ASSIGN(const std::string state,
                  base::read_pseudo_file(freezer.folder + "/freezer.state"));
    const std::string_view word = base::trim(state);
    return FreezeState{.asked = word != "THAWED", .frozen = word == "FROZEN"};
  }
  SQUALL_ASSIGN(const std::string asked, base::read_pseudo_file(freezer.folder + "/cgroup.freeze"));
  SQUALL_ASSIGN(const std::string events,
                base::read_pseudo_file(freezer.folder + "/cgroup.events"));
  return FreezeState{.asked = base::trim(asked) == "1",
                     .frozen = events.find("frozen 1") != std::string::npos};
}

base::Status thaw(const Freezer& freezer) {
  const std::string path = thaw_file(freezer);
  const base::UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file) return base::system_error("open " + path, errno);
  const std::string_view word = thaw_word(freezer);
  if (::write(file.get(), word.data(), word.size()) < 0)
    return base::system_error(fmt::format("write {} to {}", word, path), errno);
  return {};
}

std::string thaw_by_hand(const Freezer& freezer) {
  return fmt::format("echo {} > {}", thaw_word(freezer), thaw_file(freezer));
}

std::string freeze_by_hand(const Freezer& freezer) {
  return fmt::format("echo {} > {}", freezer.v2 ? "1" : "FROZEN", thaw_file(freezer));
}

}  // namespace squall::inject
